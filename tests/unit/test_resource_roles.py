"""The inventory's own roles and databases: what is seen on the leader, and the statements that mend it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from psycopg.sql import SQL, Composed

from kbpg import scram
from kbpg.cli import texts
from kbpg.cli.documents import planned
from kbpg.context import Context
from kbpg.credentials import generate
from kbpg.engine.compare import Comparison, compare
from kbpg.engine.outcome import Outcome, Report
from kbpg.errors import NotConverged, Refused
from kbpg.facts import Fact, Facts, Knowledge, Login, SqlFact
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Reader
from kbpg.inventory import parse
from kbpg.model import ABSENT, CLUSTER, Placed, Resource, Status
from kbpg.patroni import NodeFact
from kbpg.resources.birth import signs
from kbpg.resources.databases import ManagedDatabase, ManagedExtension
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact, DataState
from kbpg.resources.grants import DatabaseGrant, SchemaGrant
from kbpg.resources.roles import ManagedRole, Membership, PasswordKnown
from kbpg.resources.unmanaged import Unmanaged
from kbpg.steps import databases, s05_pgvector

from .certificates import placeholders
from .small_cluster import DATABASES, HOSTS, knowing, site

TEXT = """
cluster: {name: kb}
databases:
  - {name: shop, owner: shop_owner, schemas: [sales], extensions: [vector, pg_trgm]}
roles:
  - {name: shop_owner, connection_limit: 40}
  - {name: readers, login: false, grants: [{on: shop.sales, access: read}, {on: keybuzz, access: none}]}
  - {name: reporting, member_of: [readers, pg_monitor]}
"""
NODE = NodeFact(8008)
LEADER = "db-1"
Rows = Sequence[tuple[Any, ...]]


def context(text: str = TEXT, *, written: bool = True) -> Context:
    inventory = parse(text + HOSTS, "i.yaml")
    credentials = generate("kb_admin", "kb_app", inventory.login_roles)
    if written:
        credentials = dataclasses.replace(credentials, generated=frozenset())
    return Context(inventory, credentials, pki=placeholders(inventory))


CONTEXT = context()
ROLES = {role.name: role for role in CONTEXT.inventory.roles}


def known(resource: Resource, answers: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return what the hosts say: `answers` by the name of the question on the leader, nonsense elsewhere.

    What only a fix asks is answered by no rows, where `answers` has nothing.
    """
    found: dict[str, dict[str, object]] = {}
    for name in DATABASES:
        role = "primary" if name == LEADER else "replica"
        found[name] = {NODE.key: NODE.parse(200, {"state": "running", "role": role})}
        for fact in resource.facts:
            assert isinstance(fact, SqlFact)
            what = getattr(fact, "name", "roles")
            found[name][fact.key] = answers[what] if name == LEADER else ()
        if isinstance(resource, Membership | DatabaseGrant | SchemaGrant):
            found[name][resource.given.key] = answers.get(resource.given.name, ()) if name == LEADER else ()
    return found


def compared(resource: Resource, **answers: object) -> Comparison:
    by_name = {name.replace("_", " "): answer for name, answer in answers.items()}
    return compare(Placed(CLUSTER, resource), knowing(known(resource, by_name), CLUSTER))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def execute(reader: Reader, login: Login, *given: SQL | Composed) -> None:
        assert (reader.name, login.user) == (LEADER, "kb_admin")
        seen.extend(f"{login.database}: {statement.as_string(None)}" for statement in given)

    monkeypatch.setattr("kbpg.sql.execute", execute)
    return seen


def fix(resource: Resource, **answers: object) -> None:
    change = compared(resource, **answers).change
    assert change is not None
    world = {name: FakeHost(name) for name in DATABASES}
    by_name = {name.replace("_", " "): answer for name, answer in answers.items()}
    resource.fix(site(CLUSTER, world, known(resource, by_name)), change)


# --- roles -------------------------------------------------------------------------------------------


def has(name: str, **changes: object) -> dict[str, dict[str, object]]:
    right = {"login": True, "superuser": False, "replication": False, "valid": True}
    password = CONTEXT.credentials.roles.get(name)
    return {name: {**right, "verifier": scram.verifier(password) if password else None, **changes}}


