"""How far apart the hosts' clocks are: Raft's leases, and so who may lead, depend on each node's wall clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from kbpg.facts import CallFact, NotKnown
from kbpg.hosts.port import Output, Reader

TRIES = 3
"""Readings at most; a busy controller or line makes the first one vague."""
GOOD_ENOUGH = 0.1
"""Seconds of uncertainty with which no further reading is made."""
TOLERABLE = 0.2
"""Seconds of uncertainty with which none is made of a clock that is certainly near the controller's."""


@dataclass(frozen=True)
class Offset:
    """A host's clock minus the controller's, and by how much that may be wrong; seconds."""

    seconds: float
    uncertainty: float

    def certainly_within(self, near: float) -> bool:
        """Return whether the clock is not more than `near` seconds away, and that is known well enough."""
        return self.uncertainty <= TOLERABLE and abs(self.seconds) + self.uncertainty <= near


@dataclass(frozen=True)
class _Question:
    """The time; `date` by its name, as everything on the host finds it."""

    key: str = "date"
    script: str = "date +%s.%N"


@dataclass(frozen=True)
class ClockFact(CallFact[Offset]):
    """The host's clock against the controller's, in an execution of its own: among other questions the answer
    would be as old as the slowest of them.

    A clock that is certainly within `near` seconds of the controller's need not be known that well: two of them are
    within twice as much of each other. One of them and a third that is farther away must be told apart still, so the
    uncertainty is `TOLERABLE` at most. `near` is how the question is asked, not which one it is: `key` has it not.
    """

    near: float = 0.0

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "clock"

    def ask(self, reader: Reader) -> Offset:
        """Ask up to three times, and return the most certain reading."""
        readings: list[Offset] = []
        while len(readings) < TRIES:
            sent = time.time()
            output = reader.read([_Question()])["date"]
            reading = offset(sent, output, time.time())
            readings.append(reading)
            if reading.uncertainty <= GOOD_ENOUGH or reading.certainly_within(self.near):
                break
        return min(readings, key=lambda reading: reading.uncertainty)


def clock_fact(limit: float) -> ClockFact:
    """Return the question for clocks that are to be within `limit` seconds of each other."""
    return ClockFact(near=limit / 2)


def offset(sent: float, output: Output, received: float) -> Offset:
    """Return the offset of a clock read somewhere between two of the controller's times. Raises `NotKnown`."""
    try:
        there = float(output.stdout.strip())
    except ValueError:
        said = (output.stderr or output.stdout).strip()
        raise NotKnown(f"`date +%s.%N` does not tell the time: {said[:80]}") from None
    return Offset(there - (sent + received) / 2, max(0.0, received - sent) / 2)


def skew(here: str, offsets: Mapping[str, Offset], limit: float) -> float | None:
    """Return by how many seconds `here` is away from the hosts' median, where that is a problem, else None.

    It is one when another host's clock differs by more than `limit` beyond what both readings may be wrong, and
    is not itself farther from the median.
    """
    mine = offsets[here]
    median = statistics.median(each.seconds for each in offsets.values())
    away = mine.seconds - median
    for other in offsets.values():
        certain = abs(mine.seconds - other.seconds) - mine.uncertainty - other.uncertainty
        if certain > limit and abs(away) >= abs(other.seconds - median) - 1e-9:
            return away
    return None
