"""What the clients of a drill saw over time: bins as the document has them, coarser ones, and the longest gap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from statistics import median
from typing import Any

Span = tuple[float, float]


@dataclass(frozen=True)
class Bin:
    """A piece of time, from `begin` to `end` in seconds: operations, and how many milliseconds they took."""

    begin: float
    end: float
    acknowledged: int
    failed: int
    median: float | None
    worst: float | None

    @property
    def rate(self) -> float:
        """Return the acknowledged operations per second."""
        return self.acknowledged / (self.end - self.begin)


def bins(series: dict[str, Any] | None, name: str) -> tuple[Bin, ...]:
    """Return one path's bins: `pooled`, `direct` or `reads`; none where the document has none."""
    found = (series or {}).get(name)
    if not series or not found or not series["bin"] or series["bin"] <= 0:
        return ()
    keys = ("acknowledged", "failed", "latency_ms", "worst_ms")
    rows = zip_longest(*(found.get(key) or () for key in keys))
    begin, width = float(series["begin"] or 0.0), float(series["bin"])
    return tuple(
        Bin(begin + index * width, begin + (index + 1) * width, count or 0, failed or 0, middle, worst)
        for index, (count, failed, middle, worst) in enumerate(rows)
    )


def coarser(fine: Sequence[Bin], most: int) -> tuple[Bin, ...]:
    """Return at most so many bins; each holds as many of the fine ones, the last perhaps fewer."""
    step = max(1, -(-len(fine) // max(1, most)))
    return tuple(_merged(fine[at : at + step]) for at in range(0, len(fine), step))


def _merged(group: Sequence[Bin]) -> Bin:
    middles = _known(each.median for each in group)
    return Bin(
        group[0].begin,
        group[-1].end,
        sum(each.acknowledged for each in group),
        sum(each.failed for each in group),
        median(middles) if middles else None,
        max(_known(each.worst for each in group), default=None),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def longest_gap(fine: Sequence[Bin], since: float) -> Span | None:
    """Return the longest time after `since` without anything acknowledged; None where all bins have something."""
    later = (each for each in fine if each.end > since)
    runs = (list(run) for silent, run in groupby(later, lambda each: each.acknowledged == 0) if silent)
    return max(((run[0].begin, run[-1].end) for run in runs), key=lambda gap: gap[1] - gap[0], default=None)


def outage(fine: Sequence[Bin], since: float, waited: float | None) -> Span | None:
    """Return when nobody's writes were acknowledged, as long as the longest wait of one client was.

    None where that wait is not what all clients saw: others had writes acknowledged meanwhile. Bins only show it to
    their width, so the wait's own length is used around the gap's middle.
    """
    gap = longest_gap(fine, since)
    if gap is None or not any(each.acknowledged for each in fine):
        return None
    begin, end = max(gap[0], since), gap[1]
    if waited is None:
        return (begin, end) if end >= fine[-1].end else None
    if abs(waited - (gap[1] - gap[0])) > max(2.5 * (fine[0].end - fine[0].begin), 0.1 * waited):
        return None
    if end >= fine[-1].end:
        return begin, end
    middle = (gap[0] + gap[1]) / 2
    return middle - waited / 2, middle + waited / 2
