"""Text in columns, and lines that are not too long."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.console import Line, Style

WIDTH = 100
"""Columns."""
GAP = "  "

Row = tuple[Style, tuple[str, ...]]


def table(rows: Sequence[Row]) -> list[Line]:
    """Return rows as aligned lines; while they are too wide, the widest column is cut."""
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + len(GAP) * (len(widths) - 1) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    return [
        Line(
            GAP.join(
                cut(cell, width).ljust(width) for cell, width in zip(cells, widths, strict=True)
            ).rstrip(),
            style,
        )
        for style, cells in rows
    ]


def after_gap(shown: list[Line]) -> list[Line]:
    """Return the lines after an empty one; nothing for none."""
    return [Line(), *shown] if shown else []


def wrapped(parts: Sequence[str]) -> list[str]:
    """Return parts separated by commas, on as many lines as they need."""
    found = [parts[0]]
    for part in parts[1:]:
        if len(found[-1]) + len(part) + 2 <= WIDTH:
            found[-1] += f", {part}"
        else:
            found.append(part)
    return [cut(text) for text in found]


def cut(text: str, width: int = WIDTH) -> str:
    """Return `text` in at most `width` columns."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
