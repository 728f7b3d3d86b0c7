"""`kbpg validate`: the acceptance list, on the screen and as a report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kbpg.console import Line
    from kbpg.options import Options

Document = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("validate")(validate)


def validate(
    ctx: typer.Context,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write report.md, report.html, report.json and junit.xml there."
        ),
    ] = None,
) -> None:
    """Go through the acceptance list: what is there, and what it really does.

    Writes to a table of its own, and drops it. Exit code 0: all passed; 1: not.
    """
    raise typer.Exit(run(ctx.obj, report))


def run(options: Options, directory: Path | None) -> int:
    """Validate, show it, write the report, and return the exit code. Raises InputError."""

    from kbpg.cli.opening import warns
    from kbpg.console import Console
    from kbpg.drills.measured import recall
    from kbpg.health.validation.run import validate
    from kbpg.report import build, prepare, write
    from kbpg.session import open_session

    if directory is not None:
        prepare(directory)
    with Console(color=options.color, mask=options.masked) as console:
        console.busy("connecting to the hosts")
        ask = console.asking
        with (
            open_session(
                options,
                doing="validate",
                lock=False,
                partial=True,
                credentials_exist=True,
                lenient=True,
                ask=ask,
                tell=warns(console),
            ) as session,
            _connected_when_interrupted(),
        ):
            found = validate(session.context, session.found, session.hosts, session.unreachable, console.busy)
        subject = found.subject
        drills = recall(options.state, subject.context.inventory, subject.snapshot.system_identifier)
        document = build(found, drills)
        written = write(directory, document) if directory is not None else []
        if options.json:
            console.data(document)
        else:
            console.result(shown(document, written))
    return int(found.exit_code)


@contextlib.contextmanager
def _connected_when_interrupted() -> Iterator[None]:
    """Let Ctrl-C end the checks, but not the connections: the table of the live tests is dropped through them."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def shown(document: Document, written: list[Path]) -> list[Line]:
    """Return what is printed: every check in its group, the evidence of what did not pass, and the sum."""
    from kbpg.console import Line, Style
    from kbpg.report.pages import verdict

    style = Style.GOOD if document["passed"] else Style.BAD
    leader = document["topology"]["leader"]
    lines = [
        Line(f"cluster {document['cluster']}, {f'leader {leader}' if leader else 'no leader'}", Style.TITLE)
    ]
    width = max(len(check["title"]) for check in document["checks"])
    for group, checks in groupby(document["checks"], lambda check: check["group"]):
        lines += [Line(), Line(group, Style.TITLE)]
        lines += [line for check in checks for line in _check(check, width)]
    lines += [Line(), Line(f"{verdict(document)} in {document['seconds']:.1f} s", style)]
    lines += [Line(f"wrote {path}", Style.QUIET) for path in written]
    if not document["passed"]:
        lines.append(Line("hint: kbpg diagnose names the cause and what mends it", Style.HINT))
    return lines


def _check(check: Document, width: int) -> list[Line]:
    from kbpg.console import Line, Style
    from kbpg.report.pages import MARKS, seconds

    styles = {"passed": Style.PLAIN, "failed": Style.BAD, "skipped": Style.QUIET}
    head = f"  {MARKS[check['outcome']]} {check['title']:<{width}}"
    text = f"{head}  {seconds(check['seconds']):>7}  {check['summary']}"
    evidence = check["evidence"] if check["outcome"] == "failed" else ()
    return [Line(text, styles[check["outcome"]]), *(Line(f"      {line}") for line in evidence)]
