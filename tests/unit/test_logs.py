"""A log on its way to the user: which one, from when, masked, and ended with whoever reads it."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbpg.engine.redactor import Redactor
from kbpg.errors import UsageError
from kbpg.operations.logs import LONGEST, command, container_of, masked_lines
from kbpg.secret import Secret

from .small_cluster import context


@pytest.mark.parametrize(
    ("host", "component"), [("db-2", "patroni"), ("px-1", "haproxy"), ("px-2", "pgbouncer")]
)
def test_a_component_is_the_container_of_that_name(host: str, component: str) -> None:
    assert container_of(context(), host, component) == component


@pytest.mark.parametrize(
    ("host", "component", "message", "hint"),
    [
        ("db-1", "haproxy", "db-1 has no haproxy", "haproxy runs on px-1, px-2; db-1 has patroni"),
        ("px-1", "patroni", "px-1 has no patroni", "runs on db-1, db-2, db-3"),
        ("db-1", "postgresql", "unknown component postgresql", "PostgreSQL writes into patroni's log"),
        ("db-9", "patroni", "no host db-9", "hosts: db-1"),
    ],
)
def test_what_a_host_does_not_have(host: str, component: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        container_of(context(), host, component)
    assert hint in (caught.value.hint or "")


def words(**how: object) -> list[str]:
    return command("patroni", **{"follow": False, "since": None, "lines": None, **how})[4:]  # type: ignore[arg-type]


def test_what_docker_is_asked() -> None:
    assert words() == ["--tail", "100", "patroni"]
    assert words(follow=True, lines=0) == ["--follow", "--tail", "0", "patroni"]
    assert words(since="1h30m") == ["--since", "1h30m", "patroni"]
    assert words(since="2026-11-23T15:00:00Z", lines=5) == [
        *("--since", "2026-11-23T15:00:00Z", "--tail", "5", "patroni")
    ]


@pytest.mark.parametrize("since", ["yesterday", "10", "-5m", "10m; reboot", "--help", ""])
def test_a_time_that_is_none(since: str) -> None:
    with pytest.raises(UsageError, match="not a duration or time"):
        words(since=since)


SECRET = "a-long-pass'word:1"


@given(st.lists(st.integers(0, 60), max_size=6))
def test_a_secret_is_masked_wherever_the_pieces_end(cuts: list[int]) -> None:
    text = f"start {SECRET} middle\nnext {SECRET}\n{SECRET}".encode()
    edges = sorted({0, *cuts, len(text)})
    pieces = (text[a:b] for a, b in pairwise(edges))
    lines = list(masked_lines(pieces, Redactor([Secret(SECRET)]).mask))
    assert lines == ["start *** middle", "next ***", "***"]


def test_a_password_on_the_line_after_its_word_is_masked() -> None:
    text = b"LOG:  statement: alter role a password\n\t'hunter2';\nLOG:  password\nit's the next\n"
    lines = list(masked_lines(iter([text[:50], text[50:]]), Redactor().mask))
    assert lines == ["LOG:  statement: alter role a password", "\t'***';", "LOG:  password", "it's the next"]


@pytest.mark.parametrize("size", [1 << 10, 1 << 15, 1 << 20])
@pytest.mark.parametrize("ends", [b"\nnext\n", b"\nnext", b""])
def test_a_line_that_is_too_long_shows_no_half_of_a_secret(size: int, ends: bytes) -> None:
    line = b"x" * (LONGEST - 5) + SECRET.encode() + b"y" * LONGEST
    text = b"first\n" + line + ends
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    shown = list(masked_lines(pieces, Redactor([Secret(SECRET)]).mask))
    assert shown == ["first", f"… {len(line)} bytes not shown: one line", *(["next"] if ends else [])]


def test_the_longest_line_that_is_shown() -> None:
    text = b"x" * LONGEST
    assert list(masked_lines(iter([text, b"\n\n", text]), str)) == [text.decode(), "", text.decode()]


def test_a_password_after_a_line_that_is_too_long_is_masked() -> None:
    text = b"x" * LONGEST + b" PASSWORD\n'hunter2' and more\n'quoted'\n"
    shown = list(masked_lines(iter([text]), Redactor().mask))
    assert shown[1:] == ["'***' and more", "'quoted'"]


def program(tmp_path: Path, body: str) -> dict[str, str]:
    """Put a `docker` on the path that does this."""
    file = tmp_path / "docker"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def started(argv: list[str], surroundings: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings)


def test_the_reader_on_the_host_ends_when_nobody_listens(tmp_path: Path) -> None:
    """A program that writes nothing would never notice a closed pipe."""
    argv = command("patroni", follow=True, since=None, lines=None)
    running = started(argv, program(tmp_path, f"echo $$ >{tmp_path}/pid; echo ready; exec sleep 300"))
    assert running.stdin
    assert running.stdout
    assert running.stdout.readline() == b"ready\n"
    running.stdin.close()
    running.wait(10)
    running.stdout.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_reader_ends_with_docker_and_as_docker_does(tmp_path: Path) -> None:
    argv = command("gone", follow=False, since=None, lines=3)
    running = started(argv, program(tmp_path, 'echo "$@"; echo no such container >&2; exit 1'))
    assert running.stdout
    assert running.stdout.read() == b"logs --tail 3 gone\nno such container\n"
    assert running.wait(10) == 1
    assert running.stdin
    running.stdin.close()
    running.stdout.close()