def rows(
    name: str, limit: int = -1, rights: Sequence[bool] = (False,) * 3, groups: Sequence[str] = ()
) -> Rows:
    return ((name, limit, *rights, True, list(groups)),)


def test_a_role_as_the_inventory_says_is_right() -> None:
    role = ManagedRole(CONTEXT, ROLES["shop_owner"])
    assert compared(role, roles=has("shop_owner"), role_attributes=rows("shop_owner", 40)).change is None
    group = ManagedRole(CONTEXT, ROLES["readers"])
    assert compared(group, roles=has("readers", login=False), role_attributes=rows("readers")).change is None


@pytest.mark.parametrize(
    ("role", "attributes", "line"),
    [
        ({"login": False}, {}, "login: False → True"),
        ({"superuser": True}, {}, "more rights: superuser → none"),
        ({"valid": False}, {}, "valid: False → True"),
        ({"verifier": "md5" + "0" * 32}, {}, "password: differs → matches"),
        ({"verifier": None}, {}, "password: differs → matches"),
        ({}, {"limit": -1}, "connection limit: none → 40"),
        ({}, {"limit": 40, "rights": (True, True, False)}, "more rights: createdb, createrole → none"),
    ],
)
def test_what_differs_is_named_and_the_password_never(
    role: dict[str, object], attributes: dict[str, Any], line: str
) -> None:
    resource = ManagedRole(CONTEXT, ROLES["shop_owner"])
    found = compared(
        resource,
        roles=has("shop_owner", **role),
        role_attributes=rows("shop_owner", **{"limit": 40, **attributes}),
    )
    assert found.lines == (line,)


def test_a_role_is_created_with_a_verifier(statements: list[str]) -> None:
    fix(ManagedRole(CONTEXT, ROLES["shop_owner"]), roles={}, role_attributes=())
    (statement,) = statements
    assert statement.startswith('postgres: CREATE ROLE "shop_owner" WITH LOGIN NOSUPERUSER NOREPLICATION ')
    assert "CONNECTION LIMIT 40 PASSWORD 'SCRAM-SHA-256$" in statement
    assert CONTEXT.credentials.roles["shop_owner"].reveal() not in statement


def test_a_changed_limit_does_not_touch_the_password(statements: list[str]) -> None:
    """A new verifier of the same password would still shut out whoever PgBouncer has logged in before."""
    role = ManagedRole(CONTEXT, ROLES["shop_owner"])
    fix(role, roles=has("shop_owner"), role_attributes=rows("shop_owner", 7))
    (statement,) = statements
    assert statement.startswith('postgres: ALTER ROLE "shop_owner" WITH LOGIN')
    assert "CONNECTION LIMIT 40" in statement
    assert "PASSWORD" not in statement


def test_a_password_that_nobody_told_is_not_replaced(statements: list[str]) -> None:
    new = context(written=False)
    role = ManagedRole(new, ROLES["reporting"])
    answers: dict[str, Any] = {"roles": has("reporting"), "role_attributes": rows("reporting")}
    assert compared(role, **answers).lines == ("password: not in the credentials file → matches",)
    with pytest.raises(NotConverged, match="a password that the credentials file does not have") as caught:
        fix(role, **answers)
    assert "POSTGRES_ROLE_REPORTING_PASS" in str(caught.value.hint)
    assert statements == []
    known = {
        **answers,
        "roles": has("reporting", verifier=scram.verifier(new.credentials.roles["reporting"])),
    }
    assert compared(role, **known).change is None, "made up and set in this run"
    requirement = PasswordKnown(new, "reporting")
    found = compared(requirement, roles=has("reporting"))
    assert found.change
    assert "POSTGRES_ROLE_REPORTING_PASS" in found.lines[1]
    with pytest.raises(Refused):
        fix(requirement, roles=has("reporting"))


def test_a_password_is_made_up_for_a_role_that_has_none() -> None:
    new = context(written=False)
    assert compared(PasswordKnown(new, "reporting"), roles={}).change is None
    assert compared(PasswordKnown(new, "reporting"), roles=has("reporting", verifier=None)).change is None
    assert compared(PasswordKnown(CONTEXT, "reporting"), roles=has("reporting")).change is None


