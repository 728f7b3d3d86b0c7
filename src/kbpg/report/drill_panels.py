"""The panels of a drill's chart: areas for what was acknowledged, bars for failures, a line for the time taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from kbpg.report.drill_series import Bin
from kbpg.report.pages import seconds

HEADROOM = 22
"""Above the highest throughput of the main panel: the place of the outage's length."""
FASTEST = 1.0
"""Milliseconds at the foot of the time panel."""


@dataclass(frozen=True)
class Shape:
    """A path and what it is."""

    path: str
    kind: str


@dataclass(frozen=True)
class Text:
    """Words at a place; each may have a class of its own."""

    x: float
    y: float
    words: str | list[tuple[str, str]]
    kind: str

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Return the words with their classes."""
        return [(self.words, "")] if isinstance(self.words, str) else self.words


@dataclass(frozen=True)
class Axis:
    """Seconds from `begin` to `end`, drawn from `left` to `right`."""

    begin: float
    end: float
    left: float
    right: float

    def x(self, at: float) -> float:
        """Return where a moment is drawn; what lies outside is drawn at the edge."""
        share = (at - self.begin) / (self.end - self.begin)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)


@dataclass
class Panel:
    """A part of the chart: its place, and what is drawn there."""

    axis: Axis
    top: float
    height: float
    shapes: list[Shape] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    @property
    def bottom(self) -> float:
        """Return the height of its foot."""
        return self.top + self.height


def nice(value: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, … (or 0.1, …) that is not below a value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def operations(panel: Panel, found: Sequence[Bin], main: bool, gutter: bool) -> None:
    """Draw operations per second as an area, failures as bars from the foot, and the scale."""
    most = max(each.rate for each in found)
    height = panel.height - (HEADROOM if main else 2)

    def y(rate: float) -> float:
        return panel.bottom - (height * rate / most if most else 0)

    top = _outline(panel.axis, found, lambda each: y(each.rate))
    left, right = panel.axis.x(found[0].begin), panel.axis.x(found[-1].end)
    panel.shapes.append(Shape(f"{top}L{right:.1f} {panel.bottom:g}H{left:.1f}z", "area"))
    panel.shapes.append(Shape(top, "edge"))
    panel.shapes.append(Shape(f"M{panel.axis.left:g} {panel.bottom:g}H{panel.axis.right:g}", "foot"))
    _failures(panel, found, 26 if main else 9)
    if not most:
        panel.texts.append(Text(panel.axis.left + 4, panel.bottom - 7, "none acknowledged", "quiet"))
    usual = sorted(each.rate for each in found)[int(len(found) * 0.75)]
    if main and usual >= 1:
        mark = nice(usual / 2)
        panel.shapes.append(Shape(f"M{panel.axis.left:g} {y(mark):.1f}H{panel.axis.right:g}", "grid"))
        _scale(panel, y(mark), f"{mark:,.0f} per s", gutter)


def _failures(panel: Panel, found: Sequence[Bin], most: float) -> None:
    """Draw a bar for every bin with failures; its area grows slower than their number, so that one is seen."""
    worst = max(each.failed for each in found)
    path = ""
    for each in found:
        if each.failed > 0:
            tall = max(6.0, most * math.sqrt(each.failed / worst))
            path += f"M{panel.axis.x((each.begin + each.end) / 2):.1f} {panel.bottom:g}v{-tall:.1f}"
    if path:
        panel.shapes.append(Shape(path, "failed"))


def latency(panel: Panel, found: Sequence[Bin], gutter: bool) -> None:
    """Draw how long a write took, each step of the scale ten times the one below it."""
    slowest = max((each.worst or each.median or 0.0 for each in found), default=0.0)
    if not slowest:
        panel.texts.append(Text(panel.axis.left + 4, panel.bottom - 7, "not measured", "quiet"))
        return
    decades = max(2, math.ceil(math.log10(max(slowest, 100.0) / FASTEST) - 1e-9))

    def y(milliseconds: float) -> float:
        return panel.bottom - panel.height * math.log10(max(milliseconds, FASTEST) / FASTEST) / decades

    axis = panel.axis
    for power, text in ((1, "10 ms"), (3, "1 s"), (5, "100 s")):
        if power <= decades:
            at = y(FASTEST * 10**power)
            panel.shapes.append(Shape(f"M{axis.left:g} {at:.1f}H{axis.right:g}", "grid"))
            if gutter or power < decades or decades < 4:
                _scale(panel, at, text, gutter)
    panel.shapes.append(Shape(f"M{axis.left:g} {panel.bottom:g}H{axis.right:g}", "foot"))
    reach = [
        f"M{axis.x((each.begin + each.end) / 2):.1f} {y(each.median):.1f}V{y(each.worst):.1f}"
        for each in found
        if each.median is not None and each.worst is not None
    ]
    panel.shapes.append(Shape("".join(reach), "reach"))
    peak = max(found, key=lambda each: each.worst or each.median or 0.0)
    panel.shapes.append(Shape(f"M{axis.x((peak.begin + peak.end) / 2):.1f} {y(slowest):.1f}h0", "slowest"))
    panel.shapes.append(Shape(_medians(axis, found, y), "median"))


def _medians(axis: Axis, found: Sequence[Bin], y: Callable[[float], float]) -> str:
    """Return the line through all medians, broken where there is none."""
    known: list[list[Bin]] = [[]]
    for each in found:
        if each.median is not None:
            known[-1].append(each)
        elif known[-1]:
            known.append([])
    return "".join(_outline(axis, group, lambda each: y(each.median or 0.0)) for group in known if group)


def pace(found: Sequence[Bin]) -> list[tuple[str, str]]:
    """Return in words how long a write took: usually, and at most."""
    medians = [each.median for each in found if each.median is not None]
    slowest = max((each.worst for each in found if each.worst is not None), default=None)
    said = [] if not medians else [(f"usually {seconds(median(medians) / 1000)}", "quiet")]
    return said if slowest is None else [*said, (f"slowest {seconds(slowest / 1000)}", "quiet")]


def _outline(axis: Axis, found: Sequence[Bin], y: Callable[[Bin], float]) -> str:
    """Return steps through the bins, each as wide as its time."""
    steps = "".join(f"V{y(each):.1f}H{axis.x(each.end):.1f}" for each in found)
    return f"M{axis.x(found[0].begin):.1f} {y(found[0]):.1f}{steps}"


def _scale(panel: Panel, y: float, text: str, gutter: bool) -> None:
    """Write a value of the scale beside its line: left of the panel, or on it."""
    if gutter:
        panel.texts.append(Text(panel.axis.left - 5, y + 4, text, "tick end"))
    else:
        # On the highest line there is no place above, and below it is the next line's
        below = y < panel.top + 10
        panel.texts.append(Text(panel.axis.right - 2, y + (10 if below else -2), text, "tick end halo"))
