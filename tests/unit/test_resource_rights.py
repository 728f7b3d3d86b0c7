"""What everybody may do, and the application's timeouts: seen on the leader, mended by statements."""

from __future__ import annotations

import pytest

from kbpg.inventory import parse
from kbpg.resources.public_rights import PublicRights
from kbpg.resources.role_settings import Timeouts, application
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
