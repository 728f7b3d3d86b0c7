"""What lives in PostgreSQL once for the whole cluster: roles, databases, schemas, extensions.

All of it is read on every db host and taken from the one that leads; changes go to the leader alone.
Passwords are compared by recomputing the stored SCRAM verifier, and set as verifiers, so that no plaintext
reaches the server, its log or `pg_stat_statements`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kbpg import scram
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import NotConverged
from kbpg.facts import Fact, Facts
from kbpg.model import ABSENT, Change, Resource, State, Want
from kbpg.patroni import NodeFact, leader_of
from kbpg.resources.sql_facts import RolesFact, RowsFact
from kbpg.secret import Secret

if TYPE_CHECKING:
    from psycopg.sql import SQL, Composed


class OnLeader(Resource):
    """Something that exists once in PostgreSQL; `database` is where statements about it run."""

    def __init__(self, context: Context, database: str = "postgres") -> None:
        self._node = NodeFact(context.inventory.ports.patroni)
        self._hosts = context.db_names
        self._login = context.superuser(database)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask every db host who leads, and the resource's own facts."""
        return [(host, fact) for host in self._hosts for fact in (self._node, *self.facts)]

    def leader(self, facts: Facts) -> str:
        """Return the host that leads. Raises `NotKnown`."""
        return leader_of(facts, self._node, self._hosts)

    def found_now(self, site: Site, fact: RowsFact) -> Sequence[tuple[Any, ...]]:
        """Return what the leader answers to a question that only a fix has. Raises `NotKnown`."""
        leader = self.leader(site.facts)
        return site.look({leader: (fact,)}).get(fact, leader)

    def execute(self, site: Site, *statements: SQL | Composed) -> None:
        """Run statements on the leader. Raises `HostError`."""
        from kbpg import sql

        sql.execute(site.hosts[self.leader(site.facts)], self._login, *statements)


