"""`kbpg journal`: the runs that left a journal beside the inventory, and the commands of one of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.engine.journal import Journal, author
from kbpg.engine.redactor import Redactor
from kbpg.errors import Refused
from kbpg.secret import Secret

Capture = pytest.CaptureFixture[str]
DIRECTORY = Path(".kbpg/journal")


def line(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def ran(time: str, host: str, *command: str, status: int | str = 0, seconds: float = 0.25) -> str:
    return line(
        time=f"2026-11-28T{time}Z",
        host=host,
        command=command,
        status=status,
        seconds=seconds,
        sent=1,
        received=2,
    )


def begin(time: str, *arguments: str, **more: object) -> str:
    about = {"who": "root@install-01", "kbpg": "0.1.0", "inventory": "/srv/kbpg/inventory.yaml"}
    return line(event="begin", time=f"2026-11-28T{time}Z", **{**about, "arguments": arguments, **more})


def end(code: int, ending: str = "", seconds: float = 61.5) -> str:
    return line(event="end", time="2026-11-28T08:00:00Z", exit=code, ending=ending, seconds=seconds)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inventory that cannot be used, no credentials, and journals of all kinds beside it."""
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text("neither: read\n")
    DIRECTORY.mkdir(parents=True)
    lock = ran("06:10:03.1", "db-1", "take the lock")
    files = {
        # as kbpg wrote them before it said who it was
        "20261127T235959Z-apply-all-77": lock.replace("28T06:10", "27T23:59"),
        "20261128T061003Z-apply-all-12345": begin(
            "06:10:03", "apply-all", "--limit", "db-1,db-2", sudo_user="alice"
        )
        + ran("06:10:04", "db-2", "docker", "restart", "patroni", status="timeout", seconds=60)
        + lock
        + ran("06:10:04.5", "db-1", "sh", "-c", 'set -eu\ncat >"$1"\n' + "x" * 200, "write", "/etc/a b")
        + ran("06:10:05", "db-1", "SQL", "postgres", "ALTER ROLE \"kb_app\" PASSWORD 'SCRAM-SHA-256$***'")
        + end(1, "db-2: `docker restart patroni` did not end within 60 s"),
        "20261128T070000Z-status-1": begin("07:00:00", "status", "--watch")
        + "".join(ran("07:00:01", f"db-{n}", "read", "date") for n in range(1, 5))
        + "{cut of",
        "20261128T070000Z-psql-2": begin("07:00:00", "psql", "***")
        + ran("07:00:01", "db-1", "psql", status=3)
        + end(1),
        "20261128T080000Z-switchover-3": begin("08:00:00", "switchover", "--yes")
        + ran("08:00:01", "proxy-1", "PgBouncer", "PAUSE")
        + ran("08:00:02", "db-1", "POST", "/switchover", '{"leader": "db-1"}', status="HTTP 503")
        + end(130, "interrupted", 3.25),
    }
    for name, text in files.items():
        (DIRECTORY / f"{name}.jsonl").write_text(text)
    (DIRECTORY / "notes.txt").write_text("foreign")
    (DIRECTORY / "20261128T090000Z-plan-9.jsonl").mkdir()


LISTS: dict[str, list[str]] = {
    "all": [],
    "last": ["--last", "2"],
    "host": ["--host", "db-4"],
    "limit": ["--limit", "proxy-1"],
    "changes": ["--changes"],
    "changes of a host": ["--changes", "--host", "db-1"],
    "json": ["--json", "--last", "2"],
    "nothing": ["--host", "db-9"],
    "show": ["show", "2026-11-28T06:10:03Z"],
    "show whole": ["show", "20261128T061003Z-apply-all-12345", "-v"],
    "show last": ["show", "last"],
    "show old": ["show", "2026-11-27"],
    "show damaged": ["show", "20261128T070000Z-s"],
    "show host": ["show", "2026-11-28T06", "--host", "db-1", "--changes"],
    "show json": ["show", "2026-11-28T06", "--json", "--host", "db-2"],
}