def test_without_a_leader_a_password_is_made_up_only_where_no_cluster_is() -> None:
    new = context(written=False)
    resource = PasswordKnown(new, "reporting")
    bare = {
        fact: None if isinstance(fact, FileFact) else DataState("/x", present=False) for _, fact in signs(new)
    }

    def found(answers: Mapping[Fact[Any], object]) -> Comparison:
        knowledge = Knowledge()
        for host in DATABASES:
            knowledge.put(host, {fact.key: answer for fact, answer in answers.items()})
        return compare(Placed(CLUSTER, resource), Facts(knowledge, CLUSTER))

    assert found(bare).change is None
    (data,) = (fact for fact in bare if isinstance(fact, DataFact))
    there = found({**bare, data: DataState("/x", present=True, system_identifier="77")})
    assert there.change
    assert "nobody tells" in there.lines[0]
    assert "POSTGRES_ROLE_REPORTING_PASS" in there.lines[1]
    assert found({}).change, "hosts that do not tell may hold a cluster"
    assert compare(Placed(CLUSTER, PasswordKnown(CONTEXT, "reporting")), knowing({}, CLUSTER)).change is None


def test_memberships_are_those_of_the_inventory(statements: list[str]) -> None:
    member = Membership(CONTEXT, ROLES["reporting"])
    right = rows("reporting", groups=("pg_monitor", "readers"))
    assert compared(member, role_attributes=right).change is None
    wrong = rows("reporting", groups=("kb_app", "readers"))
    assert compared(member, role_attributes=wrong).lines == (
        "member of: kb_app, readers → pg_monitor, readers",
    )
    fix(member, role_attributes=wrong)
    assert statements == [
        'postgres: GRANT "pg_monitor" TO "reporting"',
        'postgres: REVOKE "kb_app" FROM "reporting"',
    ]
    assert compared(member, role_attributes=()).unknown


def test_a_membership_goes_whoever_granted_it(statements: list[str]) -> None:
    others = (
        ("reporting", "kb_app", "kb_owner"),
        ("reporting", "readers", "kb_owner"),
        ("another", "kb_app", "kb_owner"),
    )
    wrong = rows("reporting", groups=("kb_app", "pg_monitor", "readers"))
    fix(Membership(CONTEXT, ROLES["reporting"]), role_attributes=wrong, grantors_of_memberships=others)
    assert statements == [
        'postgres: REVOKE "kb_app" FROM "reporting"',
        'postgres: REVOKE "kb_app" FROM "reporting" GRANTED BY "kb_owner"',
    ]


# --- databases ---------------------------------------------------------------------------------------


def test_a_database_gets_its_owner(statements: list[str]) -> None:
    shop = ManagedDatabase(CONTEXT, "shop", "shop_owner")
    there = (("shop", "UTF8", True, ["shop_owner"]),)
    assert compared(shop, databases=there, database_owners=(("shop", "shop_owner"),)).change is None
    found = compared(shop, databases=there, database_owners=(("shop", "kb_app"),))
    assert found.lines == ("owner: kb_app → shop_owner",)
    fix(shop, databases=there, database_owners=(("shop", "kb_app"),))
    assert statements == ['postgres: ALTER DATABASE "shop" OWNER TO "shop_owner"']
    statements.clear()
    fix(shop, databases=(), database_owners=())
    assert statements[0] == """postgres: CREATE DATABASE "shop" ENCODING 'UTF8' TEMPLATE template0"""
    assert statements[-1] == 'postgres: ALTER DATABASE "shop" OWNER TO "shop_owner"'


@pytest.mark.parametrize(
    ("version", "there", "line", "statement"),
    [
        ("0.8.1", (), "create", """CREATE EXTENSION "vector" VERSION '0.8.1'"""),
        (
            "0.8.1",
            (("vector", "0.8.0"),),
            "version: 0.8.0 → 0.8.1",
            """ALTER EXTENSION "vector" UPDATE TO '0.8.1'""",
        ),
        (None, (), "create", 'CREATE EXTENSION "vector"'),
    ],
)
def test_extensions(
    statements: list[str], version: str | None, there: Rows, line: str, statement: str
) -> None:
    resource = ManagedExtension(CONTEXT, "shop", "vector", version)
    assert compared(resource, extensions=there).lines == (line,)
    fix(resource, extensions=there)
    assert statements == [f"shop: {statement}"]
    assert (
        compared(ManagedExtension(CONTEXT, "shop", "vector", None), extensions=(("vector", "7"),)).change
        is None
    )


