"""Private keys in what is shown or written down."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from kbpg.engine.redactor import Redactor
from kbpg.pki.issuing import key_pem, new_key
from kbpg.secret import MASK

from .pki_world import Store

KEY = key_pem(new_key())
LINES = KEY.reveal().splitlines()[1:-1]


@pytest.mark.parametrize(
    "spelled",
    [
        KEY.reveal(),
        json.dumps(KEY.reveal()),
        repr(KEY.reveal()),
        shlex.quote(KEY.reveal()),
        " ".join(LINES),
        *LINES,
    ],
    ids=["pem", "json", "repr", "shell", "one line", *(f"line {number}" for number in range(len(LINES)))],
)
def test_no_line_of_a_known_key_is_shown(spelled: str) -> None:
    shown = Redactor(keys=[KEY]).mask(f"before {spelled} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert MASK in shown
    assert not [line for line in LINES if line in shown]


@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED "])
def test_a_key_that_nobody_knows_is_masked_too(kind: str) -> None:
    text = f"-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n-----END {kind}PRIVATE KEY-----\n"
    assert Redactor().mask(f"a {text}b") == f"a {MASK}\nb"
    assert Redactor().mask(f"a {text[:40]}") == f"a {MASK}"


def test_certificates_are_shown(tmp_path: Path) -> None:
    pki = Store(tmp_path / "pki").complete()
    text = pki.ca.decode()
    assert Redactor(keys=pki.private_keys()).mask(text) == text
