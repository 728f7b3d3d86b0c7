"""What the inventory's own roles may do: on databases, and in schemas with all that is and will be in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import Change, Want
from kbpg.resources.sql import OnLeader
from kbpg.resources.sql_facts import RowsFact

if TYPE_CHECKING:
    from psycopg.sql import SQL, Composed

_ON_DATABASES = """
select d.datname, r.rolname, a.privilege_type
  from pg_catalog.pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
  join pg_catalog.pg_roles r on r.oid = a.grantee
"""
_OBJECTS = """
select case c.relkind when 'S' then 'sequences' else 'tables' end as kind, c.*
  from pg_catalog.pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
"""
_IN_SCHEMAS = f"""
with object as ({_OBJECTS})
select 'schema', n.nspname, r.rolname, a.privilege_type, 1
  from pg_catalog.pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
  join pg_catalog.pg_roles r on r.oid = a.grantee
union all
select o.kind, n.nspname, r.rolname, a.privilege_type, count(distinct o.oid)
  from object o join pg_catalog.pg_namespace n on n.oid = o.relnamespace,
       aclexplode(o.relacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
 where a.grantee <> o.relowner group by 1, 2, 3, 4
union all
select 'all ' || o.kind, n.nspname, '', '', count(*)
  from object o join pg_catalog.pg_namespace n on n.oid = o.relnamespace group by 1, 2
union all
select 'own ' || o.kind, n.nspname, r.rolname, '', count(*)
  from object o join pg_catalog.pg_namespace n on n.oid = o.relnamespace
  join pg_catalog.pg_roles r on r.oid = o.relowner group by 1, 2, 3
union all
select case d.defaclobjtype when 'S' then 'future sequences' else 'future tables' end || ' of ' || c.rolname,
       n.nspname, r.rolname, a.privilege_type, 1
  from pg_catalog.pg_default_acl d join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace
  join pg_catalog.pg_roles c on c.oid = d.defaclrole, aclexplode(d.defaclacl) a
  join pg_catalog.pg_roles r on r.oid = a.grantee where d.defaclobjtype in ('r', 'S')
"""  # noqa: S608 - constants
_GIVEN_ON_DATABASES = """
select 'database', '', d.datname, r.rolname, a.privilege_type, g.rolname
  from pg_catalog.pg_database d, aclexplode(d.datacl) a
  join pg_catalog.pg_roles r on r.oid = a.grantee join pg_catalog.pg_roles g on g.oid = a.grantor
 where a.grantor <> d.datdba order by 6, 4, 3, 5
"""
_GIVEN_IN_SCHEMAS = f"""
with object as ({_OBJECTS})
select 'schema', n.nspname, '', r.rolname, a.privilege_type, g.rolname
  from pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
  join pg_catalog.pg_roles r on r.oid = a.grantee join pg_catalog.pg_roles g on g.oid = a.grantor
 where a.grantor <> n.nspowner
union all
select o.kind, n.nspname, o.relname, r.rolname, a.privilege_type, g.rolname
  from object o join pg_catalog.pg_namespace n on n.oid = o.relnamespace, aclexplode(o.relacl) a
  join pg_catalog.pg_roles r on r.oid = a.grantee join pg_catalog.pg_roles g on g.oid = a.grantor
 where a.grantor <> o.relowner order by 6, 1, 3, 5
"""  # noqa: S608 - constants
"""Rights that somebody else than the owner granted: kind, schema, object, who has it, what, who granted it."""

DATABASE_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "connect": ("CONNECT", "TEMPORARY"),
    "create": ("CONNECT", "TEMPORARY", "CREATE"),
}
SCHEMA_RIGHTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "none": {"schema": (), "tables": (), "sequences": ()},
    "read": {"schema": ("USAGE",), "tables": ("SELECT",), "sequences": ("SELECT",)},
    "write": {
        "schema": ("USAGE",),
        "tables": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "sequences": ("SELECT", "USAGE", "UPDATE"),
    },
    "create": {
        "schema": ("USAGE", "CREATE"),
        "tables": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "sequences": ("SELECT", "USAGE", "UPDATE"),
    },
}
"""What each kind of access means, by what it is about; views count as tables."""
ALL_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "database": DATABASE_RIGHTS["create"],
    "schema": ("USAGE", "CREATE"),
    "tables": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
    "sequences": ("SELECT", "USAGE", "UPDATE"),
}
"""All that can be granted (PostgreSQL 16's manual, table 5.2), and so all that may be too much."""
KEYWORDS = {"database": "DATABASE", "schema": "SCHEMA", "tables": "TABLE", "sequences": "SEQUENCE"}
"""What one thing of each kind is called in a GRANT."""
Rows = Sequence[tuple[Any, ...]]


def _text(rights: Iterable[str]) -> str:
    return ", ".join(rights) or "none"


class DatabaseGrant(OnLeader):
    """What a role may do on a database as such."""

    def __init__(self, context: Context, role: str, database: str, access: str) -> None:
        super().__init__(context)
        self.id = f"grant:{role} on {database}"
        self._role, self._database, self._wanted = role, database, DATABASE_RIGHTS[access]
        self._fact = RowsFact(self._login, "database grants", _ON_DATABASES)
        self.given = RowsFact(self._login, "database grants by others", _GIVEN_ON_DATABASES)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the rights."""
        return {"rights": _text(self._wanted)}

    def _found(self, facts: Facts) -> list[str]:
        rows = facts.get(self._fact, self.leader(facts))
        mine = {str(row[2]) for row in rows if row[:2] == (self._database, self._role)}
        return [right for right in ALL_RIGHTS["database"] if right in mine]

    def have(self, facts: Facts) -> Want:
        """Return the rights on the leader."""
        return {"rights": _text(self._found(facts))}

    def fix(self, site: Site, change: Change) -> None:
        """Grant what is missing, revoke what is too much."""
        from psycopg.sql import SQL, Identifier

        have = self._found(site.facts)
        target = SQL("ON DATABASE {}").format(Identifier(self._database))
        statements = _changes(self._wanted, have, target, Identifier(self._role))
        given = [row for row in self.found_now(site, self.given) if row[2] == self._database]
        self.execute(site, *statements, *_by_others(given, self._role, {"database": self._wanted}))


class SchemaGrant(OnLeader):
    """What a role may do in a schema: with all that is there, and what `creators` will create there."""

    def __init__(
        self, context: Context, role: str, database: str, schema: str, access: str, creators: Sequence[str]
    ) -> None:
        super().__init__(context, database)
        self.id = f"grant:{role} on {database}.{schema}"
        self._role, self._schema, self._wanted = role, schema, SCHEMA_RIGHTS[access]
        self._creators = [name for name in creators if name != role]
        self._fact = RowsFact(self._login, "grants in schemas", _IN_SCHEMAS)
        self.given = RowsFact(self._login, "grants in schemas by others", _GIVEN_IN_SCHEMAS)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the rights by what they are about."""
        future = {
            f"future {k} of {c}": _text(self._wanted[k])
            for c in self._creators
            for k in ("tables", "sequences")
        }
        return {**{kind: _text(rights) for kind, rights in self._wanted.items()}, **future}

    def have(self, facts: Facts) -> Want:
        """Return the rights on the leader."""
        rows = facts.get(self._fact, self.leader(facts))
        shown: dict[str, str] = {"schema": _text(self._held(rows, "schema"))}
        for kind in ("tables", "sequences"):
            shown[kind] = self._on_all(rows, kind)
        for creator in self._creators:
            for kind in ("tables", "sequences"):
                shown[f"future {kind} of {creator}"] = _text(self._held(rows, kind, creator))
        return shown

    def _counted(self, rows: Rows, kind: str, role: str) -> dict[str, int]:
        """Return how many objects of the schema each right of the role is about."""
        return {str(r[3]): int(r[4]) for r in rows if r[:3] == (kind, self._schema, role)}

    def _held(self, rows: Rows, kind: str, of: str = "") -> list[str]:
        """Return the rights the role has on a kind of thing; with `of`, on what that role will create."""
        held = self._counted(rows, f"future {kind} of {of}" if of else kind, self._role)
        return [right for right in ALL_RIGHTS[kind] if right in held]

    def _on_all(self, rows: Rows, kind: str) -> str:
        """Return the rights on all objects of a kind but the role's own; `3 of 5` where some lack it."""
        total = self._counted(rows, f"all {kind}", "").get("", 0)
        total -= self._counted(rows, f"own {kind}", self._role).get("", 0)
        if not total:
            return _text(self._wanted[kind])
        held = self._counted(rows, kind, self._role)
        counts = ((right, held.get(right, 0)) for right in ALL_RIGHTS[kind])
        return _text(right if n == total else f"{right} on {n} of {total}" for right, n in counts if n)

    def fix(self, site: Site, change: Change) -> None:
        """Grant what is missing, revoke what is too much; nothing that is right is taken away meanwhile."""
        from psycopg.sql import SQL, Identifier

        rows = site.facts.get(self._fact, self.leader(site.facts))
        schema, role = Identifier(self._schema), Identifier(self._role)
        statements = _changes(
            self._wanted["schema"], self._held(rows, "schema"), SQL("ON SCHEMA {}").format(schema), role
        )
        for kind in ("tables", "sequences"):
            word = SQL(kind.upper())
            held = self._counted(rows, kind, self._role)
            target = SQL("ON ALL {} IN SCHEMA {}").format(word, schema)
            statements += _changes(self._wanted[kind], held, target, role, partly=True)
            for creator in self._creators:
                before = SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} ").format(
                    Identifier(creator), schema
                )
                found = self._held(rows, kind, creator)
                changes = _changes(self._wanted[kind], found, SQL("ON {}").format(word), role)
                statements += [before + each for each in changes]
        given = [row for row in self.found_now(site, self.given) if row[1] == self._schema]
        self.execute(site, *statements, *_by_others(given, self._role, self._wanted))


