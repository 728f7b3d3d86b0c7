"""Roles, databases, schemas, extensions: what is seen on the leader, and the statements that mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from psycopg.sql import SQL, Composed

from kbpg import scram
from kbpg.engine.compare import Comparison, compare
from kbpg.errors import NotConverged
from kbpg.facts import Fact, Login
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Reader
from kbpg.model import ABSENT, CLUSTER, Placed, Resource
from kbpg.patroni import NodeFact
from kbpg.render import render
from kbpg.resources.auth_query import AuthQuery
from kbpg.resources.sql import Database, Extension, OnLeader, Role, Schema
from kbpg.resources.sql_facts import RolesFact, RowsFact
from kbpg.secret import Secret

from .small_cluster import DATABASES, context, knowing, site

CONTEXT = context()
NODE = NodeFact(CONTEXT.inventory.ports.patroni)
PASSWORD = Secret("a'b\"c$d\\e%f@g:h/i ü")
LEADER = "db-2"


def nodes(leader: str | None = LEADER) -> dict[str, dict[str, object]]:
    return {
        name: {
            NODE.key: NODE.parse(
                200, {"state": "running", "role": "primary" if name == leader else "replica"}
            )
        }
        for name in DATABASES
    }


def known(resource: Resource, answer: object, leader: str | None = LEADER) -> dict[str, dict[str, object]]:
    """Return what is known when the leader answers so; what the replicas answer is nonsense."""
    answers = nodes(leader)
    for name in DATABASES:
        answers[name][resource.facts[0].key] = answer if name == leader else ()
    return answers


def compared(resource: Resource, answer: object, leader: str | None = LEADER) -> Comparison:
    return compare(Placed(CLUSTER, resource), knowing(known(resource, answer, leader), CLUSTER))


class Statements:
    """Stands for `sql.execute`: keeps where, as whom, and what."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.where: set[tuple[str, str, str]] = set()

    def execute(self, reader: Reader, login: Login, *statements: SQL | Composed) -> None:
        self.where.add((reader.name, login.user, login.database))
        self.seen += [statement.as_string(None) for statement in statements]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    found = Statements()
    monkeypatch.setattr("kbpg.sql.execute", found.execute)
    return found


def fix(resource: Resource, answer: object) -> None:
    change = compared(resource, answer).change
    assert change is not None
    world = {name: FakeHost(name) for name in DATABASES}
    resource.fix(site(CLUSTER, world, known(resource, answer)), change)


# --- on the leader -----------------------------------------------------------------------------------


RESOURCES: list[OnLeader] = [
    Role(CONTEXT, "kb_app", PASSWORD),
    Database(CONTEXT, "keybuzz", "kb_app"),
    Schema(CONTEXT, "keybuzz", "kb_app", "kb_app"),
    Extension(CONTEXT, "keybuzz", "vector", "0.8.1"),
    AuthQuery(CONTEXT),
]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.id)
def test_it_is_asked_on_every_db_host_and_waits_for_a_leader(resource: OnLeader) -> None:
    asked = list(resource.asks(CLUSTER, CONTEXT))
    assert {place for place, _ in asked} == set(DATABASES)
    assert {fact.key for _, fact in asked} == {NODE.key, resource.facts[0].key}
    found = compared(resource, {}, leader=None)
    assert found.unknown
    assert found.lines == ("not known yet: waits for a leader",)
    assert not found.fixable


# --- roles -------------------------------------------------------------------------------------------


def role(**changes: object) -> dict[str, dict[str, object]]:
    right = {
        "login": True,
        "superuser": False,
        "replication": False,
        "verifier": scram.verifier(PASSWORD),
        "valid": True,
    }
    return {"kb_app": {**right, **changes}}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, None),
        ({"login": False}, "login: False → True"),
        ({"superuser": True}, "superuser: True → False"),
        ({"replication": True}, "replication: True → False"),
        ({"valid": False}, "valid: False → True"),
        ({"verifier": None}, "password: differs → matches"),
        ({"verifier": "md5" + "0" * 32}, "password: differs → matches"),
        ({"verifier": scram.verifier(Secret("other"))}, "password: differs → matches"),
    ],
)
def test_a_role_and_each_way_it_may_drift(change: dict[str, object], line: str | None) -> None:
    found = compared(Role(CONTEXT, "kb_app", PASSWORD), role(**change))
    assert found.lines == ((line,) if line else ())


