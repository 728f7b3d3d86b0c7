"""`kbpg diagnose --repair`: what is wrong is mended, one finding at a time, as far as it is safe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kbpg.cli import diagnosing
from kbpg.cli.opening import PATIENCE, opened
from kbpg.cli.progress import Progress
from kbpg.cli.texts import count
from kbpg.console import Console, Line, Style
from kbpg.health.diagnose import Diagnosis, examine
from kbpg.health.finding import Finding, Repair
from kbpg.health.repair.acts import Bench, perform
from kbpg.health.repair.course import Attempt, Course, Verdict
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.session import Session
from kbpg.steps import ALL

_STYLES = {Verdict.MENDED: Style.GOOD, Verdict.DECLINED: Style.QUIET}


class Asking:
    """A guide that shows each repair on the console and asks, unless everything was agreed to before."""

    def __init__(self, console: Console, options: Options, *, terminal: bool) -> None:
        self._console, self._options, self._terminal = console, options, terminal

    def agrees(self, finding: Finding, repair: Repair) -> bool:
        """Show what is wrong and what will be done about it; return the answer, no where nobody can give one."""
        self._console.rest()
        self._console.say(
            [
                Line(f"{finding.host}: {finding.title}: {finding.seen}", Style.TITLE),
                Line(f"  will {repair.will}"),
                Line(f"  risk: {repair.risk}", Style.PLAIN if repair.risk == "none" else Style.WARNING),
            ]
        )
        agreed = self._options.yes or (self._terminal and self._console.ask("  go ahead?"))
        if agreed:
            self._console.busy(f"{finding.host}: {repair.will}")
        return agreed

    def ended(self, attempt: Attempt) -> None:
        """Show how it ended."""
        self._console.rest()
        self._console.say(attempt_lines(attempt))


def attempt_lines(attempt: Attempt) -> list[Line]:
    """Return how a repair ended: the verdict, what was done, and why not where it was not."""
    style = _STYLES.get(attempt.verdict, Style.BAD)
    said = f": {attempt.said}" if attempt.said else ""
    lines = [Line(f"  {attempt.verdict}{said} ({attempt.seconds:.0f} s)", style)]
    if attempt.verdict is Verdict.DECLINED:
        return [Line(f"  {attempt.verdict}", style)]
    if attempt.error and attempt.verdict is not Verdict.MENDED:
        lines += [Line(f"    {text}") for text in attempt.error.lines()]
    return lines


def repair(options: Options) -> int:
    """Mend what can be mended and return the exit code of what is left: 0 healthy, 1 critical, 3 warnings only."""
    options.patience = PATIENCE
    terminal = sys.stdin.isatty()
    with Console(color=options.color, mask=options.masked) as console:
        progress = Progress(console)
        console.busy("connecting to the hosts")
        with opened(
            options, console, "diagnose --repair", lock=True, partial=True, credentials_exist=True
        ) as session:
            console.busy("reading the hosts")
            guide = Asking(console, options, terminal=terminal)
            diagnosis, attempts = _course(session, options, progress, guide).run()
        kbpg = diagnosis.snapshot.kbpg if diagnosis.snapshot else "kbpg"
        if options.json:
            console.data(
                {
                    **diagnosing.document(diagnosis, session.unreachable),
                    "repairs": [attempt.document() for attempt in attempts],
                }
            )
        else:
            console.result([*diagnosing.shown(diagnosis, kbpg), *closing(attempts, terminal or options.yes)])
    return int(diagnosis.exit_code)


def _course(session: Session, options: Options, progress: Progress, guide: Asking) -> Course:
    site = site_of(session.context, session.hosts, session.controller, progress.note)
    bench = Bench(site, progress, tuple(ALL))

    def look() -> Diagnosis:
        found = examine(session.context, session.hosts, session.unreachable)
        return found.limited(options.limit) if options.limit else found

    return Course(look, lambda what: perform(bench, what), guide)


def closing(attempts: Sequence[Attempt], could_ask: bool) -> list[Line]:
    """Return what the repairs came to, in a line."""
    if not attempts:
        return [Line("nothing that kbpg can mend", Style.QUIET)]
    counts = {verdict: sum(each.verdict is verdict for each in attempts) for verdict in Verdict}
    text = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    lines = [Line(f"{count(len(attempts), 'repair')}: {text}")]
    if not could_ask:
        lines.append(Line("hint: nobody could be asked here; --yes goes ahead without asking", Style.HINT))
    return lines
