"""Outcomes that are the same on several hosts, as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kbpg.engine.outcome import Outcome
from kbpg.errors import HostError
from kbpg.model import Impact, Status, Step


@dataclass(frozen=True)
class Folded:
    """One resource with the same outcome at all these places."""

    places: tuple[str, ...]
    step: Step
    resource: str
    status: Status
    impact: Impact
    lines: tuple[str, ...]

    @property
    def where(self) -> str:
        """Return the places with commas between."""
        return ", ".join(self.places)

    @property
    def symbol(self) -> str:
        """Return how a plan marks it: + create, - remove, ~ change, ? not known yet."""
        if self.status is Status.UNKNOWN:
            return "?"
        return {"create": "+", "remove": "-"}.get(self.lines[0] if self.lines else "", "~")


def fold(outcomes: Iterable[Outcome]) -> list[Folded]:
    """Fold outcomes that differ in nothing but the place; in order of first appearance."""
    places: dict[Folded, list[str]] = {}
    for outcome in outcomes:
        what = Folded(
            (), outcome.step, outcome.resource, outcome.status, outcome.impact, explanation(outcome)
        )
        places.setdefault(what, []).append(outcome.place)
    return [
        Folded(tuple(where), what.step, what.resource, what.status, what.impact, what.lines)
        for what, where in places.items()
    ]


def explanation(outcome: Outcome) -> tuple[str, ...]:
    """Return why an outcome is what it is: the error without the host's name, or the difference."""
    error = outcome.error
    if error is None:
        return outcome.lines
    first = error.reason if isinstance(error, HostError) and error.host == outcome.place else error.message
    hint = (f"hint: {error.hint}",) if error.hint else ()
    return (*first.splitlines(), *error.detail, *hint)
