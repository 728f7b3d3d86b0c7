"""Standard streams that are closed, full, or speak another encoding than UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run

Capture = pytest.CaptureFixture[str]
Kbpg = Callable[..., subprocess.CompletedProcess[bytes]]
PASSWORD = "wonderful-secret-0123456789"


@pytest.fixture
def kbpg(world: Any) -> Kbpg:
    """Run the program by a line of the shell; `{}` in it is the program's command. No host is dialled by any."""

    def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", line.replace("{}", f"{sys.executable} -m kbpg")],
            env={**os.environ, **environment},
            capture_output=True,
            timeout=60,
            check=False,
        )

    return shell


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("words", ["--help", "inventory check"])
def test_a_closed_stream_is_no_error(kbpg: Kbpg, words: str, closed: str) -> None:
    ended = kbpg(f"{{}} {words} {closed}")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert bool(ended.stdout) == (">&-" not in closed.split())


def test_an_error_with_all_streams_closed_keeps_its_exit_code(kbpg: Kbpg) -> None:
    assert kbpg("{} step 99 >&- 2>&- <&-").returncode == 2


@pytest.mark.parametrize("words", ["--help", "inventory check", "inventory schema", "uri", "plan --help"])
def test_a_full_disk_behind_standard_output_is_said_in_one_line(kbpg: Kbpg, words: str) -> None:
    ended = kbpg(f"{{}} {words} >/dev/full")
    assert ended.stderr == b"error: cannot write standard output: no space left on device\n"
    assert ended.returncode == 1
    assert not Path(".kbpg").exists()


def test_other_errors_of_the_system_are_still_defects(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def plan(options: Any, steps: Any) -> int:
        raise OSError("what is this")

    monkeypatch.setattr("kbpg.cli.running.plan", plan)
    assert run(["plan"]) == 1
    assert capsys.readouterr().err.startswith("internal error: OSError: what is this\n")


def test_text_is_printed_in_any_encoding(kbpg: Kbpg) -> None:
    Path("żółw.yaml").write_text(Path("inventory.yaml").read_text())
    ended = kbpg("{} --inventory żółw.yaml inventory check", PYTHONIOENCODING="latin-1", LC_ALL="C.UTF-8")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.startswith("?ó?w.yaml: ok, cluster test".encode("latin-1"))


@pytest.mark.parametrize(
    "words", ["credentials show --show-passwords", "--json credentials show --show-passwords"]
)
def test_a_password_is_printed_as_it_is_or_not_at_all(kbpg: Kbpg, words: str) -> None:
    file = Path("credentials/postgres.env")
    file.write_text(file.read_text().replace(f"{PASSWORD}-b", f"{PASSWORD}-ż"))
    ended = kbpg(f"{{}} {words}", PYTHONIOENCODING="utf-8", LC_ALL="C.UTF-8")
    assert (ended.returncode, f"{PASSWORD}-ż".encode() in ended.stdout) == (0, True)
    ended = kbpg(f"{{}} {words}", PYTHONIOENCODING="latin-1", LC_ALL="C.UTF-8")
    assert ended.returncode == 1
    assert ended.stderr.decode().splitlines() == [
        "error: it has a character that iso8859-1 cannot write",
        "hint: run it again with PYTHONIOENCODING=utf-8",
    ]
    assert f"{PASSWORD}-?".encode() not in ended.stdout
    assert not Path(".kbpg").exists()


def test_the_inventory_check_in_json(world: Any, capsys: Capture) -> None:
    assert run(["--json", "inventory", "check"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "inventory.yaml",
        "cluster": "test",
        "db": ["db-1", "db-2", "db-3"],
        "proxies": ["proxy-1", "proxy-2"],
    }
