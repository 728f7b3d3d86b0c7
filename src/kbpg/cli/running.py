"""Running the engine for a command: apply, plan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from kbpg.cli import closing, documents, texts
from kbpg.cli.opening import working
from kbpg.cli.progress import Progress
from kbpg.console import Console
from kbpg.engine.outcome import Listener, Report
from kbpg.engine.run import Run
from kbpg.errors import Exit
from kbpg.model import CONTROLLER, Status, Step
from kbpg.operations import tls_change
from kbpg.options import Options
from kbpg.pki import demand_written
from kbpg.session import Session

READING = "reading the hosts"
LAST_OF_HOSTS = 4
"""The last step that configures programs; those after it use them."""


def apply(options: Options, steps: Sequence[Step], *, doing: str, after: Sequence[Step] = ()) -> int:
    """Make it so, show how, and return the exit code; `after` are the steps whose requirements hold too."""
    started = time.monotonic()
    # Passwords and certificates that nobody keeps must not reach a cluster: only step 00 writes new ones down
    kept = not any(step.number == 0 for step in steps)
    with Console(color=options.color) as console:
        progress = Progress(console)
        with working(
            options, console, doing, then=READING, lock=True, credentials_exist=kept, renewing=not kept
        ) as session:
            if kept:
                demand_written(session.context.pki, session.context.inventory.pki_path)
            report = _apply(session, options, progress, steps, after)
        seconds = time.monotonic() - started
        console.rest()
        if options.json:
            console.data(documents.applied(report, session.context, seconds))
        if report.failed:
            console.say(texts.failures(report))
        elif not options.json:
            console.result(closing.applied(report, session.context, seconds, whole=len(steps) > 1))
    return int(Exit.FAILED if report.failed else Exit.OK)


def _apply(
    session: Session, options: Options, progress: Progress, steps: Sequence[Step], after: Sequence[Step]
) -> Report:
    """Make it so: where `tls` has changed, by way of a state in which everybody accepts both."""
    first = None
    if tls_change.changes(session.context, session.hosts):
        if options.limit or after:
            tls_change.refuse_part(session.context, "--limit" if options.limit else "one step")
        progress.note(CONTROLLER, f"tls: {session.context.inventory.tls.mode}: first everything accepts both")
        between = replace(session, context=replace(session.context, between=True))
        first = _run(between, options, progress).apply(
            [step for step in steps if step.number <= LAST_OF_HOSTS]
        )
        if first.failed:
            return first
    run = _run(session, options, progress)
    if first:
        run.report.outcomes.extend(first.outcomes)
    return run.apply(steps, after)


def plan(options: Options, steps: Sequence[Step]) -> int:
    """Say what `apply` would change, and return the exit code."""
    with Console(color=options.color) as console:
        with working(options, console, "plan", then=READING, lock=False, renewing=True) as session:
            report = _run(session, options).plan(steps)
            unmet = report.of(Status.FAILED)
        if options.json:
            console.data(documents.planned(report, unmet))
        else:
            console.result(texts.planned(report, unmet))
    if unmet:
        return int(Exit.FAILED)
    return int(Exit.DIFFERS if report.of(*texts.CHANGES) else Exit.OK)


def _run(session: Session, options: Options, listener: Listener | None = None) -> Run:
    return Run(session.context, session.hosts, session.controller, listener, options.limit)
