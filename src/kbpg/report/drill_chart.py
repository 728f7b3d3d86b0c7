"""A drill as a drawing: what its clients got done, second by second, and what happened meanwhile.

From top to bottom: labels of the events, writes through PgBouncer with the outage, when writes were predicted to be
back, the time a write took, direct writes, reads, and one axis in seconds since the fault for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from kbpg.report.drill_labels import Label, Mark, place
from kbpg.report.drill_panels import Axis, Panel, Shape, Text, latency, nice, operations, pace
from kbpg.report.drill_series import Bin, Span, bins, coarser, outage
from kbpg.report.drill_words import errors, headline, moment, since_fault, wait, waited

ROW, GAP, LINE = 15, 8, 13
"""Heights of a row of labels, between two panels, and of a line of text."""
MAIN, LATENCY, STRIP = 92, 42, 24
"""Heights of the panels."""
RIGHT = 6
WORDS = {
    "fault": ("fault", 0),
    "recovered": ("writes again", 1),
    "redundant": ("redundant", 2),
    "promoted": ("new leader", 3),
    "mended": ("mended", 4),
    "detected": ("noticed", 5),
}
"""What an event is called on the chart, and its rank: the higher, the sooner it goes without a label."""
PATHS = (
    ("pooled", "Writes, pooled"),
    ("direct", "Writes, direct"),
    ("reads", "Reads"),
)


@dataclass(frozen=True)
class Frame:
    """How wide a chart is, and where its panels are named: in a gutter left of them, or above each."""

    name: str
    width: float
    gutter: float

    @property
    def head(self) -> float:
        """Return the height above each panel that its name needs."""
        return 0 if self.gutter else LINE + 3


WIDE, TALL = Frame("wide", 900, 170), Frame("tall", 336, 0)


@dataclass
class Chart:
    """Everything of one SVG, from back to front."""

    name: str
    width: float
    height: float
    title: str
    description: str
    shapes: list[Shape] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def charts(drill: dict[str, Any]) -> tuple[Chart, Chart]:
    """Return the drill's chart for a wide screen and for a narrow one."""
    return chart(drill, WIDE), chart(drill, TALL)


def chart(drill: dict[str, Any], frame: Frame) -> Chart:
    """Return the drill's chart."""
    found = {name: bins(drill["series"], name) for name, _ in PATHS}
    axis = Axis(*_extent(drill, found), frame.gutter + 4 if frame.gutter else 1, frame.width - RIGHT)
    zero = drill["fault_at"] or 0.0
    labels = place(_marks(drill, axis), axis.left, frame.width)
    drawn = Chart(frame.name, frame.width, 0, headline(drill), describe(drill))
    top = 4 + ROW * (1 + max((label.row for label in labels), default=-1)) + 2
    plots, bottom = _panels(drill, frame, axis, found, top)
    for panel in plots:
        drawn.shapes += panel.shapes
        drawn.texts += panel.texts
    _events(drawn, drill, axis, labels, bottom)
    _ticks(drawn, axis, zero, top, bottom)
    drawn.height = bottom + 18
    return drawn


def _extent(drill: dict[str, Any], found: dict[str, tuple[Bin, ...]]) -> Span:
    """Return the first and the last second of the chart."""
    edges = [0.0, *(event["at"] for event in drill["events"])]
    measured = [edge for each in found.values() if each for edge in (each[0].begin, each[-1].end)]
    edges += measured or [drill["seconds"] or 0.0]
    return (min(edges), max(edges)) if max(edges) > min(edges) else (0.0, 1.0)


