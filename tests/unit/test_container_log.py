"""The end of a log as evidence: lines about connections are not counted, and all others stay."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kbpg.health.questions import LogsFact
from kbpg.hosts.port import Output
from kbpg.resources.container_log import READ_LINES, last_lines, read_command, script

AT = "2026-11-29 16:51:44.539 UTC [29037] "
CONNECTIONS = (
    f"{AT}[unknown]@[unknown] [unknown] LOG:  connection received: host=127.0.0.1 port=50740",
    f'{AT}kb_app@keybuzz [unknown] LOG:  connection authenticated: identity="kb_app" method=scram-sha-256 (a:1)',
    f"{AT}kb_app@keybuzz [unknown] LOG:  connection authorized: user=kb_app database=keybuzz SSL enabled",
    f"{AT}replicator@[unknown] [unknown] LOG:  replication connection authorized: user=replicator",
    f"{AT}kb_app@keybuzz kbpg LOG:  disconnection: session time: 0:00:00.015 user=kb_app database=keybuzz",
)
"""As PostgreSQL 15 and 16 write them, with kbpg's log_line_prefix."""
OTHERS = (
    f"{AT}PANIC:  could not locate a valid checkpoint record",
    f'{AT}kb_app@keybuzz [unknown] FATAL:  password authentication failed for user "kb_app"',
    f"{AT}kb_app@keybuzz [unknown] LOG:  statement: create table t (n int)",
    f'{AT}FATAL:  could not connect to the primary server: connection to server at "10.0.0.120" failed',
    f"{AT}kb_app@keybuzz a LOG:  could not receive data from client: Connection reset by peer",
    "2026-11-29 16:51:44,228 INFO: no action. I am (db-1), the leader with the lock",
    "caf\u00e9 in another encoding",
)


def noisy() -> list[str]:
    """Return a log that ends with far more connections than a tail has lines."""
    return [line for other in OTHERS for line in (*CONNECTIONS, other, *CONNECTIONS)] + [*CONNECTIONS] * 50


def test_the_last_lines_are_of_what_is_no_connection() -> None:
    text = "\n".join(noisy())
    assert last_lines(text, 3) == list(OTHERS[-3:])
    assert last_lines(text, 100) == list(OTHERS)
    assert last_lines("", 8) == []


@pytest.mark.parametrize("line", CONNECTIONS)
def test_each_line_of_a_connection_is_left_out(line: str) -> None:
    assert last_lines(line, 8) == []


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_host_gives_the_same(tmp_path: Path, end: str) -> None:
    """With the real grep and tail; the log comes from both streams, in Latin-1."""
    (tmp_path / "said").write_bytes(("\n".join(noisy()) + end).encode("latin-1"))
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\ncat "{tmp_path}/said" >&2\n')
    docker.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["sh", "-c", script("patroni", 4)], env=path, capture_output=True, check=True)
    assert ran.stdout.decode("latin-1").splitlines() == list(OTHERS[-4:])
    assert ran.stdout.endswith(b"\n")
    assert (tmp_path / "asked").read_text() == f"logs --tail {READ_LINES} patroni\n"
    fact = LogsFact(("patroni", "none"))
    ran = subprocess.run(["sh", "-c", fact.script], env=path, capture_output=True, check=True)
    found = fact.parse(Output(ran.returncode, ran.stdout.decode("latin-1"), ""))
    assert found == {"patroni": OTHERS, "none": OTHERS}


def test_enough_is_read() -> None:
    assert read_command("patroni") == ["docker", "logs", "--tail", "2000", "patroni"]
