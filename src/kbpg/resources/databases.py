"""The inventory's own databases: their owner, their extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown
from kbpg.model import ABSENT, Change, Want
from kbpg.resources.sql import Database, OnLeader, extensions
from kbpg.resources.sql_facts import RowsFact

if TYPE_CHECKING:
    from kbpg.context import Context

_OWNERS = "select datname, pg_get_userbyid(datdba) from pg_catalog.pg_database"


class ManagedDatabase(Database):
    """A database of the inventory, which belongs to `owner`."""

    def __init__(self, context: Context, name: str, owner: str) -> None:
        super().__init__(context, name, owner)
        self._owner = owner
        self._owners = RowsFact(self._login, "database owners", _OWNERS)
        self.facts = (*self.facts, self._owners)

    def want(self, facts: Facts) -> Want:
        """Return encoding, who may connect, and the owner."""
        return {**self.wanted(), "owner": self._owner}

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        found = super().have(facts)
        if found is ABSENT or not isinstance(found, dict):
            return found
        owner = dict(facts.get(self._owners, self.leader(facts))).get(self._name)
        if owner is None:
            raise NotKnown(f"the owner of {self._name} cannot be read")
        return {**found, "owner": str(owner)}

    def fix(self, site: Site, change: Change) -> None:
        """Create the database, or mend who owns it and who may connect. Raises `NotConverged`."""
        from psycopg.sql import SQL, Identifier

        if change.have is ABSENT or not change.only("owner"):
            super().fix(site, change)
        self.execute(
            site, SQL("ALTER DATABASE {} OWNER TO {}").format(Identifier(self._name), Identifier(self._owner))
        )


class ManagedExtension(OnLeader):
    """An extension in a database of the inventory, at this version; without one, at any."""

    def __init__(self, context: Context, database: str, name: str, version: str | None) -> None:
        super().__init__(context, database)
        self.id = f"extension:{database}.{name}"
        self._name, self._version = name, version
        self._fact = extensions(context, database)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the version, if it matters."""
        return {"version": self._version or "any"}

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        found = dict(facts.get(self._fact, self.leader(facts)))
        if self._name not in found:
            return ABSENT
        return {"version": found[self._name] if self._version else "any"}

    def fix(self, site: Site, change: Change) -> None:
        """Create the extension, or update it. The server says so when it does not have it."""
        from psycopg.sql import SQL, Identifier, Literal

        name = Identifier(self._name)
        if change.have is not ABSENT:
            statement = SQL("ALTER EXTENSION {} UPDATE TO {}").format(name, Literal(self._version))
        elif self._version:
            statement = SQL("CREATE EXTENSION {} VERSION {}").format(name, Literal(self._version))
        else:
            statement = SQL("CREATE EXTENSION {}").format(name)
        self.execute(site, statement)
