"""What a command says at its end: the times, the way in, what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from kbpg.cli import texts
from kbpg.console import Line, Style
from kbpg.context import Context
from kbpg.engine.outcome import Report
from kbpg.errors import HostError
from kbpg.model import Status
from kbpg.options import DEFAULT_INVENTORY
from kbpg.uri import Kind, uri

WAYS = {
    Kind.POOLED: "pooled",
    Kind.DIRECT: "direct",
    Kind.READ_ONLY: "read-only",
    Kind.READ_ONLY_POOLED: "read-only-pooled",
}


def applied(report: Report, context: Context, seconds: float, *, whole: bool) -> list[Line]:
    """Return the end of an apply that went well; `whole` when it was all steps."""
    lines = [Line(), *texts.steps(report, seconds)]
    if not report.of(Status.CHANGED):
        lines.append(Line("nothing had to be changed", Style.GOOD))
    if context.limit:
        lines += [Line(f"note: {text}", Style.QUIET) for text in texts.remarks(report)]
    if not whole:
        return lines
    return [
        *lines,
        Line(),
        Line("connection strings", Style.TITLE),
        *texts.pairs(uris(context)),
        Line(),
        Line("next", Style.TITLE),
        *(Line(f"  {command(context, *words)}") for words in (("status",), ("diagnose",))),
        Line(f'  psql "$({command(context, "uri", "--show-password")})"'),
    ]


def uris(context: Context) -> dict[str, str]:
    """Return the application's connection strings by kind, passwords masked."""
    return {name: uri(context.inventory, context.credentials, kind) for kind, name in WAYS.items()}


def command(context: Context, *words: str) -> str:
    """Return a kbpg command for the inventory at hand, ready to be pasted into a shell."""
    path = context.inventory.path
    chosen = () if path == DEFAULT_INVENTORY else ("-i", str(path))
    return shlex.join(("kbpg", *chosen, *words))


def left_out(unreachable: Mapping[str, HostError]) -> list[Line]:
    """Return a line for each host that could be left out, because `--limit` does not name it."""
    return [Line(f"left out: {error}", Style.WARNING) for error in unreachable.values()]
