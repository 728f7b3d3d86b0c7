"""How kbpg ends when something is wrong: one clear line, an exit code, and no traceback."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.errors import CommandFailed, InventoryError, LockHeld, Refused
from kbpg.facts import NotKnown

Capture = pytest.CaptureFixture[str]
SECRET = "wonderful-secret-0123456789"


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `plan` raise `error`."""

    def plan(options: Any, steps: Any) -> int:
        options.mask = lambda text: text.replace(SECRET, "***")
        value_of_a_variable = SECRET + "-in-a-variable"
        assert value_of_a_variable
        raise error

    monkeypatch.setattr("kbpg.cli.running.plan", plan)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            Refused("this data is not ours", detail=["db-1: 16 GB"], hint="look at it"),
            1,
            "error: this data is not ours\n  db-1: 16 GB\nhint: look at it\n",
        ),
        (LockHeld("db-1: root is changing it"), 1, "error: db-1: root is changing it\n"),
        (
            InventoryError(
                ["inventory.yaml:3: db: too few", "inventory.yaml:4: x: unknown"], hint="correct it"
            ),
            2,
            "inventory.yaml:3: db: too few\ninventory.yaml:4: x: unknown\nhint: correct it\n",
        ),
        (
            CommandFailed("db-1", "psql", 2, f"no pg_hba.conf entry\npassword {SECRET}"),
            1,
            "error: db-1: `psql` ended with exit code 2\n  no pg_hba.conf entry\n  password ***\n",
        ),
        (NotKnown("waits for a leader"), 1, "error: waits for a leader\nhint: kbpg diagnose\n"),
    ],
)
def test_an_error_is_shown_as_lines(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: Exception, code: int, text: str
) -> None:
    raising(monkeypatch, error)
    assert run(["plan"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text)
    assert not Path(".kbpg").exists()


def test_a_defect_leaves_its_traceback_in_a_file(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, ValueError(f"bad value {SECRET}\nmore"))
    before = os.umask(0)
    try:
        assert run(["plan"]) == 1
    finally:
        os.umask(before)
    (path,) = Path(".kbpg").glob("crash-*.log")
    captured = capsys.readouterr()
    assert captured.err == (
        f"internal error: ValueError: bad value ***\nhint: please report it with {path.absolute()}\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text()
    assert "Traceback (most recent call last)" in text
    assert "test_endings.py" in text
    assert SECRET not in text


def test_a_defect_where_nothing_can_be_written(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path(".kbpg").write_text("in the way")
    raising(monkeypatch, ZeroDivisionError("division by zero"))
    assert run(["plan"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "internal error: ZeroDivisionError: division by zero"
    assert lines[1].startswith("hint: its traceback could not be kept: ")
    assert len(lines) == 2


def test_an_interrupted_run_says_how_to_go_on(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert run(["plan"]) == 130
    assert capsys.readouterr().err == (
        "interrupted; what was done stays done, run the same command again to continue\n"
    )


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "kbpg", "inventory", "schema"],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            timeout=30,
            check=False,
        )
    assert ended.stderr == b""


def test_wrong_credentials_and_inventories_open_no_connection(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from kbpg.session import open_session

    def connect(*args: object, **more: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("kbpg.cli.opening.open_session", open_session)
    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)
    good = Path("credentials/postgres.env").read_text()
    Path("credentials/postgres.env").write_text(good + "POSTGRES_APP_PASS='again'\n")
    assert run(["apply-all"]) == 2
    assert "credentials/postgres.env:10: POSTGRES_APP_PASS: given again" in capsys.readouterr().err
    Path("credentials/postgres.env").write_text(good)
    Path("inventory.yaml").write_text(Path("inventory.yaml").read_text() + "nonsense: 1\n")
    assert run(["apply-all"]) == 2
    assert "inventory.yaml:9: nonsense: unknown key" in capsys.readouterr().err
    assert not Path(".kbpg").exists()
