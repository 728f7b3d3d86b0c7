"""The rows that are there against what clients were told: lost, duplicated, or written under two leaders at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kbpg.drills.attempt import Attempt, Outcome


@dataclass(frozen=True)
class Row:
    """A row that is there: whose, its number, and how often."""

    client: int
    n: int
    copies: int


@dataclass(frozen=True)
class Term:
    """The time between a timeline's first and last acknowledged write, by the servers' clocks (Unix time)."""

    first: float
    last: float


@dataclass(frozen=True)
class Tally:
    """What the comparison found; the counts are rows.

    `lost` were acknowledged and are not there; `refused_there` were refused and are there. `terms` are by timeline.
    """

    acknowledged: int
    refused: int
    unknown: int
    lost: int
    duplicated: int
    refused_there: int
    unknown_there: int
    terms: Mapping[int, Term]

    @property
    def problems(self) -> list[str]:
        """Return what must not be, in words."""
        found = []
        if self.lost:
            found.append(f"{self.lost} acknowledged rows are not there")
        if self.duplicated:
            found.append(f"{self.duplicated} rows are there more than once")
        if self.refused_there:
            found.append(f"{self.refused_there} rows are there although they were refused")
        return [*found, *self._overlaps()]

    def _overlaps(self) -> Iterable[str]:
        """Yield the timelines on which a write was acknowledged after the next one had begun.

        The hosts' clocks agree to within `prepare.max_clock_skew`; those of a lab are one clock.
        """
        ordered = sorted(self.terms.items())
        for (old, before), (new, after) in pairwise(ordered):
            if before.last >= after.first:
                seconds = before.last - after.first
                yield f"timeline {old} still took writes {seconds:.3f} s after timeline {new} had begun"


def compare(attempts: Iterable[Attempt], rows: Sequence[Row]) -> Tally:
    """Compare every attempt of every client with the rows read from the leader afterwards."""
    told: dict[Outcome, set[tuple[int, int]]] = {outcome: set() for outcome in Outcome}
    terms: dict[int, Term] = {}
    for attempt in attempts:
        told[attempt.outcome].update((attempt.client, n) for n in attempt.numbers)
        if attempt.timeline and attempt.outcome is Outcome.ACKNOWLEDGED:
            known = terms.get(attempt.timeline, Term(attempt.at, attempt.at))
            terms[attempt.timeline] = Term(min(known.first, attempt.at), max(known.last, attempt.at))
    there = {(row.client, row.n) for row in rows}
    return Tally(
        acknowledged=len(told[Outcome.ACKNOWLEDGED]),
        refused=len(told[Outcome.REFUSED]),
        unknown=len(told[Outcome.UNKNOWN]),
        lost=len(told[Outcome.ACKNOWLEDGED] - there),
        duplicated=sum(row.copies > 1 for row in rows),
        refused_there=len(told[Outcome.REFUSED] & there),
        unknown_there=len(told[Outcome.UNKNOWN] & there),
        terms=dict(sorted(terms.items())),
    )
