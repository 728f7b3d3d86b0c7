"""A uid without name and home, as containers give it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from kbpg.errors import Unreachable
from kbpg.home import expanded, home, user
from kbpg.hosts.config import resolve
from kbpg.inventory.hosts import Ssh

SILENT = Ssh(None, None, None, None, None, None, 5.0, True)
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", *NAMES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_somebody_has_a_home_and_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "somebody")
    assert (home(), expanded("~/key"), user()) == (tmp_path, tmp_path / "key", "somebody")


@pytest.mark.usefixtures("nobody")
def test_nobody_has_neither() -> None:
    assert (home(), expanded("~/key"), user()) == (None, Path("~/key"), str(os.getuid()))


@pytest.mark.usefixtures("nobody")
def test_without_a_home_the_files_in_it_are_left_out() -> None:
    target = resolve("db-1", "127.0.0.5", SILENT)
    assert (target.where, target.user, target.more_keys) == ("127.0.0.5:22", "root", ())
    assert target.known_hosts == (Path("/etc/ssh/ssh_known_hosts"),)


@pytest.mark.usefixtures("nobody")
def test_a_home_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """paramiko wants to know the user's name wherever a value may have placeholders."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host db-1\n HostName 127.0.0.9\n IdentityFile ~/.ssh/%u\n")
    with pytest.raises(Unreachable, match="the user has no name"):
        resolve("db-1", "127.0.0.5", SILENT)
    monkeypatch.setenv("LOGNAME", "somebody")
    assert resolve("db-1", "127.0.0.5", SILENT).host == "127.0.0.9"
