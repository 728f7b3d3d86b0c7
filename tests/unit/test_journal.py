"""The journal, and the masking of secrets in whatever spelling they turn up."""

from __future__ import annotations

import base64
import json
import os
import shlex
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from kbpg.engine.journal import KEPT, LONGEST, Journal
from kbpg.engine.redactor import Redactor
from kbpg.errors import KbpgError
from kbpg.secret import Secret

NASTY = "a'b\"c$d\\e%f@g:h/i ü"


def lines(journal: Journal) -> list[dict[str, object]]:
    assert journal.path is not None
    return [json.loads(line) for line in journal.path.read_text().splitlines()]


def test_a_command_is_one_line(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", "apply-all", Redactor()) as journal:
        journal.record("db-1", ["docker", "ps"], status=0, seconds=0.25, sent=3, received=40)
        journal.record("db-2", ["false"], status="timeout", seconds=60.0)
    first, second = lines(journal)
    assert str(first.pop("time")).endswith("Z")
    assert first == {
        "host": "db-1",
        "command": ["docker", "ps"],
        "status": 0,
        "seconds": 0.25,
        "sent": 3,
        "received": 40,
    }
    assert (second["host"], second["status"]) == ("db-2", "timeout")


def test_file_and_directory_are_their_owner_s_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with Journal(tmp_path / "a" / "journal", "step 03 --limit x/y", Redactor()) as journal:
            journal.record("db-1", ["true"], status=0, seconds=0)
    finally:
        os.umask(mask)
    assert journal.path is not None
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    assert journal.path.name.endswith(f"-step-03-limit-x-y-{os.getpid()}.jsonl")


def test_what_runs_no_command_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", "plan", Redactor()):
        pass
    assert not (tmp_path / "journal").exists()


def test_only_the_newest_journals_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    old = [tmp_path / f"20260101T{n // 60:02}{n % 60:02}00Z-plan-{n}.jsonl" for n in range(KEPT + 3)]
    others = [tmp_path / "notes.jsonl", tmp_path / "20250101T000000Z-plan-1.jsonl.gz", tmp_path / "a"]
    for path in (*old, *others):
        path.write_text("kept")
    with Journal(tmp_path, "plan", Redactor()) as journal:
        journal.record("db-1", ["true"], status=0, seconds=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in others),
        *(path.name for path in old[4:]),
        journal.path.name if journal.path else "",
    }


def test_a_clock_that_was_set_back_does_not_cost_the_new_journal(tmp_path: Path) -> None:
    for n in range(KEPT):
        (tmp_path / f"20990101T{n // 60:02}{n % 60:02}00Z-plan-{n}.jsonl").write_text("")
    with Journal(tmp_path, "plan", Redactor()) as journal:
        journal.record("db-1", ["true"], status=0, seconds=0)
    assert len(lines(journal)) == 1


def test_a_null_journal_masks_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal.null(Redactor([Secret("hunter22")]))
    journal.record("db-1", ["true"], status=0, seconds=0)
    assert journal.mask("is hunter22") == "is ***"
    assert list(tmp_path.iterdir()) == []


def test_commands_are_masked_and_cut(tmp_path: Path) -> None:
    with Journal(tmp_path, "x", Redactor([Secret(NASTY)])) as journal:
        journal.record("db-1", ["psql", f"password={NASTY}", "y" * (LONGEST + 7)], status=0, seconds=0)
    (line,) = lines(journal)
    assert line["command"] == ["psql", "password=***", "y" * LONGEST + "… 7 more characters"]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path, "x", Redactor()) as journal:

        def work(number: int) -> None:
            for _ in range(50):
                journal.record(f"db-{number}", ["echo", "x" * 500], status=0, seconds=0)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    hosts = [line["host"] for line in lines(journal)]
    assert sorted(set(hosts)) == [f"db-{number}" for number in range(8)]
    assert len(hosts) == 400


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "journal", "x", Redactor())
    with pytest.raises(KbpgError, match=r"the journal .* cannot be written: Not a directory"):
        journal.record("db-1", ["true"], status=0, seconds=0)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "repr": repr,
    "json": json.dumps,
    "json, not ascii": lambda value: json.dumps(value, ensure_ascii=False),
    "yaml": lambda value: yaml.safe_dump({"password": value}, width=10_000),
    "yaml, double quotes": lambda value: yaml.safe_dump(value, default_style='"', width=10_000),
    "yaml, single quotes": lambda value: "'" + value.replace("'", "''") + "'",
    "shell": shlex.quote,
    "shell, single quotes": lambda value: "'" + value.replace("'", "'\\''") + "'",
    "shell in a shell": lambda value: shlex.quote(shlex.join(["psql", value])),
    "sql": lambda value: sql.Literal(value).as_string().removeprefix(" E"),
    "sql in a shell": lambda value: shlex.join(["psql", "-c", sql.Literal(value).as_string()]),
    "url": lambda value: f"postgresql://u:{quote(value, safe='')}@h",
    "form": lambda value: f"password={quote_plus(value)}",
    "conninfo": lambda value: "password='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "pgpass": lambda value: "h:1:d:u:" + value.replace("\\", "\\\\").replace(":", "\\:"),
    "userlist.txt": lambda value: '"u" "' + value.replace('"', '""') + '"',
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of user:password": lambda value: base64.b64encode(f"kb:{value}".encode()).decode(),
    "base64 of a:password": lambda value: base64.b64encode(f"a:{value}!".encode()).decode(),
    "base64 of password in the middle": lambda value: base64.b64encode(f"{{{value}}}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "value", [NASTY, "Xk3nV9-plain_0nly.letters", "''''''''", "\\\\n\\t\\x00", "tab\there"]
)
def test_a_secret_is_masked_in_every_spelling(spelling: str, value: str) -> None:
    spelled = SPELLINGS[spelling](value)
    masked = Redactor([Secret(value)]).mask(f"before {spelled} after")
    assert "***" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    # What is left is what surrounds the secret: quotes, and two characters of base64 at either end.
    assert len(masked) <= len(f"before {SPELLINGS[spelling]('***')} after") + 6


@given(st.text(min_size=4, max_size=30), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_never_passes_as_it_is(value: str, before: str, after: str) -> None:
    masked = Redactor([Secret(value)]).mask(before + value + after)
    assert value not in masked or value in "***"


@given(st.text(min_size=12, max_size=30), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_never_passes_in_base64(value: str, before: str, after: str) -> None:
    encoded = base64.b64encode((before + value + after).encode("utf-8", "surrogatepass")).decode()
    assert "***" in Redactor([Secret(value)]).mask(encoded)


def test_the_longest_secret_is_masked_first() -> None:
    redactor = Redactor([Secret("correct"), Secret("correct horse")])
    assert redactor.mask("correct horse, correct") == "***, ***"


def test_short_values_are_not_looked_for() -> None:
    assert Redactor([Secret("a"), Secret("")]).mask("a banana") == "a banana"


def test_secrets_can_be_added() -> None:
    redactor = Redactor()
    assert redactor.mask("later known") == "later known"
    redactor.add([Secret("later")])
    redactor.add([Secret("known")])
    assert redactor.mask("later known") == "*** ***"
