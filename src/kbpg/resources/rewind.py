"""What pg_rewind's role may do: read files of the leader, through four functions."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RowsFact

FUNCTIONS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""PostgreSQL's documentation of pg_rewind, and patroni/postgresql/bootstrap.py, which grants them once."""


class RewindRights(OnLeader):
    """The role may execute what pg_rewind needs: else a former leader cannot rejoin after a failover."""

    def __init__(self, context: Context, role: str) -> None:
        super().__init__(context)
        self.id = f"grants:{role}"
        self._role = role
        checks = ", ".join(f"bool_and(has_function_privilege(r.oid, '{f}', 'execute'))" for f in FUNCTIONS)
        query = f"select {checks} from pg_catalog.pg_roles r where r.rolname = '{role}'"  # noqa: S608 (constants)
        self._fact = RowsFact(self._login, "rewind rights", query)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that all may be executed."""
        return {"may execute": len(FUNCTIONS)}

    def have(self, facts: Facts) -> Want:
        """Return how many may be executed."""
        (row,) = facts.get(self._fact, self.leader(facts))
        return {"may execute": sum(1 for allowed in row if allowed)}

    def fix(self, site: Site, change: Change) -> None:
        """Grant them."""
        from psycopg.sql import SQL, Identifier

        grant = "GRANT EXECUTE ON FUNCTION {} TO {{}}"
        role = Identifier(self._role)
        self.execute(site, *(SQL(grant.format(function)).format(role) for function in FUNCTIONS))
