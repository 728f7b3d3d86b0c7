"""Where the labels of a chart's vertical lines go: in rows above it, none over another, no line through one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER = 6.9
"""Width of a character at the labels' size, in the SVG's units; of a wide font, so that others fit as well."""
SPACE = 4
"""Between a line and its label."""
ROWS = 6
"""Above a chart, at most."""
MOST = 7
"""Labels of a chart, unless told otherwise; what is beyond has its line only."""
PATIENCE = 1_500
"""Places tried before a label is given up."""


@dataclass(frozen=True)
class Mark:
    """A line at `x` with its label; those of a low rank are the last to lose it."""

    x: float
    text: str
    kind: str
    rank: int = 0


@dataclass(frozen=True)
class Label:
    """A mark with its label's row, 0 at the top, and on which side of the line it stands: 1 is right, -1 left."""

    mark: Mark
    row: int
    side: int

    @property
    def span(self) -> tuple[float, float]:
        """Return where the text begins and ends."""
        width = len(self.mark.text) * CHARACTER + SPACE
        return (self.mark.x, self.mark.x + width) if self.side > 0 else (self.mark.x - width, self.mark.x)


def place(marks: Sequence[Mark], left: float, right: float, most: int = MOST) -> tuple[Label, ...]:
    """Return labels in as few rows as they need between `left` and `right`, in the order of the lines."""
    kept = sorted(marks, key=lambda mark: mark.rank)[:most]
    while kept:
        ordered = sorted(kept, key=lambda mark: mark.x)
        for rows in range(1, ROWS + 1):
            found = _search(ordered, (), rows, (left, right), iter(range(PATIENCE)))
            if found is not None:
                return found
        kept.pop()
    return ()


def _search(
    marks: Sequence[Mark],
    taken: tuple[Label, ...],
    rows: int,
    edges: tuple[float, float],
    tries: Iterator[int],
) -> tuple[Label, ...] | None:
    if not marks:
        return taken
    for row in range(rows):
        for side in (1, -1):
            label = Label(marks[0], row, side)
            inside = edges[0] <= label.span[0] and label.span[1] <= edges[1]
            if next(tries, None) is None or not inside or any(_clash(label, other) for other in taken):
                continue
            found = _search(marks[1:], (*taken, label), rows, edges, tries)
            if found is not None:
                return found
    return None


def _clash(one: Label, other: Label) -> bool:
    (low, high), (begin, end) = one.span, other.span
    if one.row == other.row:
        return low < end + SPACE and begin < high + SPACE
    upper, (begin, end) = (one, other.span) if one.row < other.row else (other, one.span)
    return begin < upper.mark.x < end