def test_a_role_that_is_not_there() -> None:
    assert compared(Role(CONTEXT, "kb_app", PASSWORD), {}).lines == ("create",)


def test_the_roles_of_a_row() -> None:
    fact = RolesFact(CONTEXT.superuser())
    assert fact.parse([("a", True, False, True, "SCRAM", False)]) == {
        "a": {"login": True, "superuser": False, "replication": True, "verifier": "SCRAM", "valid": False}
    }


@pytest.mark.parametrize(
    ("there", "begins"),
    [
        (None, 'CREATE ROLE "kb_app" WITH LOGIN NOSUPERUSER REPLICATION PASSWORD '),
        (role(verifier=None), 'ALTER ROLE "kb_app" WITH LOGIN NOSUPERUSER REPLICATION PASSWORD '),
        (
            role(valid=False, verifier=None),
            "ALTER ROLE \"kb_app\" WITH LOGIN NOSUPERUSER REPLICATION VALID UNTIL 'infinity' PASSWORD ",
        ),
    ],
    ids=["create", "alter", "expired"],
)
def test_a_role_is_made_or_altered_with_a_verifier_and_no_password(
    there: Mapping[str, Any] | None, begins: str, statements: Statements
) -> None:
    fix(Role(CONTEXT, "kb_app", PASSWORD, replication=True), there or {})
    (statement,) = statements.seen
    assert statement.startswith(begins)
    verifier = statement.removeprefix(begins).strip().strip("'")
    assert scram.matches(verifier, PASSWORD)
    assert PASSWORD.reveal() not in statement
    assert statements.where == {(LEADER, "kb_admin", "postgres")}


def test_a_password_that_matches_keeps_its_verifier(statements: Statements) -> None:
    """PgBouncer logs in with keys that it took from the old one."""
    fix(Role(CONTEXT, "kb_app", PASSWORD, replication=True), role())
    assert statements.seen == ['ALTER ROLE "kb_app" WITH LOGIN NOSUPERUSER REPLICATION']


# --- databases ---------------------------------------------------------------------------------------


def database(encoding: str = "UTF8", allowed: bool = True, connect: Sequence[str] = ("kb_app",)) -> object:
    return (("postgres", "UTF8", True, ["public"]), ("keybuzz", encoding, allowed, list(connect)))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (database(), None),
        (database(connect=["reporting", "kb_app"]), None),
        ((), "create"),
        (database(allowed=False), "allows connections: False → True"),
        (database(connect=["kb_app", "public"]), "everybody may connect: True → False"),
        (database(connect=[]), "kb_app may connect: False → True"),
        (database("LATIN1"), "encoding: LATIN1 → UTF8"),
    ],
)
def test_a_database_and_each_way_it_may_drift(answer: object, line: str | None) -> None:
    assert compared(Database(CONTEXT, "keybuzz", "kb_app"), answer).lines == ((line,) if line else ())


def test_a_database_is_made_for_one_user_alone(statements: Statements) -> None:
    fix(Database(CONTEXT, "keybuzz", "kb_app"), ())
    assert statements.seen == [
        "CREATE DATABASE \"keybuzz\" ENCODING 'UTF8' TEMPLATE template0",
        'ALTER DATABASE "keybuzz" ALLOW_CONNECTIONS true',
        'REVOKE CONNECT, TEMPORARY ON DATABASE "keybuzz" FROM PUBLIC',
        'GRANT CONNECT, TEMPORARY ON DATABASE "keybuzz" TO "kb_app"',
    ]


def test_what_others_were_granted_on_a_database_stays(statements: Statements) -> None:
    resource = Database(CONTEXT, "keybuzz", "kb_app")
    fix(resource, database(connect=["reporting", "kb_app", "public"]))
    assert statements.seen == [
        'ALTER DATABASE "keybuzz" ALLOW_CONNECTIONS true',
        'REVOKE CONNECT, TEMPORARY ON DATABASE "keybuzz" FROM PUBLIC',
        'GRANT CONNECT, TEMPORARY ON DATABASE "keybuzz" TO "kb_app"',
    ]


