"""Questions to PostgreSQL that several resources and checks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbpg.facts import Login, SqlFact


@dataclass(frozen=True)
class RolesFact(SqlFact[Mapping[str, Mapping[str, Any]]]):
    """All roles by name, with their verifiers: for comparison in memory, never shown."""

    login: Login

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "sql:roles"

    @property
    def query(self) -> str:
        """Return the query."""
        return (
            "select rolname, rolcanlogin, rolsuper, rolreplication, rolpassword,"
            " rolvaliduntil is null or rolvaliduntil > now() from pg_catalog.pg_authid"
        )

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> Mapping[str, Mapping[str, Any]]:
        """Read the answer."""
        names = ("login", "superuser", "replication", "verifier", "valid")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


@dataclass(frozen=True)
class RowsFact(SqlFact[tuple[tuple[Any, ...], ...]]):
    """The rows of one query, as they come."""

    login: Login
    name: str
    sql: str
    pooled: bool = False
    live: bool = False

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"sql:{self.login.user}@{self.login.database}:{self.login.port}:{self.name}"

    @property
    def query(self) -> str:
        """Return the query."""
        return self.sql

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
        """Return the rows."""
        return tuple(rows)
