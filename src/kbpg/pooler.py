"""PgBouncer's console, asked through a stream that a host opens."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from kbpg.errors import HostError
from kbpg.hosts.noted import noted
from kbpg.layout import POOLER_USER

if TYPE_CHECKING:
    import psycopg

    from kbpg.context import Context
    from kbpg.facts import Login
    from kbpg.hosts.port import Reader

QUIET: Final = 5
"""Looks in a row that find nothing being opened, until it is believed."""
GO_ON: Final = ("RESUME", "ENABLE")
"""Commands that clients wait for: they are given even where the host's lock was lost."""
LOGIN_DEADLINE: Final = 5.0
"""Seconds for connections that are being opened to be open: each takes milliseconds. A long transaction keeps one
that is to be replaced for longer, and nobody waits for that."""


def console(context: Context) -> Login:
    """Return how kbpg reaches PgBouncer's console: as the auth role, which the console trusts."""
    port = context.inventory.ports.pgbouncer
    return context.login(POOLER_USER, "pgbouncer_password", "pgbouncer", port)


def give(host: Reader, connection: psycopg.Connection[Any], text: str) -> None:
    """Give a console command to an open connection, and note it in the journal.

    Raises `psycopg.Error`, and `LockLost` for all but `GO_ON`.
    """
    with noted(host, ("PgBouncer", text), anyway=text.split()[0] in GO_ON):
        connection.execute(text.encode())


def command(context: Context, host: Reader, text: str) -> None:
    """Run one console command (RECONNECT, PAUSE, RESUME). Raises `HostError`."""
    import psycopg

    from kbpg import sql

    try:
        with sql.connect(host, console(context), pooled=True) as connection:
            give(host, connection, text)
    except (OSError, psycopg.Error) as error:
        raise HostError(host.name, f"PgBouncer did not take {text}: {sql.short(error)}") from error


def reconnect(context: Context, host: Reader, through: str | None = None) -> None:
    """Let every server connection be opened anew once its transaction has ended. Raises `HostError`.

    With `through`, an address, only where one of them leads there.

    RECONNECT drops connections that are being opened, and clients that wait for one are told so ("server login has
    been failing, cached error: connect string changed", seen with 1.24.1): it is given when none is or soon will be,
    and of two that want it of the same PgBouncer, such as both proxies' reloads, the second looks after the first.
    """
    import psycopg

    from kbpg import sql

    try:
        with _turn(host.name), sql.connect(host, console(context), pooled=True) as connection:
            if through is not None and not any(row["addr"] == through for row in rows(connection, "SERVERS")):
                return
            quiet, ends = 0, time.monotonic() + LOGIN_DEADLINE
            while quiet < QUIET and time.monotonic() < ends:
                quiet = quiet + 1 if _settled(connection) else 0
                time.sleep(0.02)
            give(host, connection, "RECONNECT")
    except (OSError, psycopg.Error) as error:
        raise HostError(host.name, f"PgBouncer did not take RECONNECT: {sql.short(error)}") from error


@cache
def _turn(host: str) -> threading.Lock:
    """Return what only one reconnect of a host's PgBouncer at a time holds."""
    return threading.Lock()


def _settled(connection: psycopg.Connection[Any]) -> bool:
    """Return whether no server connection is being opened or wanted, nor left for an earlier RECONNECT to replace.

    Two HAProxies that are reloaded together give two of them, and PgBouncer opens one connection of a pool at a time:
    between two it looks quiet for a moment. In a PAUSE none is opened, and all clients wait. Raises `psycopg.Error`.
    """
    if any(row["key"] == "paused" and row["value"] == "yes" for row in rows(connection, "STATE")):
        return True
    if any(row["sv_login"] or row["cl_waiting"] for row in rows(connection, "POOLS")):
        return False
    return not any(int(row["close_needed"]) for row in rows(connection, "SERVERS"))


def rows(connection: psycopg.Connection[Any], what: str) -> list[dict[str, Any]]:
    """Return the rows of SHOW `what`, by column. Raises `psycopg.Error`."""
    cursor = connection.execute(f"SHOW {what}".encode())
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def shown(context: Context, host: Reader, what: str) -> list[dict[str, Any]]:
    """Return the rows of SHOW `what`, by column. Raises `HostError`."""
    import psycopg

    from kbpg import sql

    try:
        with sql.connect(host, console(context), pooled=True) as connection:
            return rows(connection, what)
    except (OSError, psycopg.Error) as error:
        raise HostError(host.name, f"PgBouncer did not answer SHOW {what}: {sql.short(error)}") from error
