"""What in PostgreSQL is not in the inventory: seen and said, never dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Facts, NotKnown
from kbpg.layout import POOLER_USER, REPLICATION_USER, REWIND_USER
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader, databases
from kbpg.resources.sql_facts import RolesFact

if TYPE_CHECKING:
    from kbpg.context import Context


class Unmanaged(OnLeader):
    """Databases and roles that nobody asked for, or that left the inventory: remarked on, never dropped."""

    id = "unmanaged databases and roles"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context
        self._roles, self._databases = RolesFact(self._login), databases(context)
        self.facts = (self._roles, self._databases)

    def want(self, facts: Facts) -> Want:
        """Return nothing: whatever there is may stay."""
        return {}

    def have(self, facts: Facts) -> Want:
        """Return nothing."""
        return {}

    def fix(self, site: Site, change: Change) -> None:
        """Never: there is nothing to mend."""
        raise Refused("databases and roles are never dropped")

    def found(self, facts: Facts) -> tuple[list[str], list[str]]:
        """Return the names of the databases and of the roles that the inventory does not name."""
        try:
            leader = self.leader(facts)
            names = [str(row[0]) for row in facts.get(self._databases, leader)]
            roles = list(facts.get(self._roles, leader))
        except NotKnown:
            return [], []
        ours, own = managed_databases(self._context), managed_roles(self._context)
        return (
            sorted(name for name in names if name not in ours),
            sorted(name for name in roles if name not in own and not name.startswith("pg_")),
        )

    def remarks(self, facts: Facts) -> list[str]:
        """Return a line for each."""
        names, roles = self.found(facts)
        return [
            *(
                f"database {name} is not in the inventory: it stays, and kbpg does nothing about it"
                for name in names
            ),
            *(
                f"role {name} is not in the inventory: it stays, and kbpg does nothing about it"
                for name in roles
            ),
        ]


def managed_databases(context: Context) -> frozenset[str]:
    """Return the databases that are PostgreSQL's own or the inventory's."""
    return frozenset({"postgres", "template0", "template1", *context.inventory.database_names})


def managed_roles(context: Context) -> frozenset[str]:
    """Return the roles that are kbpg's or the inventory's."""
    credentials = context.credentials
    own = {role.name for role in context.inventory.roles}
    return frozenset(
        {credentials.superuser, credentials.app_user, REPLICATION_USER, REWIND_USER, POOLER_USER, *own}
    )
