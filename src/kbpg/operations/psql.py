"""psql in a db host's own container: over the socket as the superuser, or through PgBouncer as the application.

The socket asks for no password (`peer`, see templates/patroni/patroni.yml.j2). The one for PgBouncer goes into a
file in the container's memory, through standard input, and is removed when psql has had time to read it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.context import Context
from kbpg.hosts.port import Writer
from kbpg.layout import OWNER, PATRONI
from kbpg.secret import Secret
from kbpg.tls import CA_FILE, DIRECTORY

CONNECT_TIMEOUT = 5
"""Seconds psql waits for each proxy."""
_LEAVE = """\
umask 077
file=$(mktemp /run/postgresql/kbpg-pass.XXXXXX) && cat >"$file" && printf %s "$file"
"""
_USE = """\
file=$1; seconds=$2; shift 2
(sleep "$seconds"; rm -f -- "$file") </dev/null >/dev/null 2>&1 &
PGPASSFILE=$file exec psql "$@"
"""


def direct(context: Context, words: Sequence[str], *, terminal: str | None) -> list[str]:
    """Return the command for psql as the superuser, over the node's socket.

    `words` are psql's own arguments; `terminal` is the terminal's kind, None where there is none.
    """
    settings = {
        "PGUSER": context.credentials.superuser,
        "PGDATABASE": context.inventory.cluster.database,
        "PGPORT": str(context.inventory.ports.postgresql),
    }
    return [*_exec(settings, terminal), "psql", *words]


def pooled(context: Context, words: Sequence[str], *, terminal: str | None, password_file: str) -> list[str]:
    """Return the command for psql as the application, through PgBouncer; `password_file` is from `leave_password`."""
    proxies = context.inventory.proxies
    settings = {
        "PGUSER": context.credentials.app_user,
        "PGDATABASE": context.inventory.cluster.database,
        "PGHOST": ",".join(str(proxy.address) for proxy in proxies),
        "PGPORT": str(context.inventory.ports.pgbouncer),
        "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
    }
    if context.inventory.tls.mode == "require":
        settings |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": f"/etc/patroni/{DIRECTORY}/{CA_FILE}"}
    seconds = CONNECT_TIMEOUT * len(proxies) + CONNECT_TIMEOUT
    return [*_exec(settings, terminal), "sh", "-c", _USE, "psql", password_file, str(seconds), *words]


def _exec(settings: dict[str, str], terminal: str | None) -> list[str]:
    """Return the beginning of the command. What is typed is not kept: a statement may hold a password."""
    more = {"PSQL_HISTORY": "/dev/null", **({"TERM": terminal} if terminal else {})}
    named = [word for name, value in {**settings, **more}.items() for word in ("--env", f"{name}={value}")]
    start = ["docker", "exec", "--interactive", *(["--tty"] if terminal else []), "--user", OWNER]
    return [*start, *named, PATRONI]


def leave_password(context: Context, host: Writer) -> str:
    """Put the application's password where `pooled` finds it and return the path. Raises `HostError`."""
    argv = ["docker", "exec", "--interactive", "--user", OWNER, PATRONI, "sh", "-c", _LEAVE]
    return host.run(argv, stdin=_line(context.credentials.app_password).encode()).stdout


def _line(password: Secret) -> str:
    """Return the line of libpq's password file that fits every server."""
    escaped = password.reveal().replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"
