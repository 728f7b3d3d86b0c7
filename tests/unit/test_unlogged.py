"""No password and no verifier that kbpg sets gets into PostgreSQL's log, nor is one shown from there."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import psycopg
import pytest
from psycopg.sql import SQL

from kbpg import scram, sql
from kbpg.engine.redactor import Redactor
from kbpg.errors import HostError
from kbpg.facts import Login
from kbpg.hosts.port import Reader
from kbpg.secret import Secret, without_passwords

LOGIN = Login("kb_admin", Secret("secret"), 5432, "postgres", former=Secret("of before"))
VERIFIER = scram.verifier(Secret("wonderful"))


class Host:
    name, address, trust = "db-1", "192.0.2.1", None

    def forward(self, port: int) -> AbstractContextManager[int]:
        return nullcontext(port)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Return what settings each connection began with; none comes about, the password is refused."""
    seen: list[dict[str, str]] = []

    def connect(*, options: str | None, **_: Any) -> None:
        words = shlex.split(options or "")
        assert words[::2] == ["-c"] * (len(words) // 2)
        seen.append(dict(word.split("=", 1) for word in words[1::2]))
        raise psycopg.OperationalError("password authentication failed")

    monkeypatch.setattr(psycopg, "connect", connect)
    return seen


def test_what_changes_something_is_not_logged_also_with_the_password_of_before(
    opened: list[dict[str, str]],
) -> None:
    with pytest.raises(HostError):
        sql.execute(cast(Reader, Host()), LOGIN, SQL("select 1"))
    wanted = {"statement_timeout": "30000", **sql.UNLOGGED}
    assert opened == [wanted, wanted]
    assert wanted["log_statement"] == "none"
    assert wanted["log_min_error_statement"] == "panic"


@pytest.mark.parametrize(("pooled", "wanted"), [(False, {"statement_timeout": "30000"}), (True, {})])
def test_who_reads_may_be_anybody_and_asks_for_nothing_that_needs_a_superuser(
    opened: list[dict[str, str]], pooled: bool, wanted: dict[str, str]
) -> None:
    with pytest.raises(psycopg.OperationalError), sql.connect(cast(Reader, Host()), LOGIN, pooled=pooled):
        pass
    assert opened == [wanted, wanted]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "LOG:  statement: ALTER ROLE a PASSWORD 'hunter2';",
            "LOG:  statement: ALTER ROLE a PASSWORD '***';",
        ),
        ("alter role a password\n\t'hunter2' login", "alter role a password\n\t'***' login"),
        ("create user a encrypted password 'it''s' login", "create user a encrypted password '***' login"),
        (r"alter role a password E'hun\'ter2' login", "alter role a password '***' login"),
        ("alter role a password U&'hunter2'", "alter role a password '***'"),
        ("alter role a password 'hunter2\\'", "alter role a password '***'"),
        ("alter role a password 'hunter2", "alter role a password '***'"),
        ("alter role a password 'hunter2\\", "alter role a password '***'"),
        ("alter role a password $$hunter2$$ login", "alter role a password '***' login"),
        ("alter role a password $x$hun$$ter2$x$ login", "alter role a password '***' login"),
        ("alter role a password $x$hunter2", "alter role a password '***'"),
        (f"comment on x is '{VERIFIER}';", "comment on x is 'SCRAM-SHA-256$***';"),
        (f'"kb_app" "{VERIFIER}"', '"kb_app" "SCRAM-SHA-256$***"'),
        ("'md5" + "0a" * 16 + "'", "'md5***'"),
    ],
)
def test_a_password_in_a_statement_is_hidden_whoever_set_it(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
    assert Redactor().mask(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        'password authentication failed for user "kb_app"',
        "ALTER ROLE a PASSWORD NULL",
        "the password of kb_app is stored as MD5",
        "SCRAM-SHA-256$",
        "password: differs → matches",
        "select 'x' as no_password, 'y'",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert Redactor().mask(text) == text