@pytest.mark.parametrize("case", LISTS)
def test_output(case: str, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    # The newest cannot be read, and is no run
    words = LISTS[case]
    if "last" in words:
        (DIRECTORY / "20261128T090000Z-plan-9.jsonl").rmdir()
    assert run(["journal", *words]) == 0
    captured = capsys.readouterr()
    here = str(Path.cwd())
    assert (captured.out.replace(here, "HERE"), captured.err.replace(here, "HERE")) == snapshot


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "yesterday"], 2, "error: no run yesterday in "),
        (["show", "2026-11-28T07"], 2, "error: 2026-11-28T07 is 2 runs\n  20261128T070000Z-status-1\n"),
        (["show", "2026-11-28T09"], 1, "plan-9.jsonl: is a directory"),
        (["--last", "0"], 2, "error: invalid value for '--last'"),
        (["--host", "db-1", "show", "last"], 2, "error: options of show stand behind it"),
        (
            ["-i", "elsewhere/inventory.yaml"],
            2,
            "error: elsewhere/inventory.yaml: no such file, and no journal",
        ),
        (["--last", "1", "--verbos"], 2, "error: no such option"),
    ],
)
def test_what_cannot_be_shown(words: list[str], code: int, said: str, capsys: Capture) -> None:
    assert run(["journal", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_nothing_has_run_yet(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    Path("new/inventory.yaml").touch()
    assert run(["journal", "-i", "new/inventory.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"nothing has run yet: no journal in {tmp_path}/new/.kbpg/journal\n"
    assert run(["journal", "-i", "new/inventory.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []
    assert sorted(path.name for path in Path("new").iterdir()) == ["inventory.yaml"]


def test_a_directory_that_cannot_be_listed(capsys: Capture) -> None:
    Path("other").mkdir()
    Path("other/.kbpg").mkdir()
    Path("other/.kbpg/journal").write_text("a file")
    assert run(["journal", "-i", "other/inventory.yaml"]) == 1
    assert capsys.readouterr().err.endswith("/journal: not a directory\n")


@pytest.mark.parametrize(
    ("error", "code", "ending"),
    [
        (None, 0, ""),
        (Refused("not with hunter22\nmore"), 1, "not with ***"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by hunter22"), 1, "internal error: ZeroDivisionError: by ***"),
    ],
)
def test_how_a_command_ends_is_written_down(
    error: BaseException | None, code: int, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def plan(options: Any, steps: Any) -> int:
        about = author(options.words, options.inventory)
        with Journal(options.journal, "plan", Redactor([Secret("hunter22")]), about) as journal:
            options.mask = journal.mask
            options.journals.append(journal)
            journal.record("db-1", ["read"], status=0, seconds=0)
            if error:
                raise error
        return 0

    monkeypatch.setattr("kbpg.cli.running.plan", plan)
    assert run(["plan", "--limit", "hunter22"]) == code
    capsys.readouterr()
    (DIRECTORY / "20261128T090000Z-plan-9.jsonl").rmdir()
    for name in DIRECTORY.glob("20261*Z-*-?.jsonl"):
        name.unlink()
    (path,) = (path for path in DIRECTORY.glob("*-plan-*.jsonl") if re.fullmatch(r".*-\d{2,}", path.stem))
    assert run(["journal", "show", path.stem, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["exit"], shown["ending"], shown["arguments"]) == (code, ending, ["plan", "--limit", "***"])


def test_a_journal_that_cannot_be_ended_changes_no_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def plan(options: Any, steps: Any) -> int:
        with Journal(options.journal, "plan", Redactor()) as journal:
            options.journals.append(journal)
            journal.record("db-1", ["read"], status=0, seconds=0)
        assert journal.path
        journal.path.unlink()
        journal.path.mkdir()
        return 3

    monkeypatch.setattr("kbpg.cli.running.plan", plan)
    assert run(["plan"]) == 3
    assert "cannot be written: Is a directory" in capsys.readouterr().err
