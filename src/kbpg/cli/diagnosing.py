"""`kbpg diagnose`: look at every host once, and show what is wrong, worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbpg.cli.ahead import Ahead
from kbpg.cli.opening import PATIENCE, opened
from kbpg.cli.texts import count
from kbpg.console import Console, Line, Style
from kbpg.errors import HostError
from kbpg.health.asking import of_docker, placed
from kbpg.health.diagnose import Diagnosis, examine
from kbpg.health.finding import Finding, Severity
from kbpg.health.looking import LOGS, Pass
from kbpg.model import CLUSTER, CONTROLLER
from kbpg.options import Options

_STYLES = {
    Severity.CRITICAL: Style.BAD,
    Severity.WARNING: Style.WARNING,
    Severity.NOTICE: Style.QUIET,
    Severity.OK: Style.GOOD,
}


def diagnose(options: Options) -> int:
    """Say what is wrong, and return the exit code: 0 healthy, 1 critical, 3 warnings only."""
    options.patience = PATIENCE
    ahead = Ahead(placed)
    begun = Pass()
    with Console(color=options.color, mask=options.masked) as console:
        console.busy("connecting to the hosts")
        with opened(
            options,
            console,
            "diagnose",
            lock=False,
            partial=True,
            credentials_exist=True,
            lenient=True,
            meanwhile=ahead,
            connected=lambda context, host: begun.ask(
                {host.name: host}, {host.name: of_docker(context, host.name)}
            ),
        ) as session:
            console.busy("reading the hosts")
            items = ahead.of(session.context)
            found = examine(session.context, session.hosts, session.unreachable, items, begun, LOGS)
        diagnosis = found.limited(options.limit) if options.limit else found
        kbpg = found.snapshot.kbpg if found.snapshot else "kbpg"
        if options.json:
            console.data(document(diagnosis, session.unreachable))
        else:
            console.result(shown(diagnosis, kbpg))
    return int(diagnosis.exit_code)


def document(diagnosis: Diagnosis, unreachable: Mapping[str, HostError]) -> dict[str, Any]:
    """Return what `--json` prints; its keys are in docs/json.md."""
    lost = [{"host": name, "reason": error.reason, "hint": error.hint} for name, error in unreachable.items()]
    return {**diagnosis.document(), "unreachable": lost}


def shown(diagnosis: Diagnosis, kbpg: str = "kbpg") -> list[Line]:
    """Return the findings as a tree, worst first, and the sum in the last line; `kbpg` is how it is called."""
    lines: list[Line] = []
    for severity in sorted(Severity, reverse=True):
        mine = [finding for finding in diagnosis.findings if finding.severity is severity]
        if mine:
            lines.append(Line(str(severity), _STYLES[severity]))
            lines += [line for finding in mine for line in finding_lines(finding, kbpg)]
            lines.append(Line())
    return [*lines, summary(diagnosis)]


def finding_lines(finding: Finding, kbpg: str) -> list[Line]:
    """Return one finding: where and what, why it matters, the evidence, what follows from it, what mends it."""
    notice = finding.severity is Severity.NOTICE
    lines = [
        Line(f"├─ {finding.host}: {finding.title}", Style.PLAIN if notice else Style.TITLE),
        Line(f"│    {finding.seen}"),
        *(Line(f"│      {text}", Style.QUIET) for text in finding.evidence),
        Line(f"│    why: {finding.why}"),
    ]
    if finding.explains:
        lines.append(Line(f"│    explains: {'; '.join(finding.explains)}"))
    lines.append(Line(f"│    mend: {finding.remedy}", Style.HINT))
    if finding.repair:
        risk = "" if finding.repair.risk == "none" else f" (risk: {finding.repair.risk})"
        command = repair_command(finding, kbpg)
        if command != finding.remedy:
            lines.append(Line(f"│    or let kbpg: {command}", Style.HINT))
        lines.append(Line(f"│      it will {finding.repair.will}{risk}"))
    return lines


def repair_command(finding: Finding, kbpg: str) -> str:
    """Return the command that lets kbpg mend the finding itself."""
    place = "" if finding.host in (CLUSTER, CONTROLLER) else f" --host {finding.host}"
    return f"{kbpg} diagnose --repair{place}"


def summary(diagnosis: Diagnosis) -> Line:
    """Return the last line: healthy or not, and how many of what."""
    counts = dict.fromkeys(Severity, 0)
    for finding in diagnosis.findings:
        counts[finding.severity] += 1
    parts = [f"{counts[Severity.CRITICAL]} critical"] if counts[Severity.CRITICAL] else []
    for severity in (Severity.WARNING, Severity.NOTICE):
        parts += [count(counts[severity], str(severity))] if counts[severity] else []
    parts.append(f"{count(diagnosis.passed, 'check')} ok")
    parts += [f"{diagnosis.unknown} could not be judged"] if diagnosis.unknown else []
    text = f"{', '.join(parts)} ({diagnosis.seconds:.1f} s)"
    if diagnosis.healthy:
        return Line(f"healthy: {text}", Style.GOOD)
    return Line(f"not healthy: {text}", _STYLES[diagnosis.worst])
