"""The function that PgBouncer's auth role looks passwords up with: its text, its owner and who may call it."""

from __future__ import annotations

import hashlib
from typing import Any

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import ABSENT, Change, Want
from kbpg.render import render
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RowsFact

_QUERY = """
select p.prosrc, p.prosecdef, coalesce(array_to_string(p.proconfig, ', '), ''), pg_get_userbyid(p.proowner),
       (select string_agg(coalesce(r.rolname, 'public'), ', ' order by r.rolname)
          from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
          left join pg_catalog.pg_authid r on r.oid = a.grantee where a.grantee <> p.proowner),
       (select string_agg(coalesce(r.rolname, 'public'), ', ' order by r.rolname)
          from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
          left join pg_catalog.pg_authid r on r.oid = a.grantee where a.grantee <> n.nspowner)
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname = 'pgbouncer' and p.proname = 'user_lookup'
"""


class AuthQuery(OnLeader):
    """Schema and function `pgbouncer.user_lookup` in database postgres, for PgBouncer's auth role alone."""

    id = "function:pgbouncer.user_lookup"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context
        self._fact = RowsFact(self._login, "auth query", _QUERY)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the text's digest, the owner and the grantees."""
        body = render("sql/pgbouncer_user_lookup.body.sql.j2", inventory=self._context.inventory)
        owner = self._context.inventory.cluster.superuser
        return _state(
            body, True, "search_path=pg_catalog, pg_temp", owner, "pgbouncer_auth", "pgbouncer_auth"
        )

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        rows = facts.get(self._fact, self.leader(facts))
        return _state(*rows[0]) if len(rows) == 1 else ABSENT

    def fix(self, site: Site, change: Change) -> None:
        """Create schema and function anew, in one transaction."""
        from psycopg.sql import SQL

        text = render("sql/pgbouncer_auth.sql.j2", inventory=self._context.inventory)
        self.execute(site, SQL(f"BEGIN; {text}; COMMIT"))


def _state(
    source: Any, definer: Any, config: Any, owner: Any, callers: Any, users: Any
) -> dict[str, str | bool]:
    return {
        "text": hashlib.sha256(str(source).encode()).hexdigest()[:12],
        "security definer": bool(definer),
        "settings": str(config),
        "owner": str(owner),
        "may call it": str(callers),
        "may use its schema": str(users),
    }