# --- grants ------------------------------------------------------------------------------------------


def test_a_grant_on_a_database(statements: list[str]) -> None:
    grant = DatabaseGrant(CONTEXT, "readers", "shop", "connect")
    right = (
        ("shop", "readers", "CONNECT"),
        ("shop", "readers", "TEMPORARY"),
        ("keybuzz", "readers", "CREATE"),
    )
    assert compared(grant, database_grants=right).change is None
    fix(grant, database_grants=(("shop", "readers", "CONNECT"), ("shop", "readers", "CREATE")))
    assert statements == [
        'shop: GRANT TEMPORARY ON DATABASE "shop" TO "readers"'.replace("shop:", "postgres:"),
        'postgres: REVOKE CREATE ON DATABASE "shop" FROM "readers"',
    ]


READ = (
    ("schema", "sales", "readers", "USAGE", 1),
    ("all tables", "sales", "", "", 3),
    ("tables", "sales", "readers", "SELECT", 3),
    ("future tables of shop_owner", "sales", "readers", "SELECT", 1),
    ("future sequences of shop_owner", "sales", "readers", "SELECT", 1),
    ("tables", "other", "readers", "DELETE", 9),
)


def grant(access: str) -> SchemaGrant:
    return SchemaGrant(CONTEXT, "readers", "shop", "sales", access, ["shop_owner", "readers"])


def test_a_grant_in_a_schema_is_about_what_is_there_and_what_will_be() -> None:
    assert compared(grant("read"), grants_in_schemas=READ).change is None
    some = tuple(row if row[0] != "tables" else (*row[:4], 2) for row in READ)
    assert compared(grant("read"), grants_in_schemas=some).lines == ("tables: SELECT on 2 of 3 → SELECT",)
    own = (*some, ("own tables", "sales", "readers", "", 1))
    assert compared(grant("read"), grants_in_schemas=own).change is None
    assert compared(grant("read"), grants_in_schemas=READ[:-2]).lines == (
        "future sequences of shop_owner: none → SELECT",
    )


def test_less_access_revokes_what_is_too_much_and_nothing_else(statements: list[str]) -> None:
    more = (*READ, ("tables", "sales", "readers", "INSERT", 1), ("schema", "sales", "readers", "CREATE", 1))
    fix(grant("read"), grants_in_schemas=more)
    assert statements == [
        'shop: REVOKE CREATE ON SCHEMA "sales" FROM "readers"',
        'shop: GRANT SELECT ON ALL TABLES IN SCHEMA "sales" TO "readers"',
        'shop: REVOKE INSERT ON ALL TABLES IN SCHEMA "sales" FROM "readers"',
        'shop: GRANT SELECT ON ALL SEQUENCES IN SCHEMA "sales" TO "readers"',
    ]


def test_a_right_goes_whoever_granted_it(statements: list[str]) -> None:
    """The owner's REVOKE leaves what others granted, so they revoke it, object by object."""
    more = (*READ, ("tables", "sales", "readers", "INSERT", 1), ("tables", "sales", "readers", "DELETE", 1))
    given = (
        ("tables", "sales", "orders", "readers", "DELETE", "kb_app"),
        ("tables", "sales", "orders", "readers", "INSERT", "kb_app"),
        ("tables", "sales", "orders", "readers", "SELECT", "kb_app"),
        ("tables", "other", "orders", "readers", "INSERT", "kb_app"),
        ("schema", "sales", "", "readers", "CREATE", "kb_app"),
        ("schema", "sales", "", "reporting", "CREATE", "kb_app"),
    )
    fix(grant("read"), grants_in_schemas=more, grants_in_schemas_by_others=given)
    assert statements[-6:] == [
        'shop: SET ROLE "kb_app"',
        'shop: REVOKE DELETE, INSERT ON TABLE "sales"."orders" FROM "readers"',
        "shop: RESET ROLE",
        'shop: SET ROLE "kb_app"',
        'shop: REVOKE CREATE ON SCHEMA "sales" FROM "readers"',
        "shop: RESET ROLE",
    ]
    statements.clear()
    on = ("database", "", "shop", "readers", "CREATE", "kb_app")
    held = tuple(("shop", "readers", right) for right in ("CONNECT", "TEMPORARY", "CREATE"))
    others = (on, (*on[:2], "keybuzz", *on[3:]))
    fix(
        DatabaseGrant(CONTEXT, "readers", "shop", "connect"),
        database_grants=held,
        database_grants_by_others=others,
    )
    assert statements == [
        'postgres: REVOKE CREATE ON DATABASE "shop" FROM "readers"',
        'postgres: SET ROLE "kb_app"',
        'postgres: REVOKE CREATE ON DATABASE "shop" FROM "readers"',
        "postgres: RESET ROLE",
    ]


