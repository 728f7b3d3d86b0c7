"""The inventory's own roles: what they are, their passwords, whose members they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kbpg import scram
from kbpg.credentials import role_password_name
from kbpg.engine.site import Site
from kbpg.errors import NotConverged, Refused
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.model import ABSENT, Change, State, Want
from kbpg.resources.birth import born, signs
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RolesFact, RowsFact

if TYPE_CHECKING:
    from psycopg.sql import SQL, Composed

    from kbpg.context import Context
    from kbpg.inventory import OwnRole

_ATTRIBUTES = """
select r.rolname, r.rolconnlimit, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls, r.rolinherit,
       array(select distinct g.rolname from pg_catalog.pg_auth_members m
               join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid order by g.rolname)::text[]
  from pg_catalog.pg_roles r
"""
_GRANTORS = """
select r.rolname, g.rolname, w.rolname
  from pg_catalog.pg_auth_members m join pg_catalog.pg_roles r on r.oid = m.member
  join pg_catalog.pg_roles g on g.oid = m.roleid join pg_catalog.pg_roles w on w.oid = m.grantor
 where m.grantor <> 10 order by 1, 2, 3
"""
"""Memberships that somebody else than the first superuser (BOOTSTRAP_SUPERUSERID, 10) granted. From PostgreSQL 16 on
there is one for each grantor; a superuser's GRANT and REVOKE are the first superuser's."""
RIGHTS = ("createdb", "createrole", "bypassrls")
"""What no role of the inventory has, besides being a superuser or a replication role."""
NOT_WRITTEN_DOWN = "not in the credentials file"
NOBODY_TELLS = "unknown, without a leader"


def attributes(context: Context) -> RowsFact:
    """Return the question for the attributes and memberships of all roles."""
    return RowsFact(context.superuser(), "role attributes", _ATTRIBUTES)


class ManagedRole(OnLeader):
    """A role of the inventory: a password where it logs in, and no right that reaches beyond data."""

    def __init__(self, context: Context, role: OwnRole) -> None:
        super().__init__(context)
        self.id = f"role:{role.name}"
        self.name = role.name
        self._role = role
        self._password = context.credentials.roles.get(role.name)
        self._made_up = role_password_name(role.name) in context.credentials.generated
        self._roles, self._attributes = RolesFact(self._login), attributes(context)
        self.facts = (self._roles, self._attributes)

    def want(self, facts: Facts) -> Want:
        """Return the attributes, and that the password matches."""
        limit = self._role.connection_limit
        shown = self._state(self._role.login, "none" if limit is None else limit, "none")
        return {**shown, "password": "matches"} if self._role.login else shown

    def have(self, facts: Facts) -> Want:
        """Return what the leader has."""
        leader = self.leader(facts)
        found = facts.get(self._roles, leader).get(self.name)
        if found is None:
            return ABSENT
        row = next((row for row in facts.get(self._attributes, leader) if row[0] == self.name), None)
        if row is None:
            raise NotKnown(f"the attributes of {self.name} cannot be read")
        has = [name for name in ("superuser", "replication") if found[name]]
        has += [name for name, on in zip(RIGHTS, row[2:5], strict=True) if on]
        has += [] if row[5] else ["noinherit"]
        limit = "none" if row[1] < 0 else int(row[1])
        shown = self._state(bool(found["login"]), limit, ", ".join(has) or "none", bool(found["valid"]))
        if not self._role.login:
            return shown
        return {**shown, "password": self._compared(found["verifier"])}

    def _compared(self, verifier: str | None) -> str:
        if self._password is not None and scram.matches(verifier or "", self._password):
            return "matches"  # made up in this run, it may be the role's by now
        return NOT_WRITTEN_DOWN if verifier and self._made_up else "differs"

    def _state(self, login: bool, limit: str | int, rights: str, valid: bool = True) -> dict[str, Any]:
        return {"login": login, "connection limit": limit, "more rights": rights, "valid": valid}

    def fix(self, site: Site, change: Change) -> None:
        """Create or alter the role. Raises `NotConverged` rather than replace a password that nobody told."""
        from psycopg.sql import SQL, Identifier, Literal

        if isinstance(change.have, dict) and change.have.get("password") == NOT_WRITTEN_DOWN:
            raise NotConverged(_lost(self.name), hint=_put_it(self.name))
        limit = self._role.connection_limit
        words = "NOSUPERUSER NOREPLICATION NOCREATEDB NOCREATEROLE NOBYPASSRLS INHERIT"
        login = "LOGIN" if self._role.login else "NOLOGIN"
        options: list[SQL | Composed] = [SQL(login), SQL(words)]
        options.append(SQL("CONNECTION LIMIT {}").format(Literal(-1 if limit is None else limit)))
        if change.have is not ABSENT and "valid" in change.names():
            options.append(SQL("VALID UNTIL 'infinity'"))
        # A new verifier of the same password would still shut out whoever PgBouncer has logged in before
        if self._password is not None and (change.have is ABSENT or "password" in change.names()):
            options.append(SQL("PASSWORD {}").format(Literal(scram.verifier(self._password))))
        verb = SQL("CREATE") if change.have is ABSENT else SQL("ALTER")
        self.execute(
            site, SQL("{} ROLE {} WITH {}").format(verb, Identifier(self.name), SQL(" ").join(options))
        )


def _lost(name: str) -> str:
    return f"role {name} has a password that the credentials file does not have"


def _put_it(name: str) -> str:
    return (
        f"put it there as {role_password_name(name)}=…; or, to have a new one generated: "
        f"ALTER ROLE {name} PASSWORD NULL"
    )


class PasswordKnown(OnLeader):
    """No password is made up for a role that has one, or may have one: what applications use is not replaced."""

    def __init__(self, context: Context, role: str) -> None:
        super().__init__(context)
        self.id = f"role password:{role}"
        self._name, self._context = role, context
        self._made_up = role_password_name(role) in context.credentials.generated
        self._roles = RolesFact(self._login)
        self.facts = (self._roles,)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask the leader for the role, and all db hosts whether there is a cluster at all."""
        return [*super().asks(place, context), *(signs(context) if self._made_up else ())]

    def want(self, facts: Facts) -> Want:
        """Return that the file has it, or that there is none."""
        return {"password": "known"}

    def have(self, facts: Facts) -> Want:
        """Return whether a password is in use that the file lacks, or may be: a cluster is there, but no leader."""
        if not self._made_up:
            return self.want(facts)
        try:
            found = facts.get(self._roles, self.leader(facts)).get(self._name)
        except NotKnown:
            return {"password": NOBODY_TELLS if born(self._context, facts) else "known"}
        return {"password": NOT_WRITTEN_DOWN if found and found["verifier"] else "known"}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what there is, and what to do."""
        if isinstance(change.have, dict) and change.have.get("password") == NOBODY_TELLS:
            lacks = f"the credentials file has no password for role {self._name}"
            return [
                f"{lacks}, and without a leader nobody tells whether the role has one",
                f"hint: {_put_it_or_wait(self._name)}",
            ]
        return [_lost(self._name), f"hint: {_put_it(self._name)}"]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused(_lost(self._name))


def _put_it_or_wait(name: str) -> str:
    return (
        f"put it there as {role_password_name(name)}=…; or, if the role is new, take it out of the inventory until "
        "the cluster has a leader again"
    )


class Membership(OnLeader):
    """The roles that a role is a member of: those of the inventory and no others."""

    def __init__(self, context: Context, role: OwnRole) -> None:
        super().__init__(context)
        self.id = f"membership:{role.name}"
        self._name, self._groups = role.name, sorted(role.member_of)
        self._fact = attributes(context)
        self.given = RowsFact(self._login, "grantors of memberships", _GRANTORS)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the groups."""
        return _groups(self._groups)

    def have(self, facts: Facts) -> Want:
        """Return the groups on the leader."""
        return _groups(self._found(facts))

    def _found(self, facts: Facts) -> list[str]:
        for row in facts.get(self._fact, self.leader(facts)):
            if row[0] == self._name:
                return sorted(row[6])
        raise NotKnown(f"waits for role {self._name}")

    def fix(self, site: Site, change: Change) -> None:
        """Grant what is missing, revoke what is too much, whoever granted it."""
        from psycopg.sql import SQL, Identifier

        have, role = self._found(site.facts), Identifier(self._name)
        grant, revoke = SQL("GRANT {} TO {}"), SQL("REVOKE {} FROM {}")
        statements = [grant.format(Identifier(g), role) for g in self._groups if g not in have]
        less = [group for group in have if group not in self._groups]
        statements += [revoke.format(Identifier(g), role) for g in less]
        statements += [
            revoke.format(Identifier(group), role) + SQL(" GRANTED BY {}").format(Identifier(grantor))
            for member, group, grantor in self.found_now(site, self.given)
            if member == self._name and group in less
        ]
        self.execute(site, *statements)


def _groups(names: Sequence[str]) -> State:
    return {"member of": ", ".join(names) or "none"}
