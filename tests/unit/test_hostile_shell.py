"""Every script and command line that kbpg composes, run by real shells with hostile values: what comes out is what
went in, and nothing else has run.

`docker`, `psql`, `ssh` and `kbpg` are stand-ins that print their arguments.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from psycopg import pq

from kbpg.credentials import shell
from kbpg.engine import lock
from kbpg.facts import ShellFact
from kbpg.health.checks import overrides, postgres, replication
from kbpg.health.questions import LogsFact, UsageFact
from kbpg.health.snapshot import Snapshot
from kbpg.hosts.by_hand import as_option
from kbpg.hosts.line import command_line
from kbpg.hosts.local import LocalHost
from kbpg.model import CLUSTER
from kbpg.operations import destroying, logs, psql
from kbpg.operations.server_settings import LibrariesFact, TrialFact
from kbpg.operations.standing import RoomFact
from kbpg.resources.datadir import DataDirectoryFact
from kbpg.resources.directory import DirectoryFact, ListingFact
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact
from kbpg.resources.hardware import DiskSizeFact
from kbpg.resources.preflight.disk import DiskFact
from kbpg.resources.sysctl import SysctlFact
from kbpg.secret import Secret

from . import hostile

SHELLS = [name for name in ("sh", "dash", "bash", "busybox") if shutil.which(name)]
PROGRAMS = ("docker", "psql", "ssh", "kbpg", "sudo")
INVENTORY = SimpleNamespace(cluster=SimpleNamespace(superuser="boss", name="kb"))

names = hostile.anything.filter(
    lambda name: "/" not in name and name not in (".", "..") and len(name.encode()) < 200
)
"""Names of files: anything but a slash."""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with the stand-ins in it, first on the path; nothing else may come to be there."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        for name in PROGRAMS:
            program = Path(directory, name)
            log = f"{directory}/calls"
            program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$#" "${{0##*/}}" "$@" >>{log}\nexit 0\n')
            program.chmod(0o755)
        patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        yield Path(directory)


def listed(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


def sh(line: str, where: Path, name: str = "sh") -> bytes:
    """Return what a shell prints for a line, run in an empty directory that stays empty."""
    with tempfile.TemporaryDirectory(dir=where) as directory:
        argv = [*([name, "sh"] if name == "busybox" else [name]), "-c", line]
        # Standard input stays open: its end would mean to let go
        reading, writing = os.pipe()
        with open(reading, "rb") as stdin, open(writing, "wb"):  # noqa: PTH123 (descriptors)
            ended = subprocess.run(argv, cwd=directory, capture_output=True, timeout=30, stdin=stdin)
        assert list(Path(directory).iterdir()) == [], "something else has run"
    return ended.stdout


def calls(line: str, where: Path) -> list[list[str]]:
    """Run a line as `sh` does, and return the command lines that the stand-ins saw."""
    log = where / "calls"
    log.unlink(missing_ok=True)
    sh(line, where)
    words = log.read_bytes().decode().split("\0")[:-1] if log.exists() else []
    found = []
    while words:
        count = int(words[0]) + 2
        found.append(words[1:count])
        del words[:count]
    return found


@settings(max_examples=100)
@given(st.lists(hostile.one_line, min_size=1, max_size=5))
@pytest.mark.parametrize("name", SHELLS)
def test_the_credentials_file_is_what_a_shell_sources(place: Path, name: str, values: list[str]) -> None:
    text = "".join(f"A{at}={shell.quote(value)}\n" for at, value in enumerate(values))
    shown = "".join(f"printf '%s\\0' \"$A{at}\"\n" for at in range(len(values)))
    assert sh(text + shown, place, name).decode().split("\0")[:-1] == values
    for at, value in enumerate(values):
        found = shell.assignment(text.split("\n")[at])
        assert found is not None
        assert found.value.reveal() == value


@settings(max_examples=100)
@given(st.lists(hostile.anything, max_size=4), st.booleans(), hostile.one_line)
def test_a_command_on_a_host_gets_its_words(
    place: Path, words: list[str], sudo: bool, lock_file: str
) -> None:
    become = ("env",) if sudo else ()
    line = command_line(["docker", *words], 20, become=become, guard=None)
    assert calls(line, place) == [["docker", *words]]
    guard = SimpleNamespace(path=lock_file, alive=True)
    split = shlex.split(command_line(["docker", *words], 20, become=become, guard=guard))
    assert split[-1 - len(words) :] == ["docker", *words]
    assert lock_file in split


@settings(max_examples=100)
@given(names, hostile.anything)
def test_a_file_is_written_and_read_whatever_its_name(place: Path, name: str, content: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        path, host = f"{directory}/{name}", LocalHost()
        owner = f"{os.getuid()}:{os.getgid()}"
        host.write(path, content.encode(), owner=owner, mode=0o640)
        assert Path(path).read_bytes() == content.encode()
        fact = FileFact(path)
        found = fact.parse(host.read([fact])[fact.key])
        assert found is not None
        assert (found.owner, found.mode) == (owner, 0o640)
        assert listed(directory) == [name]


def facts(path: str) -> list[ShellFact[Any]]:
    """Return every question that has a path in it."""
    return [
        DirectoryFact(path),
        ListingFact(path),
        DataDirectoryFact(path, os.getuid()),
        DataFact(path),
        DiskFact(path),
        DiskSizeFact(path),
        UsageFact((path,)),
        RoomFact(path, path),
    ]


@settings(max_examples=60)
@given(names.filter(str.isprintable))
def test_every_question_about_a_path_is_about_that_path(place: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        path = f"{directory}/{name}"
        os.mkdir(path, 0o700)  # noqa: PTH102 (the name as it is)
        asked = facts(path)
        answers = LocalHost().read(asked)
        directory_, listing, data_directory, data, disk, size, usage, room = (
            fact.parse(answers[fact.key]) for fact in asked
        )
        owner = f"{os.getuid()}:{os.getgid()}"
        assert directory_ == (owner, 0o700)
        assert listing == frozenset()
        assert (data_directory.owner, data_directory.mode, data_directory.stranger) == (owner, 0o700, "")
        assert not data.present
        assert not disk.broken
        assert size > 0
        assert usage[0].path == path
        assert usage[0].size > 0
        assert room[1] > 0
        assert listed(directory) == [name]
        assert listed(path) == []


@settings(max_examples=60)
@given(st.lists(hostile.anything, min_size=1, max_size=3, unique=True), hostile.anything, hostile.anything)
def test_questions_to_docker_are_about_what_they_name(
    place: Path, words: list[str], value: str, directory: str
) -> None:
    for script in (ContainersFact(tuple(words)).script, ImagesFact(tuple(words)).script):
        call, *_ = calls(script, place)
        assert call[-len(words) :] == words
    shown = [call for call in calls(LogsFact(tuple(words)).script, place) if "logs" in call]
    assert [call[-1] for call in shown] == words
    (call,) = calls(TrialFact(words[0], value, 16).script, place)
    assert call[-1] == f"{words[0]}={value}"
    asked = calls(LibrariesFact(",".join(words), directory).script, place)
    assert all(call[:2] == ["docker", "exec"] for call in asked)
    assert all(call[-2] == "-e" and call[-1].endswith(".so") for call in asked[1:])


@settings(max_examples=60)
@given(st.lists(hostile.one_line, min_size=1, max_size=3))
def test_a_library_that_is_missing_is_named(place: Path, words: list[str]) -> None:
    """The stand-in fails here, as `test -e` would."""
    wanted = " ".join(words).translate({ord(quote): None for quote in "'\""}).replace(",", " ").split()
    fact = LibrariesFact(",".join(words), "/lib")
    script = fact.script.replace("docker exec -u 999:999 patroni true || exit 1", "docker() { false; }")
    missing = sh(script, place).decode()
    assert missing.split() == wanted


@settings(max_examples=60)
@given(st.lists(hostile.anything, min_size=1, max_size=3))
def test_words_of_psql_and_of_logs_reach_the_program(place: Path, words: list[str]) -> None:
    file = "/nowhere/kbpg-pass.x"
    line = shlex.join(["sh", "-c", psql._USE, "psql", file, "0", *words])
    assert calls(line, place) == [["psql", *words]]
    line = shlex.join(["sh", "-c", logs._SCRIPT, "logs", *words])
    assert calls(line, place) == [["docker", "logs", *words]]


@settings(max_examples=60)
@given(names, names)
def test_what_destroy_empties_is_what_it_was_given(place: Path, name: str, other: str) -> None:
    assume(name != other)
    with tempfile.TemporaryDirectory(dir=place) as directory:
        for each in (name, other):
            os.mkdir(f"{directory}/{each}")  # noqa: PTH102
            Path(f"{directory}/{each}/file").touch()
        LocalHost().run(["sh", "-c", destroying._EMPTY, "remove", f"{directory}/{name}"])
        left = [each for each in listed(directory) if listed(f"{directory}/{each}")]
        assert left == [other]


@settings(max_examples=60)
@given(hostile.anything, hostile.anything)
def test_the_holder_of_the_lock_is_told_as_it_is(place: Path, who: str, doing: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        words = [" ".join(word.split()) for word in (directory, who, "now", doing)]
        script = lock._SCRIPT.replace("exec cat >/dev/null", "")
        LocalHost().run(["sh", "-c", script, "kbpg-lock", *words, "0"])
        lines = Path(directory, "kbpg.holder").read_text().split("\n")
        assert lines[:3] == [f"who {words[1]}", "since now", f"doing {words[3]}"]
        assert sorted(listed(directory)) == ["kbpg.commands.lock", "kbpg.holder", "kbpg.lock"]


@given(st.lists(st.from_regex(r"[a-z]+(\.[a-z_]+){1,3}", fullmatch=True), min_size=1, max_size=3))
def test_sysctls_are_paths(settings_: list[str]) -> None:
    words = shlex.split(SysctlFact(tuple(settings_)).script)
    assert all(name.replace(".", "/") in words for name in settings_)


# --- commands to paste -----------------------------------------------------------------------------------


def snapshot(known: Mapping[int, object] | None = None) -> Snapshot:
    """Return as much of a snapshot as the remedies need: hosts are reached as root."""

    def ssh(name: str, command: str, *words: str) -> str:
        whole = f"{command} {shlex.join(words)}" if words else command
        return shlex.join(["ssh", f"root@{name}", whole])

    answers = dict(known or {})
    found = SimpleNamespace(
        inventory=INVENTORY,
        leader="db-1",
        db=[],
        on_host=ssh,
        differing=lambda *kinds: (),
        facts=SimpleNamespace(known=lambda fact, host: answers.get(id(fact))),
        ask=SimpleNamespace(roles=object(), views=SimpleNamespace(rules=object())),
    )
    return cast(Snapshot, found)


def pasted(line: str, place: Path) -> list[str]:
    """Run a pasted command line, then what its ssh would run; return the words of the last."""
    (call,) = calls(line, place)
    assert call[:2] == ["ssh", "root@db-1"]
    (inner,) = calls(call[2], place)
    return inner


@settings(max_examples=100)
@given(hostile.anything)
def test_a_slot_with_any_name_is_dropped_by_that_name(place: Path, name: str) -> None:
    words = pasted(replication.psql(snapshot(), "db-1", replication.dropping(name)), place)
    assert words[-2] == "-c"
    tokens = hostile.sql(words[-1])
    assert [value for kind, value in tokens if kind == "literal"] == [name]
    assert [value for kind, value in tokens if kind != "literal"] == [
        "select",
        "pg_drop_replication_slot",
        "(",
        ")",
    ]


@settings(max_examples=100)
@given(hostile.anything)
def test_a_parameter_with_any_name_is_reset_by_that_name(place: Path, name: str) -> None:
    query = f"alter system reset {overrides._parameter(name)}"
    words = pasted(replication.psql(snapshot(), "db-1", query, "select 1"), place)
    assert (words[-4], words[-2:]) == ("-c", ["-c", "select 1"])
    kinds = hostile.sql(words[-3])
    assert [value for _, value in kinds[:3]] == ["alter", "system", "reset"]
    assert "".join(value for _, value in kinds[3:]) == name


@settings(max_examples=100)
@given(hostile.anything)
def test_a_password_is_asked_for_the_role_it_names(place: Path, name: str) -> None:
    seen = snapshot()
    known = {id(seen.ask.roles): {name: {"verifier": "md5x", "login": True}}}
    seen = snapshot(known)
    object.__setattr__(seen, "facts", SimpleNamespace(known=lambda fact, host: next(iter(known.values()))))
    (found,) = postgres.scram(seen)
    assert found.host == CLUSTER
    (call,) = calls(found.remedy.replace("{kbpg}", "kbpg"), place)
    assert call[:3] == ["kbpg", "psql", "-c"]
    command, _, argument = call[3].partition(" ")
    assert command == r"\password"
    # psql runs what stands in backquotes and replaces :names, but between double quotes
    assert (
        argument == name
        if name.isidentifier() and name.isascii()
        else hostile.sql(argument) == [("name", name)]
    )


@settings(max_examples=100)
@given(hostile.anything)
def test_a_container_with_any_name_is_stopped_by_that_name(place: Path, name: str) -> None:
    seen = SimpleNamespace(
        inventory=SimpleNamespace(
            host=lambda each: SimpleNamespace(address="db-1"),
            ssh_for=lambda host: SimpleNamespace(
                host=None,
                port=22,
                user="root",
                key=None,
                jump=None,
                known_hosts=None,
                connect_timeout=1.0,
                sudo=False,
                fingerprints=(),
                jump_fingerprints=(),
            ),
        )
    )
    line = Snapshot.on_host(cast(Snapshot, seen), "db-1", "docker stop", name)
    (call,) = calls(line, place)
    assert calls(call[-1], place) == [["docker", "stop", name]]


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs ssh")
@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([*" \"'\\#%,=", "%h", "%%", "a", "b", "ü"]), min_size=1, max_size=6).map("".join)
)
def test_ssh_takes_a_path_for_one_file(name: str) -> None:
    """`ssh -G` prints what it has understood, without connecting; 33 files would be too many for it."""
    path = f"/k/{name}"
    argv = ["/usr/bin/ssh", "-F", "none", "-G", "-o", f"UserKnownHostsFile={as_option(Path(path))}", "x"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    (shown,) = (line for line in ended.stdout.splitlines() if line.startswith("userknownhostsfile "))
    # Tokens are replaced here or, by older ones, when it connects
    assert shown.removeprefix("userknownhostsfile ") in (path, path.replace("%", "%%"))
    many = as_option(Path("/k/" + " ".join("ab" for _ in range(40))))
    argv[5] = f"UserKnownHostsFile={many}"
    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 0


# --- libpq -----------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(hostile.one_line.filter(lambda value: len(value.encode()) <= 1023))
def test_libpq_finds_the_password_in_its_file(password: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "pgpass")
        file.write_text(psql._line(Secret(password)), encoding="utf-8")
        file.chmod(0o600)
        # Nothing listens on port 1 of this machine; libpq has read the file before it dials
        words = {"hostaddr": "127.0.0.1", "port": "1", "user": "u", "dbname": "d", "passfile": str(file)}
        text = " ".join(f"{key}='{value}'" for key, value in words.items())
        with contextlib.closing(_Connection(text)) as connection:
            assert connection.password == password.encode()


class _Connection:
    def __init__(self, text: str) -> None:
        self._connection = pq.PGconn.connect_start(text.encode())
        self.password = self._connection.password

    def close(self) -> None:
        self._connection.finish()
