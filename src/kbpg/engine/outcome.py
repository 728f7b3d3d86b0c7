"""What became of each resource, and what a run adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kbpg.engine.compare import Comparison
from kbpg.errors import KbpgError
from kbpg.model import Impact, Stage, Status, Step


@dataclass(frozen=True)
class Outcome:
    """One resource at one place: how it ended or stands, and why."""

    step: Step
    place: str
    resource: str
    status: Status
    lines: tuple[str, ...] = ()
    impact: Impact = Impact.NONE
    error: KbpgError | None = None
    commands: tuple[str, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        step: Step,
        found: Comparison,
        status: Status,
        *,
        lines: tuple[str, ...] | None = None,
        error: KbpgError | None = None,
        commands: tuple[str, ...] = (),
        seconds: float = 0.0,
    ) -> Outcome:
        """Return the outcome of a compared resource; `lines` default to its difference."""
        item = found.placed
        shown = found.lines if lines is None else lines
        return cls(step, item.place, item.resource.id, status, shown, found.impact, error, commands, seconds)

    @property
    def title(self) -> str:
        """Return where and what: `db-slave-01 · 02 patroni · container:patroni`."""
        return f"{self.place} · {self.step.label} · {self.resource}"


@dataclass
class Report:
    """All outcomes of a run, and the seconds that each step took."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, *statuses: Status) -> list[Outcome]:
        """Return the outcomes with one of these statuses."""
        return [outcome for outcome in self.outcomes if outcome.status in statuses]

    @property
    def failed(self) -> bool:
        """Return whether any resource failed."""
        return bool(self.of(Status.FAILED))


class Listener(Protocol):
    """Who wants to see a run as it goes."""

    def step_started(self, step: Step) -> None:
        """A step begins."""

    def stage_started(self, step: Step, stage: Stage) -> None:
        """A stage begins."""

    def resource_done(self, outcome: Outcome) -> None:
        """A resource has reached its final status in this run."""

    def step_finished(self, step: Step, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """A step ended, well or not."""

    def note(self, place: str, text: str) -> None:
        """Something worth a line goes on at a place, such as an image being sent."""


class Silent:
    """A listener that shows nothing."""

    def step_started(self, step: Step) -> None:
        """Show nothing."""

    def stage_started(self, step: Step, stage: Stage) -> None:
        """Show nothing."""

    def resource_done(self, outcome: Outcome) -> None:
        """Show nothing."""

    def step_finished(self, step: Step, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Show nothing."""

    def note(self, place: str, text: str) -> None:
        """Show nothing."""
