"""The table that validate writes to: its own, in the application's schema, and gone at the end."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from kbpg import sql
from kbpg.errors import HostError
from kbpg.facts import Login
from kbpg.health.validation.aside import NoResult

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.hosts.port import Reader

PREFIX = "kbpg_validate_"
DIMENSIONS = 16
"""Of the vectors that are written."""
ABANDONED = "1 hour"
"""How old a table of a validate that was killed is when the next one removes it."""

_CREATE = """
create table {table} (
    id bigint generated always as identity primary key,
    through text not null,
    embedding vector({dimensions})
)
"""
_ABANDONED = """
select c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = {schema} and c.relkind = 'r' and c.relname ~ {pattern}
   and pg_catalog.obj_description(c.oid, 'pg_class')::timestamptz < now() - {age}::interval
"""


class Trial:
    """A table that exists from its first use until `remove`.

    Usable from several threads. It is made and removed through any proxy that leads to the leader.
    """

    def __init__(self, context: Context, hosts: Mapping[str, Reader]) -> None:
        self._context, self._hosts = context, hosts
        self.schema = context.credentials.app_user
        self.name = f"{PREFIX}{secrets.token_hex(6)}"
        self._exists = False
        self._lock = threading.Lock()

    @property
    def table(self) -> Identifier:
        """Return the table's name for a statement, quoted."""
        return Identifier(self.schema, self.name)

    @property
    def made(self) -> bool:
        """Return whether the table may be there."""
        return self._exists

    def make(self) -> None:
        """Create the table, unless it is there. Raises `NoResult` where no way leads to the leader."""
        with self._lock:
            if not self._exists:
                self._through_any(self._create)

    def remove(self) -> str:
        """Drop the table and look whether it is gone; return "" or why it is not. Never raises."""
        with self._lock:
            if not self._exists:
                return ""
            try:
                self._through_any(self._drop)
            except NoResult as reason:
                return str(reason)
            self._exists = False
            return ""

    def _create(self, connection: psycopg.Connection[Any]) -> None:
        pattern = Literal(f"^{PREFIX}[0-9a-f]{{12}}$")
        abandoned = SQL(_ABANDONED).format(
            schema=Literal(self.schema), pattern=pattern, age=Literal(ABANDONED)
        )
        with connection.transaction():
            for (name,) in connection.execute(abandoned).fetchall():
                connection.execute(self._dropping(name))
        # From here on it may be there, whatever becomes of the connection
        self._exists = True
        with connection.transaction():
            create = SQL(_CREATE).format(table=self.table, dimensions=SQL(str(DIMENSIONS)))
            connection.execute(create)
            now = connection.execute("select now()::text").fetchone()
            assert now is not None  # noqa: S101
            connection.execute(SQL("comment on table {} is {}").format(self.table, Literal(now[0])))

    def _drop(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(self._dropping(self.name))
        query = SQL("select to_regclass({})").format(Literal(f'"{self.schema}"."{self.name}"'))
        row = connection.execute(query).fetchone()
        if row is None or row[0] is not None:
            raise NoResult(f"{self.schema}.{self.name} is still there")

    def _dropping(self, name: str) -> Composed:
        return SQL("drop table if exists {}").format(Identifier(self.schema, name))

    def _through_any(self, work: Callable[[psycopg.Connection[Any]], None]) -> None:
        """Do `work` as the application through the first way that works: each proxy's HAProxy, then PgBouncer."""
        reason = "no proxy is connected"
        ports = self._context.inventory.ports
        for port in (ports.primary, ports.pgbouncer):
            for proxy in self._context.proxy_names:
                if proxy not in self._hosts:
                    continue
                try:
                    with sql.connect(self._hosts[proxy], self._login(port), pooled=True) as connection:
                        work(connection)
                except psycopg.errors.DuplicateTable:
                    return
                except (OSError, psycopg.Error, HostError) as error:
                    reason = f"{proxy} port {port}: {_why(error)}"
                else:
                    return
        raise NoResult(reason)

    def _login(self, port: int) -> Login:
        return self._context.application(port)


def _why(error: Exception) -> str:
    return error.reason if isinstance(error, HostError) else sql.short(error)
