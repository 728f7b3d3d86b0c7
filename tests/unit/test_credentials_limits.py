"""The edges of what a password may be; what is beyond them is in `credentials/*.env`."""

from __future__ import annotations

import pytest

from kbpg.credentials.limits import password_problems, user_problems
from kbpg.secret import Secret


@pytest.mark.parametrize(
    "password",
    [
        "12345678",
        "ü" * 8,
        "x" * 1023,
        '"' * 1023,
        "a'b\"c$d\\e%f@g:h/i ü",
        "  pass  word  ",
        ";#%include x",
        "password\\",
        "grin 😀 grin",
        "e\u0301" * 8,
        "ｆｕｌｌｗｉｄｔｈ",
        "\u05d0ab\u05d0 mixed",
        "md5" + "0" * 31,
        "md5" + "A" * 32,
        "SCRAM-SHA-256",
    ],
)
def test_a_password_that_every_part_carries(password: str) -> None:
    """All of the printable kinds logged in through PgBouncer 1.24.1 and directly, with libpq 15 and 18."""
    assert list(password_problems("POSTGRES_APP_PASS", Secret(password))) == []


@pytest.mark.parametrize("password", ["1234567", "x" * 1024, "ü" * 512, "md5" + "0" * 32, "tab\there"])
def test_a_password_beyond(password: str) -> None:
    assert len(list(password_problems("POSTGRES_APP_PASS", Secret(password)))) == 1


def test_only_the_rest_password_must_be_ascii() -> None:
    password = Secret("pässword")
    assert list(password_problems("RAFT_PASS", password)) == []
    assert len(list(password_problems("PATRONI_REST_PASS", password))) == 1


def test_user_names() -> None:
    assert list(user_problems("ü" * 31 + "x")) == []
    assert len(list(user_problems("ü" * 32))) == 1
    assert len(list(user_problems("a\u200bb"))) == 1
