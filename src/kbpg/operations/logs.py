"""The logs of a host's containers, as Docker keeps them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kbpg.context import Context
from kbpg.errors import UsageError
from kbpg.layout import HAPROXY, PATRONI, PGBOUNCER

COMPONENTS = (PATRONI, HAPROXY, PGBOUNCER)
LINES = 100
"""Lines that are shown where nobody said since when."""
LONGEST = 1 << 16
"""Bytes of a line that is shown. Of a longer one only the length is: a secret might stand where it is cut."""
_SINCE = re.compile(r"(\d+[hms])+|\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?")
_OPEN = re.compile(r"\bPASSWORD\s*$", re.IGNORECASE)
# A program that writes nothing for hours would not notice that nobody reads: the end of standard input tells.
_SCRIPT = """\
exec 3<&0
docker logs "$@" 2>&1 & reads=$!
(cat <&3 >/dev/null; kill "$reads") 2>/dev/null & waits=$!
exec 3<&-
wait "$reads"; status=$?
kill "$waits" 2>/dev/null
exit "$status"
"""


def container_of(context: Context, host: str, component: str) -> str:
    """Return the container to look at. Raises `UsageError` where the host has no such component."""
    role = context.inventory.host(host).role
    there = (PATRONI,) if role == "db" else (HAPROXY, PGBOUNCER)
    if component in there:
        return component
    others = context.proxy_names if role == "db" else context.db_names
    if component in COMPONENTS:
        hint = f"{component} runs on {', '.join(others)}; {host} has {' and '.join(there)}"
        raise UsageError(f"{host} has no {component}", hint=hint)
    hint = f"on {host}: {' or '.join(there)}; PostgreSQL writes into {PATRONI}'s log"
    raise UsageError(f"unknown component {component}", hint=hint)


def command(container: str, *, follow: bool, since: str | None, lines: int | None) -> list[str]:
    """Return the command that prints the log, and ends when its standard input does. Raises `UsageError`.

    `since` is a duration back from now ("90s", "10m", "1h30m") or a time in ISO 8601.
    """
    if since is not None and not _SINCE.fullmatch(since):
        raise UsageError(
            f"--since: not a duration or time: {since}", hint="such as 10m, 2h, 2026-11-23T15:00:00Z"
        )
    words = ["--follow"] if follow else []
    words += ["--since", since] if since else []
    if lines is not None or since is None:
        words += ["--tail", str(LINES if lines is None else lines)]
    return ["sh", "-c", _SCRIPT, "logs", *words, container]


def masked_lines(chunks: Iterator[bytes], mask: Callable[[str], str]) -> Iterator[str]:
    """Yield whole lines of `chunks`, masked: a secret never stands across the border of two pieces.

    A statement may stand on several lines, with a password on the one after its word: they are masked together. Of a
    line longer than `LONGEST` its length is told, and it counts as one that ends with that word.
    """
    before = ""
    for line in _lines(chunks):
        if isinstance(line, int):
            yield f"… {line} bytes not shown: one line"
            before = "PASSWORD"
            continue
        yield mask(f"{before}\n{line}").rpartition("\n")[2]
        before = line if _OPEN.search(line) else ""


def _lines(chunks: Iterator[bytes]) -> Iterator[str | int]:
    """Yield each line, or the length in bytes of one that is longer than `LONGEST`, of which nothing is kept."""
    line, dropped = b"", 0
    for chunk in chunks:
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:
                yield dropped or line.decode(errors="replace")
                line, dropped = b"", 0
            line += piece
            if dropped or len(line) > LONGEST:
                line, dropped = b"", dropped + len(line)
    if line or dropped:
        yield dropped or line.decode(errors="replace")
