"""The superuser's password, mended through the way in that needs none: the socket inside the container.

All other roles are read and altered as the superuser. When its own password in the credentials file was edited, or
its time is over, PostgreSQL refuses kbpg, and nothing else could be mended.
"""

from __future__ import annotations

from kbpg import scram
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import REFUSED, Facts, NotKnown
from kbpg.layout import PATRONI, USER
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RolesFact


class SuperuserAccess(OnLeader):
    """PostgreSQL lets the superuser in with the password of the credentials file."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._name, self._password = context.credentials.superuser, context.credentials.superuser_password
        self.id = f"access:{self._name}"
        self._fact = RolesFact(self._login)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that the password is taken."""
        return {"password": "accepted"}

    def have(self, facts: Facts) -> Want:
        """Return whether it is. Raises `NotKnown` where PostgreSQL says neither."""
        leader = self.leader(facts)
        try:
            facts.get(self._fact, leader)
        except NotKnown as reason:
            if REFUSED in reason.reason:
                return {"password": "refused"}
            raise
        return {"password": "accepted"}

    def fix(self, site: Site, change: Change) -> None:
        """Set the verifier, valid for ever, through the socket, where the container's own user is the superuser.

        The log gets none of it.
        """
        from psycopg.sql import SQL, Identifier, Literal

        from kbpg.sql import UNLOGGED

        unlogged = "".join(f"SET {name} = '{value}';\n" for name, value in UNLOGGED.items())
        statement = SQL("ALTER ROLE {} WITH LOGIN PASSWORD {} VALID UNTIL 'infinity'").format(
            Identifier(self._name), Literal(scram.verifier(self._password))
        )
        psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", self._name, "-d", "postgres", "-f", "-"]
        site.hosts[self.leader(site.facts)].run(
            ["docker", "exec", "--interactive", "--user", str(USER), PATRONI, *psql],
            stdin=f"{unlogged}{statement.as_string()};\n".encode(),
        )