def test_another_encoding_is_not_mended(statements: Statements) -> None:
    with pytest.raises(NotConverged, match="another encoding: encoding: LATIN1 → UTF8"):
        fix(Database(CONTEXT, "keybuzz", "kb_app"), database("LATIN1"))
    assert statements.seen == []


# --- schemas, extensions, the auth query -------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "statement"),
    [
        ((("kb_app", "kb_app"),), None),
        ((("public", "kb_app"),), 'CREATE SCHEMA "kb_app" AUTHORIZATION "kb_app"'),
        ((("kb_app", "kb_admin"),), 'ALTER SCHEMA "kb_app" OWNER TO "kb_app"'),
    ],
)
def test_a_schema(answer: object, statement: str | None, statements: Statements) -> None:
    resource = Schema(CONTEXT, "keybuzz", "kb_app", "kb_app")
    if statement is None:
        assert compared(resource, answer).change is None
        return
    fix(resource, answer)
    assert statements.seen == [statement]
    assert statements.where == {(LEADER, "kb_admin", "keybuzz")}


@pytest.mark.parametrize(
    ("answer", "statement"),
    [
        ((("plpgsql", "1.0"), ("vector", "0.8.1")), None),
        ((("plpgsql", "1.0"),), "CREATE EXTENSION \"vector\" VERSION '0.8.1'"),
        ((("vector", "0.7.0"),), "ALTER EXTENSION \"vector\" UPDATE TO '0.8.1'"),
    ],
)
def test_an_extension(answer: object, statement: str | None, statements: Statements) -> None:
    resource = Extension(CONTEXT, "keybuzz", "vector", "0.8.1")
    if statement is None:
        assert compared(resource, answer).change is None
        return
    fix(resource, answer)
    assert statements.seen == [statement]
    assert statements.where == {(LEADER, "kb_admin", "keybuzz")}


def auth_query(statements: Statements) -> list[object]:
    """Return the row of a function that is right."""
    body = render("sql/pgbouncer_user_lookup.body.sql.j2", inventory=CONTEXT.inventory)
    return [body, True, "search_path=pg_catalog, pg_temp", "kb_admin", "pgbouncer_auth", "pgbouncer_auth"]


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        (0, "select 1", "text"),
        (1, False, "security definer"),
        (2, "", "settings"),
        (3, "kb_app", "owner"),
        (4, "pgbouncer_auth, public", "may call it"),
        (5, "public", "may use its schema"),
    ],
)
def test_each_way_the_auth_query_may_drift(
    column: int, value: object, name: str, statements: Statements
) -> None:
    row = auth_query(statements)
    assert compared(AuthQuery(CONTEXT), (tuple(row),)).change is None
    row[column] = value
    (line,) = compared(AuthQuery(CONTEXT), (tuple(row),)).lines
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize("rows", [0, 2])
def test_no_auth_query_or_two_of_that_name_means_anew(rows: int, statements: Statements) -> None:
    answer = (tuple(auth_query(statements)),) * rows
    change = compared(AuthQuery(CONTEXT), answer).change
    assert change is not None
    assert change.have is ABSENT
    fix(AuthQuery(CONTEXT), answer)
    (statement,) = statements.seen
    assert statement.startswith("BEGIN; ")
    assert statement.endswith("; COMMIT")
    assert statement.count("SECURITY DEFINER") == 1


# --- questions ---------------------------------------------------------------------------------------


def test_questions_of_different_logins_are_different_questions() -> None:
    logins = [
        Login("a", PASSWORD, "one", 5432),
        Login("b", PASSWORD, "one", 5432),
        Login("a", PASSWORD, "two", 5432),
        Login("a", PASSWORD, "one", 6432),
    ]
    facts: list[Fact[Any]] = [RowsFact(login, "name", "select 1") for login in logins]
    assert len({fact.key for fact in facts}) == len(logins)
    assert not any(PASSWORD.reveal() in fact.key + repr(fact) for fact in facts)
