"""What everybody may do, and the timeouts of roles: seen on the leader, mended by statements."""

from __future__ import annotations

import pytest

from kbpg.errors import InventoryError
from kbpg.inventory import parse
from kbpg.resources.public_rights import PublicRights
from kbpg.resources.role_settings import Timeouts, application, of_role
from kbpg.steps import s05_pgvector

from .small_cluster import HOSTS, context
from .test_resource_sql import LEADER, Statements, compared, fix, statements

__all__ = ["statements"]

CONTEXT = context()
TEMPORARY = 'REVOKE TEMPORARY ON DATABASE "keybuzz" FROM PUBLIC'
CREATE = "REVOKE CREATE ON SCHEMA public FROM PUBLIC"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ((True, True), [TEMPORARY, CREATE]),
        ((True, False), [TEMPORARY]),
        ((False, True), [CREATE]),
    ],
)
def test_what_everybody_may_do_too_much_is_revoked(
    answer: tuple[bool, bool], wanted: list[str], statements: Statements
) -> None:
    fix(PublicRights(CONTEXT, "keybuzz"), (answer,))
    assert statements.seen == wanted
    assert statements.where == {(LEADER, "kb_admin", "keybuzz")}


def test_where_everybody_may_do_neither_nothing_is_done() -> None:
    assert compared(PublicRights(CONTEXT, "keybuzz"), ((False, False),)).change is None


def test_each_database_of_the_inventory_and_postgres_is_looked_at() -> None:
    wanted = context("databases: [{name: shop}]\n")
    ids = {p.resource.id for stage in s05_pgvector.stages(wanted) for p in stage.items}
    assert {i for i in ids if i.startswith("grants:everybody")} == {
        "grants:everybody in postgres",
        "grants:everybody in keybuzz",
        "grants:everybody in shop",
    }


IDLE = "idle_in_transaction_session_timeout"


def timeouts(settings: str = "") -> Timeouts:
    wanted = context(settings)
    return Timeouts(wanted, "kb_app", application(wanted))


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        (["600s"], None),
        (["10min"], None),
        (["600000"], None),
        ([" 600000 ms "], None),
        (["0"], f"{IDLE}: none → 600 s"),
        (["1500ms"], f"{IDLE}: 1.5 s → 600 s"),
        (["1h"], f"{IDLE}: 3600 s → 600 s"),
        (["soon"], f"{IDLE}: soon → 600 s"),
        ([], f"{IDLE}: not set → 600 s"),
    ],
)
def test_a_timeout_is_compared_in_any_unit(entries: list[str], line: str | None) -> None:
    rows = tuple(("kb_app", f"{IDLE}={text}") for text in entries)
    others = (("kb_admin", f"{IDLE}=1s"), ("kb_app", "search_path=a, b=c"))
    assert compared(timeouts(), (*rows, *others)).lines == ((line,) if line else ())


def test_a_timeout_is_set_and_nothing_else(statements: Statements) -> None:
    fix(timeouts("postgresql: {app_statement_timeout: 30s}\n"), (("kb_app", f"{IDLE}=600s"),))
    assert statements.seen == ['ALTER ROLE "kb_app" SET "statement_timeout" TO \'30s\'']
    assert statements.where == {(LEADER, "kb_admin", "postgres")}


def test_no_timeout_is_wanted_as_such(statements: Statements) -> None:
    fix(timeouts("postgresql: {app_idle_in_transaction_timeout: 0}\n"), ())
    assert statements.seen == [f'ALTER ROLE "kb_app" SET "{IDLE}" TO \'0s\'']


def test_a_timeout_that_the_inventory_does_not_set_stays_as_it_is() -> None:
    resource = timeouts("postgresql: {app_idle_in_transaction_timeout: null}\n")
    assert compared(resource, (("kb_app", f"{IDLE}=5s"), ("kb_app", "statement_timeout=5s"))).change is None


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("10min", 600), ("1h", 3600), ("null", None)])
def test_timeouts_are_durations_of_the_inventory(text: str, seconds: int | None) -> None:
    found = parse(f"cluster: {{name: kb}}\npostgresql: {{app_statement_timeout: {text}}}\n{HOSTS}", "i.yaml")
    assert found.postgresql.app_statement_timeout == seconds


ROLES = """
roles:
  - {name: reporting, statement_timeout: 5min, idle_in_transaction_timeout: 60}
  - {name: batch, statement_timeout: 0}
  - {name: plain}
  - {name: everybody, login: false}
"""


def own(name: str) -> Timeouts:
    wanted = context(ROLES)
    (role,) = [role for role in wanted.inventory.roles if role.name == name]
    return Timeouts(wanted, name, of_role(role))


def test_timeouts_are_of_the_roles_of_the_inventory_that_have_some() -> None:
    found = {
        stage.title: [p.resource.id for p in stage.items] for stage in s05_pgvector.stages(context(ROLES))
    }
    assert found["timeouts of roles"] == ["timeouts:reporting", "timeouts:batch"]
    assert found["timeouts"] == ["timeouts:kb_app"]
    assert list(found).index("roles") < list(found).index("timeouts of roles")
    assert "timeouts of roles" not in {stage.title for stage in s05_pgvector.stages(context())}


def test_a_roles_timeouts_are_set_where_they_differ(statements: Statements) -> None:
    rows = (("reporting", "statement_timeout=1min"), ("reporting", f"{IDLE}=1min"), ("kb_app", f"{IDLE}=1s"))
    resource = own("reporting")
    assert compared(resource, rows).lines == ("statement_timeout: 60 s → 300 s",)
    fix(resource, rows)
    assert statements.seen == ['ALTER ROLE "reporting" SET "statement_timeout" TO \'300s\'']
    assert statements.where == {(LEADER, "kb_admin", "postgres")}


def test_a_key_that_a_role_does_not_have_is_left_alone() -> None:
    assert compared(own("batch"), (("batch", "statement_timeout=0"), ("batch", f"{IDLE}=5s"))).change is None


@pytest.mark.parametrize("key", ["statement_timeout", "idle_in_transaction_timeout"])
def test_a_role_that_does_not_log_in_has_no_timeout(key: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(f"cluster: {{name: kb}}\nroles: [{{name: group, login: false, {key}: 5}}]\n{HOSTS}", "i.yaml")
    assert f'roles[0].{key}: "group" does not log in: wanted login: true, or no timeout' in "\n".join(
        caught.value.lines()
    )