def _panels(
    drill: dict[str, Any], frame: Frame, axis: Axis, found: dict[str, tuple[Bin, ...]], top: float
) -> tuple[list[Panel], float]:
    """Return the panels from the top down, and where the last one ends."""
    drawn: list[Panel] = []
    most = int(axis.right - axis.left) // 2
    heights = [("pooled", MAIN), ("predicted", 12), ("latency", LATENCY), ("direct", STRIP), ("reads", STRIP)]
    for name, height in heights:
        if name == "predicted" and not _has_expectation(drill):
            continue
        top += frame.head
        panel = Panel(axis, top, height)
        drawn.append(panel)
        if name == "predicted":
            _expectation(panel, drill, frame)
        elif name == "latency":
            _named(panel, frame, "Time per write", pace(found["pooled"]))
            latency(panel, coarser(found["pooled"], most), bool(frame.gutter))
        else:
            _path(panel, drill, frame, name, found[name], most)
        top += height + GAP
    return drawn, top - GAP


def _path(
    panel: Panel, drill: dict[str, Any], frame: Frame, name: str, fine: tuple[Bin, ...], most: int
) -> None:
    """Draw what one path got done: its operations per second, failures, and the outage if it is the main one."""
    figures = drill["figures"][name]
    broke = figures["errors"]
    about = [
        (f"{'longest wait' if name == 'pooled' else 'waited'} {wait(figures['rto'])}", "quiet"),
        (errors(broke), "bad" if broke else "quiet"),
    ]
    main = name == "pooled"
    _named(panel, frame, dict(PATHS)[name], about, aside=not main)
    if not fine:
        panel.texts.append(Text(panel.axis.left + 4, panel.bottom - 7, "not measured", "quiet"))
        return
    if main:
        _outage(panel, drill, fine)
    operations(panel, coarser(fine, most), main, bool(frame.gutter))


def _named(panel: Panel, frame: Frame, name: str, about: list[tuple[str, str]], aside: bool = False) -> None:
    """Write a panel's name, and what there is to say of it: in the gutter, or in one line above the panel."""
    if frame.gutter:
        panel.texts.append(Text(0, panel.top + 10, name, "name"))
        lines = [[words] for words in about] if not aside else [about]
        for index, words in enumerate(lines):
            panel.texts.append(Text(0, panel.top + 10 + LINE * (index + 1), words, "small"))
    else:
        panel.texts.append(Text(panel.axis.left, panel.top - 4, name, "name"))
        panel.texts.append(Text(panel.axis.right, panel.top - 4, about, "small end"))


def _outage(panel: Panel, drill: dict[str, Any], fine: tuple[Bin, ...]) -> None:
    """Shade the time without a write, and write its length on it, or beside it where it is too short for that."""
    figures, axis = drill["figures"]["pooled"], panel.axis
    longest = figures["rto"]
    since = drill["fault_at"] or fine[0].begin
    span = outage(fine, since, longest)
    everybody = span is not None
    if figures.get("rto_at") is not None and longest is not None:
        span = figures["rto_at"], figures["rto_at"] + longest
    text = waited(longest, everybody, cut=span is not None and span[1] >= fine[-1].end)
    begin, end = (axis.x(at) for at in span or (since, since))
    if span:
        panel.shapes.append(
            Shape(f"M{begin:.1f} {panel.top:g}H{end:.1f}V{panel.bottom:g}H{begin:.1f}z", "away")
        )
    width = len(text) * 7.6
    middle = min(max((begin + end) / 2, axis.left), axis.right)
    y = panel.top + 16
    if end - begin > width + 8:
        panel.texts.append(Text(middle, y, text, "outage middle"))
    elif end + width + 6 < axis.right:
        panel.texts.append(Text(end + 6, y, text, "outage"))
    else:
        panel.texts.append(Text(max(begin - 6, axis.left + width), y, text, "outage end"))


def _has_expectation(drill: dict[str, Any]) -> bool:
    predicted, goal = drill["predicted"] or {}, drill["goal"] or {}
    return predicted.get("high") is not None or goal.get("rto") is not None


