"""PgBouncer's console, asked through a stream that a host opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kbpg.errors import HostError
from kbpg.facts import Login
from kbpg.layout import POOLER_USER

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.hosts.port import Reader


def console(context: Context) -> Login:
    """Return how kbpg reaches PgBouncer's console: as the auth role, which the console trusts."""
    port = context.inventory.ports.pgbouncer
    return Login(POOLER_USER, context.credentials.pgbouncer_password, "pgbouncer", port)


def command(context: Context, host: Reader, text: str) -> None:
    """Run one console command (RECONNECT, PAUSE, RESUME). Raises `HostError`."""
    import psycopg

    from kbpg import sql

    try:
        with sql.connect(host, console(context), pooled=True) as connection:
            connection.execute(text.encode())
    except (OSError, psycopg.Error) as error:
        raise HostError(host.name, f"PgBouncer did not take {text}: {sql.short(error)}") from error