def test_a_grantee_of_two_grantors_is_counted_once() -> None:
    """Where it is real: tests/lab/test_roles.py."""
    (fact,) = grant("read").facts
    assert isinstance(fact, SqlFact)
    assert "count(distinct o.oid)" in fact.query
    (fact,) = Membership(CONTEXT, ROLES["reporting"]).facts
    assert isinstance(fact, SqlFact)
    assert "select distinct g.rolname" in fact.query


def test_none_takes_everything_away(statements: list[str]) -> None:
    fix(grant("none"), grants_in_schemas=READ)
    assert all(" REVOKE " in statement for statement in statements)
    assert 'shop: REVOKE USAGE ON SCHEMA "sales" FROM "readers"' in statements
    future = [s.partition(" IN SCHEMA ")[2] for s in statements if "DEFAULT PRIVILEGES FOR ROLE" in s]
    assert future == [
        '"sales" REVOKE SELECT ON TABLES FROM "readers"',
        '"sales" REVOKE SELECT ON SEQUENCES FROM "readers"',
    ]


# --- together ----------------------------------------------------------------------------------------


def test_the_stages_are_in_the_order_in_which_things_need_each_other() -> None:
    stages = (*databases.requirements(CONTEXT), *databases.roles(CONTEXT), *databases.databases(CONTEXT))
    assert [[item.resource.id for item in stage.items] for stage in stages] == [
        ["role password:shop_owner", "role password:reporting"],
        ["role:shop_owner", "role:readers", "role:reporting"],
        ["membership:shop_owner", "membership:readers", "membership:reporting"],
        ["database:shop"],
        [
            "grants:everybody in shop",
            "schema:shop.sales",
            "extension:shop.vector",
            "extension:shop.pg_trgm",
        ],
        ["grant:readers on shop", "grant:readers on shop.sales", "grant:readers on keybuzz"],
        ["unmanaged databases and roles"],
    ]
    assert [stage.requirement for stage in stages] == [True] + [False] * 6


def test_without_own_databases_and_roles_only_what_is_unmanaged_is_looked_at() -> None:
    plain = context("cluster: {name: kb}\n")
    assert not list(databases.requirements(plain))
    assert not list(databases.roles(plain))
    assert [stage.title for stage in databases.databases(plain)] == ["not in the inventory"]


def test_what_left_the_inventory_is_remarked_on_and_stays() -> None:
    there = tuple((name, "UTF8", True, []) for name in ("postgres", "template1", "keybuzz", "shop", "old"))
    roles = {name: {} for name in ("kb_admin", "kb_app", "replicator", "readers", "pg_monitor", "gone")}
    found = compared(Unmanaged(CONTEXT), databases=there, roles=roles)
    assert found.change is None
    assert [line.split(" is not")[0] for line in found.lines] == ["database old", "role gone"]
    assert compare(Placed(CLUSTER, Unmanaged(CONTEXT)), knowing({}, CLUSTER)).lines == ()


def test_a_missing_role_is_absent() -> None:
    found = compared(ManagedRole(CONTEXT, ROLES["readers"]), roles={}, role_attributes=())
    assert found.change
    assert found.change.have is ABSENT


def test_a_plan_that_changes_nothing_still_shows_remarks() -> None:
    there = (("old", "UTF8", True, []),)
    found = compared(Unmanaged(CONTEXT), databases=there, roles={})
    report = Report([Outcome.of(s05_pgvector.STEP, found, Status.OK)])
    shown = [line.text for line in texts.planned(report)]
    assert shown[0] == "note: database old is not in the inventory: it stays, and kbpg does nothing about it"
    assert shown[-1] == "plan: nothing would change, 1 ok"
    assert planned(report, [])["notes"] == [shown[0].removeprefix("note: ")]
