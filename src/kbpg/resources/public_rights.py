"""What everybody (PUBLIC) may do in a database: connect at most, and use what is in the schema public."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RowsFact

_RIGHTS = """
select exists (
         select from pg_catalog.pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
          where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'TEMPORARY'),
       exists (
         select from pg_catalog.pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
          where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE')
"""


class PublicRights(OnLeader):
    """Nobody makes tables in `database` who was not granted it: no temporary ones, none in the schema public.

    PostgreSQL 15 and newer revoke the second by themselves, in databases that were born there; one that was upgraded
    from before still has it.
    """

    def __init__(self, context: Context, database: str) -> None:
        super().__init__(context, database)
        self.id = f"grants:everybody in {database}"
        self._database = database
        self._fact = RowsFact(self._login, "rights of everybody", _RIGHTS)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that it may do neither."""
        return {"temporary tables": False, "tables in public": False}

    def have(self, facts: Facts) -> Want:
        """Return what it may do on the leader."""
        ((temporary, tables),) = facts.get(self._fact, self.leader(facts))
        return {"temporary tables": bool(temporary), "tables in public": bool(tables)}

    def fix(self, site: Site, change: Change) -> None:
        """Revoke what is too much."""
        from psycopg.sql import SQL, Identifier

        statements = []
        if "temporary tables" in change.names():
            on = Identifier(self._database)
            statements.append(SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(on))
        if "tables in public" in change.names():
            statements.append(SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC").format())
        self.execute(site, *statements)