def _changes(
    wanted: Sequence[str],
    held: Iterable[str],
    target: Composed,
    role: Composed | Any,
    *,
    partly: bool = False,
) -> list[Composed]:
    """Return a GRANT of what is missing and a REVOKE of what is too much.

    `partly`: what is held may be held on some objects only, so it is granted all the same.
    """

    have = set(held)
    more = [right for right in wanted if partly or right not in have]
    less = [right for right in sorted(have) if right not in wanted]
    found = []
    for verb, rights, to in (("GRANT", more, "TO"), ("REVOKE", less, "FROM")):
        if rights:
            found.append(_statement(verb, rights, target, to, role))
    return found


def _by_others(given: Rows, role: str, wanted: Mapping[str, Sequence[str]]) -> list[SQL | Composed]:
    """Return what takes from the role the rights that are too much and that others than the owner granted.

    A superuser's REVOKE is the owner's and leaves those; GRANTED BY takes nobody but the current user
    (ExecuteGrantStmt in PostgreSQL's aclchk.c). So each grantor revokes its own, object by object: of an object that
    it has no right on, it may revoke nothing, and says so with an error.
    """
    from psycopg.sql import SQL, Identifier

    too_much: dict[tuple[str, str, str, str], list[str]] = {}
    for kind, schema, name, grantee, right, grantor in given:
        if grantee == role and right in ALL_RIGHTS[kind] and right not in wanted[kind]:
            too_much.setdefault((grantor, kind, schema, name), []).append(right)
    statements: list[SQL | Composed] = []
    for (grantor, kind, schema, name), rights in too_much.items():
        target = SQL("ON {} {}").format(SQL(KEYWORDS[kind]), Identifier(*filter(None, (schema, name))))
        revoke = _statement("REVOKE", rights, target, "FROM", Identifier(role))
        statements += [SQL("SET ROLE {}").format(Identifier(grantor)), revoke, SQL("RESET ROLE")]
    return statements


def _statement(verb: str, rights: Sequence[str], target: Composed, to: str, role: Any) -> Composed:
    from psycopg.sql import SQL

    words: list[SQL | Composed] = [SQL(verb), SQL(", ").join(SQL(right) for right in rights)]
    return SQL(" ").join([*words, target, SQL(to), role])
