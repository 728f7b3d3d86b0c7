"""When a fault was noticed, who took over, when clients went on, and how that compares with the prediction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from kbpg.drills.attempt import Access
from kbpg.drills.figures import longest_gap
from kbpg.drills.observer import INTERVAL
from kbpg.drills.run import Drilled, Event
from kbpg.inventory import Inventory
from kbpg.prediction import Recovery, recovery_time

LEAD = 0.5
"""Seconds before the fault from which a gap is looked for: the last success lies shortly before it."""
TELLING = 3.0
"""Seconds by which a measurement may be outside of what was predicted before the reason is told."""


@dataclass(frozen=True)
class Gap:
    """The longest time that a single client was without a success, and when it began, in the drill's seconds."""

    seconds: float
    begin: float

    @property
    def end(self) -> float:
        """Return when it ended."""
        return self.begin + self.seconds


def gap(found: Drilled, access: Access) -> Gap:
    """Return the longest gap of the clients that came this way, from the fault to the drill's end."""
    return Gap(*longest_gap(found.attempts.get(access, ()), found.fault_at - LEAD, found.seconds))


def timelines(found: Drilled) -> list[int]:
    """Return the timelines that leaders were on, in order."""
    return list(dict.fromkeys(look.node.timeline for look in found.looks if look.node and look.leads))


def events(found: Drilled) -> list[Event]:
    """Return what was done and what was seen, in order; the looks are `INTERVAL` seconds apart."""
    return sorted([*found.events, *_seen(found)], key=lambda event: event.at)


def _seen(found: Drilled) -> Iterable[Event]:
    after = [look for look in found.looks if look.at >= found.fault_at]
    before = next((look for look in reversed(found.looks) if look.leads and look.at < found.fault_at), None)
    if before is not None:
        leaderless = next((x for x in after if x.leader is not None and x.leader != before.host), None)
        new = next((x for x in after if x.leads and x.host != before.host), None)
        if leaderless is not None:
            yield Event(leaderless.at, "detected", f"{leaderless.host} sees {before.host} lead no more")
        if new is not None and new.node is not None:
            yield Event(new.at, "promoted", f"{new.host} leads, timeline {new.node.timeline}")
    outage = gap(found, Access.POOLED)
    if outage.seconds > INTERVAL and outage.end < found.seconds:
        yield Event(outage.end, "recovered", "the last client of 6432 goes on")


def predicted(found: Drilled, inventory: Inventory) -> Recovery | None:
    """Return what was to be expected, None where nothing can be said."""
    fault = found.drill.predicted
    return recovery_time(inventory, fault) if fault else None


def difference(found: Drilled, inventory: Inventory) -> str | None:
    """Return where the time went, where it was more than `TELLING` seconds from what was predicted; else None."""
    expected, outage = predicted(found, inventory), gap(found, Access.POOLED)
    if expected is None:
        return None
    if expected.low - TELLING <= outage.seconds <= expected.high + TELLING:
        return None
    marks = {event.kind: event.at for event in events(found) if event.kind in ("detected", "promoted")}
    points = [("the fault", found.fault_at)]
    points += [(name, marks[name]) for name in ("detected", "promoted") if name in marks]
    points.append(("the last client goes on", outage.end))
    spans = [f"{b[0]} {b[1] - a[1]:.1f} s after {a[0]}" for a, b in pairwise(points)]
    return f"{outage.seconds:.1f} s, {expected.range} predicted: {', '.join(spans)}"
