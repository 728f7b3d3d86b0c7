"""Journals read back: what kbpg wrote, what older ones wrote, and what is damaged, foreign or hostile."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg import __version__
from kbpg.engine import journals
from kbpg.engine.history import Record, chosen, parse
from kbpg.engine.journal import Journal, author
from kbpg.engine.redactor import Redactor
from kbpg.secret import Secret

NAME = "20261128T061003Z-apply-all-12345.jsonl"
OLD = (
    '{"time": "2026-11-28T06:10:04.437Z", "host": "db-2", "command": ["rm", "-f", "/x"], "status": 1,'
    ' "seconds": 0.5, "sent": 3, "received": 40}\n'
    '{"time": "2026-11-28T06:10:03.437Z", "host": "db-1", "command": ["take the lock"], "status": 0,'
    ' "seconds": 0.01, "sent": 0, "received": 0}\n'
)


def written(directory: Path, *, code: int | None = 0, ending: str = "") -> Record:
    about = author(["apply-all", "--limit", "db-1", "hunter22"], Path("inventory.yaml"))
    journal = Journal(directory, "apply-all", Redactor([Secret("hunter22")]), about)
    with journal:
        journal.record("db-1", ["read", "date"], status=0, seconds=0.25)
        journal.record("db-2", ["docker", "restart", "x"], status="timeout", seconds=2)
    if code is not None:
        journal.end(code, ending)
    (name,) = journals.names(directory)
    return journals.read(directory, name)


def test_who_ran_what_and_how_it_ended_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    record = written(tmp_path, code=1, ending="db-2: no answer with hunter22")
    assert record.who is not None
    assert record.who.count("@") == 1
    assert (record.sudo_user, record.kbpg, record.command) == ("alice", __version__, "apply-all")
    assert record.arguments == ("apply-all", "--limit", "db-1", "***")
    assert record.inventory == str(Path.cwd() / "inventory.yaml")
    assert (record.code, record.ending) == (1, "db-2: no answer with ***")
    assert (record.hosts, record.acts, record.damaged, record.running) == (("db-2", "db-1"), 1, 0, False)
    assert [entry.status for entry in record.entries] == ["timeout", 0]


def test_a_kbpg_that_was_killed_has_no_end(tmp_path: Path) -> None:
    record = written(tmp_path, code=None)
    assert (record.code, record.ending, record.running) == (None, None, False)
    assert record.who is not None


def test_a_kbpg_that_still_runs_is_seen_to(tmp_path: Path) -> None:
    with Journal(tmp_path, "apply-all", Redactor(), author([], Path("i"))) as journal:
        journal.record("db-1", ["true"], status=0, seconds=0)
        (name,) = journals.names(tmp_path)
        assert journals.read(tmp_path, name).running
    assert not journals.read(tmp_path, name).running


def test_what_has_run_no_command_writes_no_end_either(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", "plan", Redactor()) as journal:
        pass
    journal.end(0, "")
    assert not (tmp_path / "journal").exists()


def test_a_lock_that_cannot_be_had_does_not_matter(tmp_path: Path) -> None:
    with Journal(tmp_path, "apply-all", Redactor(), author([], Path("i"))) as journal:
        assert journal.path is not None
        journal.path.touch()
        with journal.path.open() as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            journal.record("db-1", ["true"], status=0, seconds=0)
    assert len(journals.read(tmp_path, journal.path.name).entries) == 1


def test_an_old_journal_says_what_it_has() -> None:
    record = parse(NAME, OLD)
    assert (record.id, record.command) == ("20261128T061003Z-apply-all-12345", "apply-all")
    assert (record.who, record.arguments, record.code, record.seconds) == (None, None, None, None)
    assert [entry.host for entry in record.entries] == ["db-1", "db-2"]
    assert record.took == pytest.approx(1.937)
    assert (record.entries[1].sent, record.entries[1].received) == (3, 40)


@pytest.mark.parametrize(
    ("command", "looks"),
    [
        (["read", "date"], True),
        (["take the lock"], True),
        (["docker", "inspect", "patroni"], True),
        (["docker", "image", "inspect", "x"], True),
        (["PATCH", "/config", '{"kbpg_wakes_patroni": null}'], True),
        (["PATCH", "/config", '{"ttl": 30}'], False),
        (["docker", "image", "rm", "x"], False),
        (["docker", "exec", "patroni", "psql"], False),
        (["sh", "-c", "cat x"], False),
        (["SQL", "postgres", "ALTER ROLE x"], False),
        (["write", "/opt/x", "0:0", "0600"], False),
        ([], False),
    ],
)
def test_only_what_surely_looks_is_a_look(command: list[str], looks: bool) -> None:
    line = {"time": "2026-11-28T06:10:04Z", "host": "a", "command": command, "status": 0, "seconds": 0}
    (entry,) = parse(NAME, json.dumps(line)).entries
    assert entry.looks is looks


def test_hosts_and_acts_can_be_picked() -> None:
    record = parse(NAME, OLD)
    assert [entry.host for entry in record.only(["db-1"]).entries] == ["db-1"]
    assert [entry.command for entry in record.only(acts=True).entries] == [("rm", "-f", "/x")]
    assert record.only() == record


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[" * 100_000,
        "9" * 10_000,
        "null",
        "[]",
        '"event"',
        '{"event": "begin"}',
        '{"event": "later"}',
        '{"event": ["begin"]}',
        OLD.splitlines()[0].replace("0.5", "1e999"),
        OLD.splitlines()[0].replace("0.5", "NaN"),
        OLD.splitlines()[0].replace("0.5", "true"),
        OLD.splitlines()[0].replace('"status": 1', '"status": null'),
        OLD.splitlines()[0].replace("2026", "0001"),
        OLD.splitlines()[0].replace("437Z", "437"),
        OLD.splitlines()[0].replace('["rm", "-f", "/x"]', '"rm"'),
    ],
)
def test_a_damaged_line_is_counted(line: str) -> None:
    record = parse(NAME, line + "\n" + OLD)
    assert (record.damaged, len(record.entries)) == (1, 2)


def test_no_text_reaches_a_terminal_with_control_characters() -> None:
    line = {
        "time": "2026-11-28T06:10:04Z",
        "host": "a\x1b[31m",
        "command": ["e\u202evil", "\ud800", "two\nlines"],
        "status": "\x07",
        "seconds": 0,
    }
    (entry,) = parse(NAME, json.dumps(line)).entries
    assert entry.host == "a\\x1b[31m"
    assert entry.command == ("e\\u202evil", "\\ud800", "two\nlines")
    assert entry.status == "\\x07"


lines = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["time", "host", "command", "status", "seconds", "sent", "event", "who", "exit"]),
            inner,
            max_size=9,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.lists(lines.map(json.dumps) | st.text(max_size=40), max_size=4), st.integers(0, 60))
def test_any_content_is_a_record(content: list[str], cut: int) -> None:
    record = parse(NAME, "\n".join(content) + OLD[:cut])
    assert record.took >= 0
    assert record.acts >= 0
    assert all(text.isprintable() for text in record.hosts)


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / NAME).write_text(OLD)
    (tmp_path / "20261128T061004Z-plan-1.jsonl").mkdir()
    (tmp_path / "20261128T061005Z-plan-1.jsonl").symlink_to(tmp_path / NAME)
    (tmp_path / "99999999T999999Z-plan-1.jsonl").write_text(OLD)
    os.mkfifo(tmp_path / "20261128T061006Z-plan-1.jsonl")
    names = journals.names(tmp_path)
    assert "notes.txt" not in names
    found = list(journals.each(tmp_path, names))
    assert [each.id for each in found if isinstance(each, Record)] == [NAME.removesuffix(".jsonl")]
    assert sorted(str(each).rpartition(": ")[2] for each in found if not isinstance(each, Record)) == [
        "is a directory",
        "its name has no time",
        "not a file",
        "too many levels of symbolic links",
    ]


def test_no_directory_is_no_journals(tmp_path: Path) -> None:
    assert journals.names(tmp_path / "none") == []
    (tmp_path / "file").touch()
    with pytest.raises(journals.Unreadable, match="not a directory"):
        journals.names(tmp_path / "file")


IDS = ["20261128T061003Z-plan-12", "20261128T061003Z-plan-1", "20261127T000000Z-status-7"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("last", IDS[:1]),
        ("20261128T061003Z-plan-1", IDS[1:2]),
        ("20261128T061003Z", IDS[:2]),
        ("2026-11-28T06:10:03Z", IDS[:2]),
        ("2026-11-28 06:10:03Z-plan-12", IDS[:1]),
        ("2026-11-27", IDS[2:]),
        ("nothing", []),
        ("", []),
    ],
)
def test_a_run_is_found_by_what_the_list_shows(name: str, meant: list[str]) -> None:
    assert chosen(name, IDS) == meant
