"""Running the engine for a command: apply, plan.

The steps with all that they import, their files and psycopg are a third of what is computed before the first question
to a host. So the steps are given as a function, which is called while the hosts are dialled (`ahead.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kbpg.cli import closing, documents, texts
from kbpg.cli.ahead import Ahead
from kbpg.cli.opening import working
from kbpg.cli.progress import Progress
from kbpg.console import Console
from kbpg.context import Context
from kbpg.engine.outcome import Listener, Report
from kbpg.engine.run import Run, Stages
from kbpg.errors import Exit
from kbpg.hosts.port import Writer
from kbpg.model import CONTROLLER, Status, Step
from kbpg.operations import tls_change
from kbpg.options import Options
from kbpg.pki import demand_written
from kbpg.session import Besides, Session

READING = "reading the hosts"
LAST_OF_HOSTS = 4
"""The last step that configures programs; those after it use them."""

Steps = Callable[[], Sequence[Step]]


def every_step() -> Sequence[Step]:
    """Return all steps, which are imported for it."""
    from kbpg.steps import ALL

    return ALL


def stages_of(steps: Steps, after: Sequence[Step] = ()) -> Ahead[Stages]:
    """Return what computes the stages of a run, and so imports its steps and renders their files."""
    return Ahead(lambda context: {step: step.stages(context) for step in (*after, *steps())})


def apply(
    options: Options, steps: Steps, *, doing: str, writing: bool = False, after: Sequence[Step] = ()
) -> int:
    """Make it so, show how, and return the exit code.

    `writing`: step 00 is among the steps, which nobody knows before they are imported. `after` are the steps whose
    requirements hold too.
    """
    started = time.monotonic()
    ahead = stages_of(steps, after)
    with Console(color=options.color, mask=options.masked) as console:
        progress = Progress(console)
        with working(
            options,
            console,
            doing,
            then=READING,
            lock=True,
            # Passwords and certificates that nobody keeps must not reach a cluster: only step 00 writes new ones down
            credentials_exist=not writing,
            renewing=writing,
            meanwhile=ahead,
            besides=_besides(ahead, steps, after),
        ) as session:
            if not writing:
                demand_written(session.context.pki, session.context.inventory.pki_path)
            report = _apply(session, options, progress, ahead, steps(), after)
        seconds = time.monotonic() - started
        console.rest()
        if options.json:
            console.data(documents.applied(report, session.context, seconds))
        if report.failed:
            console.say(texts.failures(report))
        elif not options.json:
            console.result(closing.applied(report, session.context, seconds, whole=len(steps()) > 1))
    return int(Exit.FAILED if report.failed else Exit.OK)


def _apply(
    session: Session,
    options: Options,
    progress: Progress,
    ahead: Ahead[Stages],
    steps: Sequence[Step],
    after: Sequence[Step],
) -> Report:
    """Make it so: where `tls` has changed, by way of a state in which everybody accepts both."""
    first = None
    if tls_change.changes(session.context, session.hosts):
        if options.limit or after:
            tls_change.refuse_part(session.context, "--limit" if options.limit else "one step")
        progress.note(CONTROLLER, f"tls: {session.context.inventory.tls.mode}: first everything accepts both")
        between = replace(session, context=replace(session.context, between=True))
        first = _run(between, ahead, progress).apply([step for step in steps if step.number <= LAST_OF_HOSTS])
        if first.failed:
            return first
    run = _run(session, ahead, progress)
    if first:
        run.report.outcomes.extend(first.outcomes)
    return run.apply(steps, after)


def plan(options: Options, steps: Steps) -> int:
    """Say what `apply` would change, and return the exit code."""
    ahead = stages_of(steps)
    with Console(color=options.color, mask=options.masked) as console:
        with working(
            options,
            console,
            "plan",
            then=READING,
            lock=False,
            renewing=True,
            meanwhile=ahead,
            besides=_besides(ahead, steps),
        ) as session:
            report = _run(session, ahead).plan(steps())
            unmet = report.of(Status.FAILED)
        if options.json:
            console.data(documents.planned(report, unmet))
        else:
            console.result(texts.planned(report, unmet))
    if unmet:
        return int(Exit.FAILED)
    return int(Exit.DIFFERS if report.of(*texts.CHANGES) else Exit.OK)


def _besides(ahead: Ahead[Stages], steps: Steps, after: Sequence[Step] = ()) -> Besides:
    """Return what tells the requirements that connected hosts do not meet, where others are missing; how to go on."""

    def told(context: Context, hosts: Mapping[str, Writer], controller: Writer) -> list[str]:
        run = Run(context, hosts, controller, stages=ahead.of(context))
        lines = [line.text for line in texts.failed(run.unmet([*after, *steps()]))]
        if lines:
            return ["besides, on the hosts that are connected:", *(f"  {line}" for line in lines)]
        return [f"with the others alone: --limit {','.join(hosts)}"] if hosts else []

    return told


def _run(session: Session, ahead: Ahead[Stages], listener: Listener | None = None) -> Run:
    ready = ahead.of(session.context)
    return Run(session.context, session.hosts, session.controller, listener, ready)
