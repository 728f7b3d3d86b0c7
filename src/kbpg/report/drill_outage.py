"""The outage on a drill's chart, and when it was to be over."""

from __future__ import annotations

from typing import Any

from kbpg.report.drill_panels import Panel, Shape, Text
from kbpg.report.drill_series import Bin, outage
from kbpg.report.drill_words import waited

LARGE, SMALL = 7.8, 6.4
"""Width of a character of the outage's length, and of what was predicted."""


def draw_outage(panel: Panel, drill: dict[str, Any], fine: tuple[Bin, ...]) -> None:
    """Shade the time without a write, and write its length on it, or beside it where it is too short for that."""
    figures, axis = drill["figures"]["pooled"], panel.axis
    longest, since = figures["rto"], drill["fault_at"] or fine[0].begin
    span = outage(fine, since, longest)
    everybody = span is not None
    if figures.get("rto_at") is not None and longest is not None:
        span = figures["rto_at"], figures["rto_at"] + longest
    text = waited(longest, everybody, cut=span is not None and span[1] >= fine[-1].end)
    begin, end = (axis.x(at) for at in span or (since, since))
    if longest is None and span is None:
        return
    if span:
        path = f"M{begin:.1f} {panel.top:g}H{end:.1f}V{panel.bottom:g}H{begin:.1f}z"
        panel.shapes.append(Shape(path, "away"))
    width, y = len(text) * LARGE, panel.top + 16
    if end - begin > width + 8:
        panel.texts.append(Text((begin + end) / 2, y, text, "outage middle"))
    elif end + width + 6 < axis.right:
        panel.texts.append(Text(end + 6, y, text, "outage"))
    else:
        panel.texts.append(Text(max(begin - 6, axis.left + width), y, text, "outage end"))


def is_due(drill: dict[str, Any]) -> bool:
    """Return whether it is known when writes were to be back."""
    predicted, goal = drill["predicted"] or {}, drill["goal"] or {}
    return predicted.get("high") is not None or goal.get("rto") is not None


def due(panel: Panel, drill: dict[str, Any], beside: bool) -> list[tuple[str, str]]:
    """Draw when writes were predicted to be back and when they had to be; return that in words, unless `beside`."""
    axis, zero = panel.axis, drill["fault_at"] or 0.0
    predicted, goal = drill["predicted"] or {}, drill["goal"] or {}
    low, high, limit = predicted.get("low"), predicted.get("high"), goal.get("rto")
    words, places = [], []
    if high is not None:
        begin, end = axis.x(zero + (low or 0.0)), axis.x(zero + high)
        panel.shapes.append(Shape(f"M{begin:.1f} {panel.top + 3:g}H{end:.1f}v6H{begin:.1f}z", "predicted"))
        words.append(f"predicted {low or 0:.1f}–{high:.1f} s")
        places += [begin, end]
    if limit is not None:
        words.append(f"goal {limit:g} s")
        places.append(axis.x(zero + limit))
        if zero + limit <= axis.end:
            panel.shapes.append(Shape(f"M{places[-1]:.1f} {panel.top:g}v12", "goal"))
    if not beside:
        return [(", ".join(words), "")]
    _beside(panel, ", ".join(words), min(places), max(places))
    return []


def _beside(panel: Panel, text: str, begin: float, end: float) -> None:
    """Write a text right of a span, or left of it, or at the end of the panel, wherever it fits first."""
    axis, width, y = panel.axis, len(text) * SMALL, panel.top + 10
    if end + width + 8 < axis.right:
        panel.texts.append(Text(end + 8, y, text, "small note"))
    else:
        x = begin - 8 if begin - 8 - width > axis.left else axis.right
        panel.texts.append(Text(x, y, text, "small note end"))
