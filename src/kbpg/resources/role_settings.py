"""Settings of a role: what PostgreSQL gives each of its sessions, whatever database and whoever connects."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.inventory import OwnRole
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RowsFact

_SETTINGS = """
select r.rolname, c.entry
  from pg_catalog.pg_db_role_setting s join pg_catalog.pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c(entry)
 where s.setdatabase = 0
"""
_UNITS = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds of PostgreSQL's units of time; a timeout without one is in milliseconds (its manual, 20.1.1)."""
NOT_SET = "not set"


def application(context: Context) -> dict[str, int]:
    """Return the timeouts of the application's role in seconds, by setting; only those the inventory sets."""
    own = context.inventory.postgresql
    return _given(own.app_idle_in_transaction_timeout, own.app_statement_timeout)


def of_role(role: OwnRole) -> dict[str, int]:
    """Return the same of a role of the inventory."""
    return _given(role.idle_in_transaction_timeout, role.statement_timeout)


def _given(idle_in_transaction: int | None, statement: int | None) -> dict[str, int]:
    wanted = {"idle_in_transaction_session_timeout": idle_in_transaction, "statement_timeout": statement}
    return {name: seconds for name, seconds in wanted.items() if seconds is not None}


class Timeouts(OnLeader):
    """A role has these timeouts, in seconds by the setting's name; 0 for none. Its other settings stay.

    PostgreSQL applies them as the role logs in, so they hold for sessions that begin afterwards, those of PgBouncer's
    pools among them: a pool is of one role. Its sessions of before end within an hour (`server_lifetime`).
    """

    def __init__(self, context: Context, role: str, timeouts: Mapping[str, int]) -> None:
        super().__init__(context)
        self.id = f"timeouts:{role}"
        self._role, self._timeouts = role, dict(timeouts)
        self._fact = RowsFact(self._login, "role settings", _SETTINGS)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the timeouts."""
        return {name: _shown(seconds) for name, seconds in self._timeouts.items()}

    def have(self, facts: Facts) -> Want:
        """Return what the role has on the leader."""
        rows = facts.get(self._fact, self.leader(facts))
        found = dict(str(entry).partition("=")[::2] for role, entry in rows if role == self._role)
        return {name: _read(found[name]) if name in found else NOT_SET for name in self._timeouts}

    def fix(self, site: Site, change: Change) -> None:
        """Set those that differ."""
        from psycopg.sql import SQL, Identifier, Literal

        statement = SQL("ALTER ROLE {} SET {} TO {}")
        role = Identifier(self._role)
        self.execute(
            site,
            *(
                statement.format(role, Identifier(name), Literal(f"{seconds}s"))
                for name, seconds in self._timeouts.items()
                if name in change.names()
            ),
        )


def _shown(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "none"


def _read(text: str) -> str:
    """Return a timeout as PostgreSQL keeps it, `10min`, the way it is shown here; what is none as it is."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if not match or match[2] not in _UNITS:
        return text
    return _shown(float(match[1]) * _UNITS[match[2]])
