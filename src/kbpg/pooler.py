"""PgBouncer's console, asked through a stream that a host opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kbpg.errors import HostError
from kbpg.hosts.noted import noted
from kbpg.layout import POOLER_USER

if TYPE_CHECKING:
    import psycopg

    from kbpg.context import Context
    from kbpg.facts import Login
    from kbpg.hosts.port import Reader


def console(context: Context) -> Login:
    """Return how kbpg reaches PgBouncer's console: as the auth role, which the console trusts."""
    port = context.inventory.ports.pgbouncer
    return context.login(POOLER_USER, "pgbouncer_password", "pgbouncer", port)


def give(host: Reader, connection: psycopg.Connection[Any], text: str) -> None:
    """Give a console command to an open connection, and note it in the journal. Raises `psycopg.Error`."""
    with noted(host, ("PgBouncer", text)):
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
