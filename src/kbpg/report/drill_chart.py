"""A drill as a drawing: what its clients got done, second by second, and what happened meanwhile.

From top to bottom: labels of the events, writes through PgBouncer with the outage, when writes were predicted to be
back, the time a write took, direct writes, reads, and one axis in seconds since the fault for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from kbpg.report.drill_labels import Label, Mark, place
from kbpg.report.drill_outage import draw_outage, due, is_due
from kbpg.report.drill_panels import Axis, Panel, Shape, Text, latency, nice, operations, pace
from kbpg.report.drill_series import Bin, Span, bins, coarser
from kbpg.report.drill_words import WORDS, errors, happened, headline, tick, wait

ROW, GAP, LINE = 15, 8, 13
"""Heights of a row of labels, between two panels, and of a line of text."""
MAIN, LATENCY, STRIP = 92, 42, 24
"""Heights of the panels."""
FIRST, RIGHT = 4, 6
"""Above the first row of labels, and right of the panels."""
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


def charts(drill: dict[str, Any]) -> tuple[Chart, ...]:
    """Return the drill's chart for a wide screen and for a narrow one; none if there is nothing to draw."""
    if not drill["events"] and not any(bins(drill["series"], name) for name, _ in PATHS):
        return ()
    return chart(drill, WIDE), chart(drill, TALL)


def chart(drill: dict[str, Any], frame: Frame) -> Chart:
    """Return the drill's chart."""
    found = {name: bins(drill["series"], name) for name, _ in PATHS}
    axis = Axis(*_extent(drill, found), frame.gutter + 4 if frame.gutter else 1, frame.width - RIGHT)
    labels = _labels(drill, axis, frame.width)
    drawn = Chart(frame.name, frame.width, 0, headline(drill), describe(drill))
    top = FIRST + ROW * (1 + max((label.row for label in labels), default=-1)) + 2
    plots, bottom = _panels(drill, frame, axis, found, top)
    for panel in plots:
        drawn.shapes += panel.shapes
        drawn.texts += panel.texts
    _events(drawn, drill, axis, labels, (top, bottom))
    _ticks(drawn, axis, drill, bottom)
    drawn.height = bottom + 18
    return drawn


def _extent(drill: dict[str, Any], found: dict[str, tuple[Bin, ...]]) -> Span:
    """Return the first and the last second of the chart."""
    edges = [0.0, drill["fault_at"] or 0.0, *(event["at"] for event in drill["events"])]
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
        if name == "predicted" and not is_due(drill):
            continue
        top += frame.head
        panel = Panel(axis, top, height)
        drawn.append(panel)
        if name == "predicted":
            _named(panel, frame, "Writes were due", due(panel, drill, bool(frame.gutter)))
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
    main, longest = name == "pooled", figures["rto"]
    said = "wait unknown" if longest is None else f"{'longest wait' if main else 'waited'} {wait(longest)}"
    about = [(said, "quiet"), (errors(broke), "bad" if broke else "quiet")]
    _named(panel, frame, dict(PATHS)[name], about, aside=not main)
    if not fine:
        panel.texts.append(Text(panel.axis.left + 4, panel.bottom - 7, "not measured", "quiet"))
        return
    if main:
        draw_outage(panel, drill, fine)
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


def _labels(drill: dict[str, Any], axis: Axis, right: float) -> tuple[Label, ...]:
    """Return the events' labels; without their times where not all of them fit with them.

    Of several faults only their numbers are written.
    """
    faults = [mark for mark in _marks(drill, axis, timed=False) if mark.text.startswith("fault ")]
    if faults:
        numbers = [Mark(mark.x, mark.text.removeprefix("fault "), mark.kind) for mark in faults]
        return place(numbers, axis.left, right, most=len(faults))
    long = place(_marks(drill, axis), axis.left, right)
    if len(long) == len(drill["events"]):
        return long
    short = place(_marks(drill, axis, timed=False), axis.left, right)
    return short if len(short) > len(long) else long


def _marks(drill: dict[str, Any], axis: Axis, timed: bool = True) -> list[Mark]:
    return [
        Mark(
            axis.x(event["at"]),
            f"{event['what']} {event['when']}" if timed and event["kind"] != "fault" else event["what"],
            event["kind"] if event["kind"] in WORDS else "other",
            list(WORDS).index(event["kind"]) if event["kind"] in WORDS else len(WORDS),
        )
        for event in happened(drill)
    ]


def _events(drawn: Chart, drill: dict[str, Any], axis: Axis, labels: tuple[Label, ...], edges: Span) -> None:
    """Draw a line through all panels for every event, from its label down."""
    tops = {(label.mark.x, label.mark.kind): FIRST + ROW * label.row for label in labels}
    for mark in _marks(drill, axis):
        top = tops.get((mark.x, mark.kind))
        path = f"M{mark.x:.1f} {edges[0] if top is None else top:g}V{edges[1]:g}"
        drawn.shapes.append(Shape(path, f"event {mark.kind}{' aside' if top is None else ''}"))
    for label in labels:
        kind = f"label {label.mark.kind}{' end' if label.side < 0 else ''}"
        x, y = label.mark.x + 4 * label.side, FIRST + ROW * label.row + 11
        drawn.texts.append(Text(x, y, label.mark.text, kind))


def _ticks(drawn: Chart, axis: Axis, drill: dict[str, Any], bottom: float) -> None:
    """Write the axis: seconds since the fault."""
    zero = drill["fault_at"] or 0.0
    step = nice((axis.end - axis.begin) / max(2, (axis.right - axis.left) / 70))
    first = math.ceil((axis.begin - zero) / step)
    last = math.floor((axis.end - zero) / step)
    drawn.shapes.append(Shape(f"M{axis.left:g} {bottom:g}H{axis.right:g}", "axis"))
    for index in range(first, last + 1):
        x = axis.x(zero + index * step)
        place_of = " end" if x > axis.right - 12 else " middle" if x > axis.left + 12 else ""
        drawn.shapes.append(Shape(f"M{x:.1f} {bottom:g}v4", "axis"))
        drawn.texts.append(
            Text(x, bottom + 15, tick(index * step, drill["fault_at"] is not None), f"tick{place_of}")
        )


def describe(drill: dict[str, Any]) -> str:
    """Return the chart in words, for whoever does not see it."""
    parts = []
    for name, title in PATHS:
        figures = drill["figures"][name]
        parts.append(f"{title}: longest wait {wait(figures['rto'])}, {errors(figures['errors'])}.")
    parts += [f"{event['when']} {event['what']}: {event['text']}." for event in happened(drill)]
    return " ".join(parts)
