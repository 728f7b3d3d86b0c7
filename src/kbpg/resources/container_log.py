"""The end of a container's log, as evidence: without the lines that only say who came and went.

PostgreSQL writes three or four lines for each connection (`log_connections`, tuning.py). They are worth keeping, and
`kbpg logs` shows them, but they tell nothing about a fault, and would push out of a short tail what does.
"""

from __future__ import annotations

import re
import shlex

CONNECTIONS = "LOG: +((replication )?connection (received|authenticated|authorized)|disconnection): "
"""A pattern for `grep -E` and for Python alike; the texts are PostgreSQL's (backend_startup.c, auth.c, postinit.c,
postgres.c), whose servers speak English. A connection that is refused says so otherwise, and stays."""
READ_LINES = 2000
"""Lines that are looked through for those that stay: whole ones, however few of the last say anything."""
_CONNECTION = re.compile(CONNECTIONS)


def read_command(name: str) -> list[str]:
    """Return the command that prints enough of the log for `last_lines`."""
    return ["docker", "logs", "--tail", str(READ_LINES), name]


def last_lines(text: str, lines: int) -> list[str]:
    """Return the last lines of `text` that are no connection's, `lines` at most."""
    return [line for line in text.strip().splitlines() if not _CONNECTION.search(line)][-lines:]


def script(name: str, lines: int) -> str:
    """Return a fragment of shell that prints the same; each line gets an end, the last one too."""
    kept = f"LC_ALL=C grep -a -v -E {shlex.quote(CONNECTIONS)}"
    return f"{shlex.join(read_command(name))} 2>&1 | {kept} | tail -n {lines}"
