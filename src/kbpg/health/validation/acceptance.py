"""An acceptance check and what it found: values. What the checks are is in `catalogue`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject


class Outcome(StrEnum):
    """How a check ended. Skipped is not passed: what it would have shown is not known."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """What a check says: how it ended, in one sentence, and the lines that show it.

    `figures` are what it measured, by name, in milliseconds.
    """

    outcome: Outcome
    summary: str
    evidence: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def judged(problems: list[str], summary: str, evidence: list[str], **figures: float) -> Verdict:
    """Return a failure that names the problems, or that it is as `summary` says, with the same evidence."""
    if problems:
        if len(problems) == 1:
            return Verdict(Outcome.FAILED, problems[0], tuple(evidence), figures)
        summary = f"{problems[0]}, and {len(problems) - 1} more"
        return Verdict(Outcome.FAILED, summary, (*problems, *evidence), figures)
    return Verdict(Outcome.PASSED, summary, tuple(evidence), figures)


def failed(summary: str, *evidence: str) -> Verdict:
    """Return a failure."""
    return Verdict(Outcome.FAILED, summary, evidence)


def skipped(reason: str) -> Verdict:
    """Return that the check could not be made, and why."""
    return Verdict(Outcome.SKIPPED, reason)


@dataclass(frozen=True)
class Acceptance:
    """A point of the acceptance list.

    `title` is a template over `Subject.words`. `needs` are the ids of checks without which this one says nothing:
    unless all of them passed, it is skipped.
    """

    id: str
    title: str
    group: str
    examine: Callable[[Subject], Verdict] = field(repr=False)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A check that was made; `seconds` is how long it took."""

    id: str
    title: str
    group: str
    outcome: Outcome
    summary: str
    evidence: tuple[str, ...]
    seconds: float
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "id": self.id,
            "title": self.title,
            "group": self.group,
            "outcome": self.outcome.value,
            "summary": self.summary,
            "evidence": list(self.evidence),
            "seconds": round(self.seconds, 4),
            "milliseconds": {name: round(value, 2) for name, value in self.figures.items()},
        }