class Role(OnLeader):
    """A role that logs in with this password; it may be a superuser or a replication role, and else nothing."""

    def __init__(
        self,
        context: Context,
        name: str,
        password: Secret,
        *,
        superuser: bool = False,
        replication: bool = False,
    ) -> None:
        super().__init__(context)
        self.id = f"role:{name}"
        self._name, self._password = name, password
        self._attributes = {"superuser": superuser, "replication": replication}
        self._fact = RolesFact(self._login)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the attributes, and that the password matches."""
        return {"login": True, "valid": True, **self._attributes, "password": "matches"}

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        found = facts.get(self._fact, self.leader(facts)).get(self._name)
        if found is None:
            return ABSENT
        same = scram.matches(found["verifier"] or "", self._password)
        shown: State = {key: bool(found[key]) for key in ("login", "valid", "superuser", "replication")}
        return {**shown, "password": "matches" if same else "differs"}

    def fix(self, site: Site, change: Change) -> None:
        """Create or alter the role."""
        from psycopg.sql import SQL, Identifier, Literal

        verb = SQL("CREATE") if change.have is ABSENT else SQL("ALTER")
        options = ["LOGIN"]
        options += [name.upper() if on else f"NO{name.upper()}" for name, on in self._attributes.items()]
        if "valid" in change.names() and change.have is not ABSENT:
            options.append("VALID UNTIL 'infinity'")
        statement = SQL("{} ROLE {} WITH {}").format(verb, Identifier(self._name), SQL(" ".join(options)))
        # A new verifier of the same password would still shut out whoever PgBouncer has logged in before
        if change.have is ABSENT or "password" in change.names():
            statement += SQL(" PASSWORD {}").format(Literal(scram.verifier(self._password)))
        self.execute(site, statement)


def databases(context: Context) -> RowsFact:
    """Return the question for all databases: name, encoding, whether they take connections, who may connect."""
    query = (
        "select datname, pg_encoding_to_char(encoding), datallowconn, array(select"
        " coalesce(r.rolname, 'public') from aclexplode(coalesce(datacl, acldefault('d', datdba))) a left"
        " join pg_catalog.pg_authid r on r.oid = a.grantee where a.privilege_type = 'CONNECT')::text[]"
        " from pg_catalog.pg_database"
    )
    return RowsFact(context.superuser(), "databases", query)


class Database(OnLeader):
    """A database that `user` may connect to and the public may not; what others were granted stays."""

    def __init__(self, context: Context, name: str, user: str) -> None:
        super().__init__(context)
        self.id = f"database:{name}"
        self._name, self._user = name, user
        self.databases = self._fact = databases(context)
        self.facts: tuple[Fact[object], ...] = (self._fact,)

    def wanted(self) -> State:
        """Return encoding and who may connect."""
        return self._state("UTF8", True, [self._user])

    def want(self, facts: Facts) -> Want:
        """Return encoding and who may connect."""
        return self.wanted()

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        for name, encoding, allowed, connect in facts.get(self._fact, self.leader(facts)):
            if name == self._name:
                return self._state(encoding, allowed, connect)
        return ABSENT

    def _state(self, encoding: str, allowed: bool, connect: Sequence[str]) -> State:
        return {
            "encoding": encoding,
            "allows connections": allowed,
            f"{self._user} may connect": self._user in connect,
            "everybody may connect": "public" in connect,
        }

    def fix(self, site: Site, change: Change) -> None:
        """Create the database, or mend who may connect. Raises `NotConverged` for another encoding."""
        from psycopg.sql import SQL, Identifier

        name, user = Identifier(self._name), Identifier(self._user)
        if change.have is ABSENT:
            self.execute(site, SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(name))
        elif "encoding" in change.names():
            raise NotConverged(
                f"database {self._name} has another encoding: {'; '.join(change.lines())}",
                hint="an encoding cannot be changed in place: dump, create anew, restore",
            )
        self.execute(
            site,
            SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name),
            SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(name),
            SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(name, user),
        )


class Schema(OnLeader):
    """A schema in `database`, owned by `owner`."""

    def __init__(self, context: Context, database: str, name: str, owner: str) -> None:
        super().__init__(context, database)
        self.id = f"schema:{database}.{name}"
        self._name, self._owner = name, owner
        self._fact = RowsFact(
            self._login,
            "schemas",
            "select nspname, pg_get_userbyid(nspowner) from pg_catalog.pg_namespace",
        )
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the owner."""
        return {"owner": self._owner}

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        found = dict(facts.get(self._fact, self.leader(facts)))
        return {"owner": found[self._name]} if self._name in found else ABSENT

    def fix(self, site: Site, change: Change) -> None:
        """Create the schema, or give it to its owner."""
        from psycopg.sql import SQL, Identifier

        verb = "CREATE SCHEMA {} AUTHORIZATION {}" if change.have is ABSENT else "ALTER SCHEMA {} OWNER TO {}"
        self.execute(site, SQL(verb).format(Identifier(self._name), Identifier(self._owner)))


def extensions(context: Context, database: str) -> RowsFact:
    """Return the question for the extensions of `database` and their versions."""
    query = "select extname, extversion from pg_catalog.pg_extension"
    return RowsFact(context.superuser(database), "extensions", query)


class Extension(OnLeader):
    """An extension in `database` at this version."""

    def __init__(self, context: Context, database: str, name: str, version: str) -> None:
        super().__init__(context, database)
        self.id = f"extension:{name}"
        self._name, self._version = name, version
        self._fact = extensions(context, database)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the version."""
        return {"version": self._version}

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        found = dict(facts.get(self._fact, self.leader(facts)))
        return {"version": found[self._name]} if self._name in found else ABSENT

    def fix(self, site: Site, change: Change) -> None:
        """Create the extension, or update it. The server says so when there is no way to that version."""
        from psycopg.sql import SQL, Identifier, Literal

        create = "CREATE EXTENSION {} VERSION {}"
        verb = create if change.have is ABSENT else "ALTER EXTENSION {} UPDATE TO {}"
        self.execute(site, SQL(verb).format(Identifier(self._name), Literal(self._version)))
