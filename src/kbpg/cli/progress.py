"""A run as it goes, on a console."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from kbpg.cli import texts
from kbpg.console import Console, Line, Style
from kbpg.engine.outcome import Outcome
from kbpg.model import Stage, Status, Step

LONGEST = 160
"""Characters of a command that are shown."""


class Progress:
    """A listener that prints a line for each finished step, and beneath it what has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: list[Outcome] = []
        self._lock = threading.Lock()

    def step_started(self, step: Step) -> None:
        """Show what is going on."""
        self._flush()
        self._console.busy(step.label)

    def stage_started(self, step: Step, stage: Stage) -> None:
        """Show the stage and where it happens."""
        self._flush()
        places = dict.fromkeys(item.place for item in stage.items)
        self._console.busy(f"{step.label} · {stage.title} · {', '.join(places)}")

    def resource_done(self, outcome: Outcome) -> None:
        """Keep it until its stage is over: what is the same on several hosts is shown once."""
        with self._lock:
            self._stage.append(outcome)

    def step_finished(self, step: Step, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Print the step's line."""
        self._flush()
        self._console.rest()
        statuses = {outcome.status for outcome in outcomes}
        style = Style.BAD if Status.FAILED in statuses else Style.GOOD
        text = f"{texts.counts(outcomes)}, {seconds:.1f} s"
        if statuses == {Status.NOT_ATTEMPTED}:
            style, text = Style.QUIET, "not attempted"
        self._console.say([Line(f"{step.label:<16} {text}", style)])

    def note(self, place: str, text: str) -> None:
        """Print what goes on at a place."""
        self._console.say([Line(f"  {place}: {text}", Style.QUIET)])

    def command(self, host: str, command: str, status: int | str, seconds: float) -> None:
        """Print a command that ran (`-v`); what is too long for a line is whole in the journal."""
        ended = "" if status == 0 else f", {f'exit {status}' if isinstance(status, int) else status}"
        shown = " ".join(command.split())
        shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} …"
        self._console.say([Line(f"  {host} $ {shown}  {seconds:.2f} s{ended}", Style.QUIET)])

    def _flush(self) -> None:
        with self._lock:
            outcomes, self._stage = self._stage, []
        self._console.say(texts.changed(outcomes))