def _expectation(panel: Panel, drill: dict[str, Any], frame: Frame) -> None:
    """Draw when writes were predicted to be back and when they had to be."""
    axis, zero = panel.axis, drill["fault_at"] or 0.0
    predicted, goal = drill["predicted"] or {}, drill["goal"] or {}
    low, high, limit = predicted.get("low"), predicted.get("high"), goal.get("rto")
    words, starts, ends = [], [], []
    middle = panel.top + 6
    if high is not None:
        begin, end = axis.x(zero + (low or 0.0)), axis.x(zero + high)
        panel.shapes.append(Shape(f"M{begin:.1f} {middle - 3:g}H{end:.1f}v6H{begin:.1f}z", "predicted"))
        words.append(f"predicted {low or 0:g}–{high:g} s")
        starts.append(begin)
        ends.append(end)
    if limit is not None:
        at = axis.x(zero + limit)
        panel.shapes.append(Shape(f"M{at:.1f} {panel.top:g}v12", "goal"))
        words.append(f"goal {limit:g} s")
        starts.append(at)
        ends.append(at)
    text, width = ", ".join(words), len(", ".join(words)) * 6.4
    _named(panel, frame, "Writes were due", [] if frame.gutter else [(text, "")])
    if not frame.gutter:
        return
    if max(ends) + width + 8 < axis.right:
        panel.texts.append(Text(max(ends) + 8, panel.top + 10, text, "small note"))
    else:
        x = min(starts) - 8 if min(starts) - 8 - width > axis.left else axis.right
        panel.texts.append(Text(x, panel.top + 10, text, "small note end"))


def _marks(drill: dict[str, Any], axis: Axis) -> list[Mark]:
    marks = []
    for event in drill["events"]:
        word, rank = WORDS.get(event["kind"], (event["kind"][:16], len(WORDS)))
        at = "" if event["kind"] == "fault" else f" {moment(drill, event['at'])}"
        marks.append(Mark(axis.x(event["at"]), f"{word}{at}", event["kind"], rank))
    return marks


def _events(
    drawn: Chart, drill: dict[str, Any], axis: Axis, labels: tuple[Label, ...], bottom: float
) -> None:
    """Draw a line through all panels for every event, from its label down."""
    tops = {label.mark: 4 + ROW * label.row for label in labels}
    for mark in _marks(drill, axis):
        kind = mark.kind if mark.kind in WORDS else "other"
        top = tops.get(mark, 4 + ROW * (1 + max((label.row for label in labels), default=-1)))
        drawn.shapes.append(Shape(f"M{mark.x:.1f} {top:g}V{bottom:g}", f"event {kind}"))
    for label in labels:
        kind = label.mark.kind if label.mark.kind in WORDS else "other"
        end = " end" if label.side < 0 else ""
        x = label.mark.x + 4 * label.side
        drawn.texts.append(Text(x, 4 + ROW * label.row + 11, label.mark.text, f"label {kind}{end}"))


def _ticks(drawn: Chart, axis: Axis, zero: float, top: float, bottom: float) -> None:
    """Write the axis: seconds since the fault."""
    step = nice((axis.end - axis.begin) / max(2, (axis.right - axis.left) / 70))
    first = math.ceil((axis.begin - zero) / step)
    last = math.floor((axis.end - zero) / step)
    drawn.shapes.append(Shape(f"M{axis.left:g} {bottom:g}H{axis.right:g}", "axis"))
    for index in range(first, last + 1):
        x = axis.x(zero + index * step)
        place_of = " end" if x > axis.right - 12 else " middle" if x > axis.left + 12 else ""
        drawn.shapes.append(Shape(f"M{x:.1f} {bottom:g}v4", "axis"))
        drawn.texts.append(Text(x, bottom + 15, since_fault(index * step), f"tick{place_of}"))


def describe(drill: dict[str, Any]) -> str:
    """Return the chart in words, for whoever does not see it."""
    parts = []
    for name, title in PATHS:
        figures = drill["figures"][name]
        parts.append(f"{title}: longest wait {wait(figures['rto'])}, {errors(figures['errors'])}.")
    parts += [
        f"{moment(drill, event['at'])} {WORDS.get(event['kind'], (event['kind'],))[0]}: {event['text']}."
        for event in drill["events"]
    ]
    return " ".join(parts)
