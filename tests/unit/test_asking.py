"""The password for sudo that the environment holds: taken out of it, masked, one line."""

from __future__ import annotations

import os

import pytest

from kbpg.__main__ import run
from kbpg.asking import SUDO_PASSWORD_VARIABLE, SudoPasswords
from kbpg.errors import Exit
from kbpg.secret import Secret


def test_programs_that_kbpg_starts_do_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUDO_PASSWORD_VARIABLE, "a word")
    assert run(["--version"]) == 0
    assert SUDO_PASSWORD_VARIABLE not in os.environ


def test_one_that_no_line_can_hold_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SUDO_PASSWORD_VARIABLE, "two\nlines")
    assert run(["--version"]) == Exit.INPUT
    said = capsys.readouterr().err
    assert SUDO_PASSWORD_VARIABLE in said
    assert "two" not in said


def test_who_masks_learns_what_is_known_and_what_comes() -> None:
    learnt: list[Secret] = []
    passwords = SudoPasswords(Secret("given"))
    passwords.taken("ops", Secret("taken"))
    passwords.learnt_by(learnt.extend)
    passwords.told(Secret("told"))
    assert learnt == [Secret("taken"), Secret("given"), Secret("told")]
    assert "given" not in repr(passwords)
    assert "taken" not in repr(passwords)
