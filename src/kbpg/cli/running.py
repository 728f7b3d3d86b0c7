"""Running the engine for a command: apply, plan.

The steps with all that they import, their files and psycopg are a third of what is computed before the first question
to a host. So the steps are given as a function, which is called while the hosts are dialled: `Ahead`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from kbpg.cli import closing, documents, texts
from kbpg.cli.opening import ready_to_ask, working
from kbpg.cli.progress import Progress
from kbpg.console import Console
from kbpg.context import Context
from kbpg.engine.outcome import Listener, Report
from kbpg.engine.run import Run, Stages
from kbpg.errors import Exit
from kbpg.model import CONTROLLER, Status, Step
from kbpg.operations import tls_change
from kbpg.options import Options
from kbpg.pki import demand_written
from kbpg.session import Session

READING = "reading the hosts"
LAST_OF_HOSTS = 4
"""The last step that configures programs; those after it use them."""

Steps = Callable[[], Sequence[Step]]


def every_step() -> Sequence[Step]:
    """Return all steps, which are imported for it."""
    from kbpg.steps import ALL

    return ALL


class Ahead:
    """The steps of a run and their stages, got ready while the hosts are dialled.

    Called with a context it does so; whatever was not got ready, because nothing was dialled or the context has
    changed since, is computed when it is asked for.
    """

    def __init__(self, steps: Steps, after: Sequence[Step] = ()) -> None:
        self._steps, self.after = steps, after
        self._context: Context | None = None
        self._stages: Stages = {}

    def __call__(self, context: Context) -> None:
        """Import the steps and what they ask with, and compute the stages. Raises what a step raises."""
        self._stages = {step: step.stages(context) for step in (*self.after, *self.steps)}
        self._context = context
        ready_to_ask(context)

    @property
    def steps(self) -> Sequence[Step]:
        """Return the steps."""
        return self._steps()

    def stages(self, context: Context) -> Stages:
        """Return the stages that are ready for this very context."""
        return self._stages if context is self._context else {}


def apply(
    options: Options, steps: Steps, *, doing: str, writing: bool = False, after: Sequence[Step] = ()
) -> int:
    """Make it so, show how, and return the exit code.

    `writing`: step 00 is among the steps. `after` are the steps whose requirements hold too.
    """
    started = time.monotonic()
    # Passwords and certificates that nobody keeps must not reach a cluster: only step 00 writes new ones down
    kept = not writing
    ahead = Ahead(steps, after)
    with Console(color=options.color) as console:
        progress = Progress(console)
        with working(
            options,
            console,
            doing,
            then=READING,
            lock=True,
            credentials_exist=kept,
            renewing=writing,
            meanwhile=ahead,
        ) as session:
            if kept:
                demand_written(session.context.pki, session.context.inventory.pki_path)
            report = _apply(session, options, progress, ahead)
        seconds = time.monotonic() - started
        console.rest()
        if options.json:
            console.data(documents.applied(report, session.context, seconds))
        if report.failed:
            console.say(texts.failures(report))
        elif not options.json:
            console.result(closing.applied(report, session.context, seconds, whole=len(ahead.steps) > 1))
    return int(Exit.FAILED if report.failed else Exit.OK)


def _apply(session: Session, options: Options, progress: Progress, ahead: Ahead) -> Report:
    """Make it so: where `tls` has changed, by way of a state in which everybody accepts both."""
    first = None
    if tls_change.changes(session.context, session.hosts):
        if options.limit or ahead.after:
            tls_change.refuse_part(session.context, "--limit" if options.limit else "one step")
        progress.note(CONTROLLER, f"tls: {session.context.inventory.tls.mode}: first everything accepts both")
        between = replace(session, context=replace(session.context, between=True))
        first = _run(between, options, ahead, progress).apply(
            [step for step in ahead.steps if step.number <= LAST_OF_HOSTS]
        )
        if first.failed:
            return first
    run = _run(session, options, ahead, progress)
    if first:
        run.report.outcomes.extend(first.outcomes)
    return run.apply(ahead.steps, ahead.after)


def plan(options: Options, steps: Steps) -> int:
    """Say what `apply` would change, and return the exit code."""
    ahead = Ahead(steps)
    with Console(color=options.color) as console:
        with working(
            options, console, "plan", then=READING, lock=False, renewing=True, meanwhile=ahead
        ) as session:
            report = _run(session, options, ahead).plan(ahead.steps)
            unmet = report.of(Status.FAILED)
        if options.json:
            console.data(documents.planned(report, unmet))
        else:
            console.result(texts.planned(report, unmet))
    if unmet:
        return int(Exit.FAILED)
    return int(Exit.DIFFERS if report.of(*texts.CHANGES) else Exit.OK)


def _run(session: Session, options: Options, ahead: Ahead, listener: Listener | None = None) -> Run:
    ready = ahead.stages(session.context)
    return Run(session.context, session.hosts, session.controller, listener, options.limit, ready)
