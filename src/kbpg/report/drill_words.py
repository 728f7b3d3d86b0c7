"""Figures of a drill as people read them; what was not seen is a dash."""

from __future__ import annotations

from typing import Any

NOT_SEEN = "–"
WORDS = {
    "fault": "fault",
    "recovered": "writes again",
    "redundant": "redundant",
    "promoted": "new leader",
    "mended": "mended",
    "detected": "noticed",
}
"""What an event is called; on a chart without place for all, the first ones keep their labels."""


def word(kind: str) -> str:
    """Return what an event is called, in few characters."""
    return WORDS.get(kind, kind if len(kind) <= 16 else f"{kind[:15]}…")


def wait(seconds: float | None) -> str:
    """Return how long a client waited, always in seconds so that waits can be compared: `21.2 s`, `0.42 s`."""
    if seconds is None:
        return NOT_SEEN
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds:.2f} s"


def number(value: int | None) -> str:
    """Return a number with its thousands apart."""
    return NOT_SEEN if value is None else f"{value:,}"


def errors(value: int | None) -> str:
    """Return a number of errors as text."""
    if value is None:
        return f"errors {NOT_SEEN}"
    return {0: "no error", 1: "1 error"}.get(value, f"{value:,} errors")


def tick(seconds: float, signed: bool) -> str:
    """Return a moment of the axis: `−5 s`, `0 s`, `+10 s`; without + where zero is no fault."""
    seconds = round(seconds, 6)
    sign = "−" if seconds < 0 else "+" if signed and seconds > 0 else ""
    return f"{sign}{abs(seconds):g} s"


def moment(drill: dict[str, Any], at: float) -> str:
    """Return when something happened: seconds since the fault, or since the beginning if there was none."""
    zero = drill["fault_at"]
    if zero is None:
        return f"{at:.1f} s"
    return f"{'−' if at < zero else '+'}{abs(at - zero):.1f} s"


def happened(drill: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events with when and what they are in words; of several faults each has its number."""
    several = sum(event["kind"] == "fault" for event in drill["events"]) > 1
    found, faults = [], 0
    for event in drill["events"]:
        faults += event["kind"] == "fault"
        what = f"fault {faults}" if several and event["kind"] == "fault" else word(event["kind"])
        found.append({**event, "when": moment(drill, event["at"]), "what": what})
    return found


def waited(longest: float | None, everybody: bool, cut: bool) -> str:
    """Return what the outage was: of all clients or of one, ended or not."""
    if longest is None:
        return f"no write{' until the end' if cut else ''}"
    if everybody:
        return f"{wait(longest)} without a write{' until the end' if cut else ''}"
    return f"longest wait {wait(longest)}"


def run_of(drill: dict[str, Any]) -> str:
    """Return which run it was and on whom: `run 1 of 5 on db-master-01`."""
    parts = [f"run {drill['run']} of {drill['of']}"] if (drill["of"] or 1) > 1 else []
    parts += [f"on {drill['target']}"] if drill["target"] else []
    return " ".join(parts) or "one run"


def headline(drill: dict[str, Any]) -> str:
    """Return a run as one line, which is the title of its chart."""
    return f"{drill['title']}, {run_of(drill)}: longest wait for a write {wait(drill['figures']['pooled']['rto'])}"


def timelines(values: list[int] | None) -> str:
    """Return the timelines a cluster went through."""
    return NOT_SEEN if not values else " → ".join(str(value) for value in values)


def whereabouts(figures: dict[str, Any]) -> str:
    """Return what became of the writes whose end the client did not learn."""
    kept, gone = figures["unknown_kept"], figures["unknown_gone"]
    if kept is None and gone is None:
        return NOT_SEEN
    return f"{number(kept)} kept, {number(gone)} gone"
