"""How psql is started: as whom, where, and without a password in any argument or variable."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.operations import psql

from .small_cluster import CREDENTIALS, context

CONTEXT = context()
PASSWORD = CREDENTIALS.app_password.reveal()


def test_the_superuser_comes_over_the_socket_without_a_password() -> None:
    argv = psql.direct(CONTEXT, ["-c", "select 1"], terminal=None)
    assert argv[-4:] == ["patroni", "psql", "-c", "select 1"]
    assert "PGUSER=kb_admin" in argv
    assert "PGDATABASE=keybuzz" in argv
    assert "--tty" not in argv
    assert not any(word.startswith(("PGHOST", "PGPASS")) for word in argv)


def test_a_terminal_is_one_on_the_host_too_and_keeps_no_history() -> None:
    argv = psql.direct(CONTEXT, [], terminal="xterm")
    assert "--tty" in argv
    assert "TERM=xterm" in argv
    assert "PSQL_HISTORY=/dev/null" in argv


def test_the_application_comes_through_both_proxies() -> None:
    argv = psql.pooled(CONTEXT, ["-At"], terminal=None, password_file="/run/postgresql/kbpg-pass.x")
    assert "PGUSER=kb_app" in argv
    assert "PGHOST=192.0.2.11,192.0.2.12" in argv
    assert "PGPORT=6432" in argv
    assert PASSWORD not in " ".join(argv)
    assert argv[-3:] == ["/run/postgresql/kbpg-pass.x", "15", "-At"]


def test_the_password_travels_through_standard_input_alone() -> None:
    got: list[bytes] = []

    def docker(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        got.append(stdin)
        return Output(0, "/run/postgresql/kbpg-pass.x")

    host = FakeHost("db-1", programs={"docker": docker})
    assert psql.leave_password(CONTEXT, host) == "/run/postgresql/kbpg-pass.x"
    assert got == [f"*:*:*:*:{PASSWORD}\n".encode()]
    assert not any(PASSWORD in word for argv in host.journal for word in argv)


def test_the_password_file_is_for_its_owner_and_goes_away(tmp_path: Path) -> None:
    """The two scripts as a shell runs them, with a psql that shows what it was given."""
    leave = psql._LEAVE.replace("/run/postgresql", str(tmp_path))
    made = subprocess.run(
        ["sh", "-c", leave], input=b"*:*:*:*:x\n", capture_output=True, check=True, timeout=10
    )
    file = Path(made.stdout.decode())
    assert file.stat().st_mode & 0o777 == 0o600
    client = tmp_path / "psql"
    client.write_text('#!/bin/sh\ncat "$PGPASSFILE"; echo "$#:$2"; read word; echo "$word"\n')
    client.chmod(0o755)
    argv = ["sh", "-c", psql._USE, "psql", str(file), "0.2", "-c", "select 'a b'"]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ran = subprocess.run(argv, input=b"typed\n", capture_output=True, check=True, timeout=10, env=path)
    assert ran.stdout.decode().splitlines() == ["*:*:*:*:x", "2:select 'a b'", "typed"]
    ends = time.monotonic() + 5
    while file.exists():
        assert time.monotonic() < ends, "the file stays"
        time.sleep(0.05)
