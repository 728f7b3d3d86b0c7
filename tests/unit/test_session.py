"""Opening a session: what is checked first, who answers, and what is said of those who do not."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kbpg import inventory
from kbpg import session as session_module
from kbpg.context import Context
from kbpg.errors import (
    AccessDenied,
    ConnectionLost,
    CredentialsError,
    HostError,
    HostKeyError,
    InventoryError,
    KbpgError,
    Unreachable,
    UsageError,
)
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Writer
from kbpg.options import Options
from kbpg.pki import Stored, load, write
from kbpg.pki.whole import pki_of
from kbpg.session import interruptible, open_session, read_context
from kbpg.steps.authority import StoredFact

NAMES = ("db-1", "db-2", "db-3", "proxy-1")
UNUSED = {name: 1024 + index for index, name in enumerate(NAMES)}
"""Ports for tests that never dial."""


def write_inventory(directory: Path, ports: dict[str, int]) -> Options:
    """Write an inventory whose hosts are reached at ports of 127.0.0.1."""
    lines = ["cluster: {name: test}", "ssh: {user: root, known_hosts: known_hosts, connect_timeout: 2}"]
    for index, name in enumerate(NAMES):
        if name in ("db-1", "proxy-1"):
            lines.append("db:" if name == "db-1" else "proxies:")
        ssh = f"{{host: 127.0.0.1, port: {ports[name]}}}"
        lines.append(f"  - {{name: {name}, address: 192.0.2.{index + 1}, ssh: {ssh}}}")
    path = directory / "inventory.yaml"
    path.write_text("\n".join(lines) + "\n")
    return Options(chosen=path)


@contextmanager
def closed_ports() -> Iterator[dict[str, int]]:
    """Yield ports of 127.0.0.1 that refuse connections: bound, and not listened on."""
    with ExitStack() as stack:
        ports = {}
        for name in NAMES:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports[name] = held.getsockname()[1]
        yield ports


def test_every_host_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        with (
            pytest.raises(KbpgError, match="4 hosts cannot be used") as caught,
            open_session(options, doing="plan", lock=False),
        ):
            pytest.fail("it opened")
    lines = caught.value.lines()
    for name in NAMES:
        assert f"  {name}: 127.0.0.1:{ports[name]} refused the connection" in lines
    assert lines[-1] == "hint: is sshd running there, on that port?"


def test_one_host_that_does_not_answer_is_its_own_error(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        options.limit = frozenset({"db-2"})
        with (
            pytest.raises(Unreachable, match=r"db-2: .* refused the connection"),
            open_session(options, doing="plan", lock=False),
        ):
            pytest.fail("it opened")


def test_a_partial_session_goes_on_without_them(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        with open_session(options, doing="status", lock=False, partial=True) as session:
            assert dict(session.hosts) == {}
            assert sorted(session.unreachable) == sorted(NAMES)


def test_hosts_are_tried_side_by_side(tmp_path: Path) -> None:
    """Four hosts that accept and stay silent take the time of one."""
    with ExitStack() as stack:
        ports = {}
        for name in NAMES:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports[name] = server.getsockname()[1]
        options = write_inventory(tmp_path, ports)
        started = time.monotonic()
        with open_session(options, doing="status", lock=False, partial=True) as session:
            assert len(session.unreachable) == 4
        assert time.monotonic() - started < 2 * 2


def test_a_known_hosts_file_that_is_none_is_noticed_before_dialling(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        options.limit = frozenset({"db-1"})
        (tmp_path / "known_hosts").mkdir()
        with (
            pytest.raises(
                HostKeyError, match=r"db-1: .* cannot be looked up in .*/known_hosts: is a directory"
            ),
            open_session(options, doing="plan", lock=False),
        ):
            pytest.fail("it opened")


def test_nothing_is_dialled_while_the_files_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: object, **more: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)
    options = write_inventory(tmp_path, UNUSED)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/postgres.env").write_text("POSTGRES_SUPERUSER=kb_admin\n")
    with pytest.raises(CredentialsError), open_session(options, doing="x", lock=True):
        pytest.fail("it opened")
    (tmp_path / "credentials/postgres.env").unlink()
    options.limit = frozenset({"db-9"})
    with pytest.raises(UsageError, match="no host db-9"), open_session(options, doing="x", lock=True):
        pytest.fail("it opened")
    (tmp_path / "inventory.yaml").write_text("cluster: {}\n")
    with pytest.raises(InventoryError), open_session(options, doing="x", lock=True):
        pytest.fail("it opened")


def test_new_credentials_stay_in_memory(tmp_path: Path) -> None:
    options = write_inventory(tmp_path, UNUSED)
    context, found = read_context(options)
    assert found is None
    assert context.credentials.app_user == "kb_app"
    assert [entry.name for entry in tmp_path.iterdir()] == ["inventory.yaml"]
    with pytest.raises(CredentialsError, match="no such file"):
        read_context(options, credentials_exist=True)


def test_the_session_knows_the_secrets_before_the_first_connection(tmp_path: Path) -> None:
    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        with open_session(options, doing="plan", lock=False, partial=True) as session:
            secret = session.context.credentials.raft_password.reveal()
            assert options.mask(f"a {secret} b") == session.journal.mask(f"a {secret} b") == "a *** b"


def test_what_fails_because_its_connection_has_ended_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost("db-1")
    monkeypatch.setattr(session_module, "connect_all", lambda *args: ({"db-1": host}, {}))
    for host.ended in (None, ConnectionLost("db-1", "the SSH connection was lost")):
        error = HostError("db-1", "PgBouncer did not take PAUSE")
        with (
            pytest.raises(HostError) as told,
            open_session(write_inventory(tmp_path, UNUSED), doing="switchover", lock=False, partial=True),
        ):
            raise error
        assert told.value is (host.ended or error)


def test_ctrl_c_does_not_wait_for_a_host() -> None:
    """A thread waits for a host's command; Ctrl-C closes the connection, which ends the wait."""

    class Slow:
        closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    host = Slow()
    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()

    def work() -> None:
        with interruptible([host]), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(host.closed.wait, 30)
            os.kill(os.getpid(), signal.SIGINT)
            waiting.result()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert host.closed.is_set()
    assert time.monotonic() - started < 5
    assert signal.getsignal(signal.SIGINT) is before


# --- what is done while the hosts are dialled ----------------------------------------------------------


class Connected:
    """A host that is connected, as far as opening a session and closing it goes."""

    trust: object = None

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        """Close it."""
        self.closed.set()


def test_the_context_is_worked_with_while_hosts_are_dialled(tmp_path: Path) -> None:
    """The hosts accept, and wait for what is done meanwhile before they hang up."""
    given: list[Context] = []
    with ExitStack() as stack:
        servers = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in NAMES}
        options = write_inventory(tmp_path, {n: server.getsockname()[1] for n, server in servers.items()})

        def meanwhile(context: Context) -> None:
            for server in servers.values():
                server.settimeout(5)
                server.accept()[0].close()
            given.append(context)

        with open_session(options, doing="x", lock=False, partial=True, meanwhile=meanwhile) as session:
            assert given == [session.context]
            assert given[0] is session.context
            assert sorted(session.unreachable) == sorted(NAMES)


def test_an_error_of_connecting_is_told_when_what_is_done_meanwhile_ends(tmp_path: Path) -> None:
    ended = threading.Event()

    def meanwhile(context: Context) -> None:
        time.sleep(0.3)  # the ports refuse long before
        ended.set()

    with closed_ports() as ports:
        options = write_inventory(tmp_path, ports)
        with (
            pytest.raises(KbpgError, match="4 hosts cannot be used"),
            open_session(options, doing="plan", lock=False, meanwhile=meanwhile),
        ):
            pytest.fail("it opened")
    assert ended.is_set()


def test_where_a_host_is_missing_the_others_are_asked_what_they_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are connected then, and not locked: `Connected` has nothing to lock."""
    hosts = {name: Connected() for name in NAMES}

    def connect(name: str, *args: object, **more: object) -> Connected:
        if name == "db-2":
            raise AccessDenied(name, "sudo wants a password", detail=["sudo: no"], hint="NOPASSWD")
        return hosts[name]

    asked: list[list[str]] = []

    def besides(context: Context, there: Mapping[str, Writer], controller: Writer) -> list[str]:
        asked.append(sorted(there))
        assert not any(host.closed.is_set() for host in hosts.values())
        return ["db-1: too little memory"]

    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)
    options = write_inventory(tmp_path, UNUSED)
    with (
        pytest.raises(AccessDenied) as caught,
        open_session(options, doing="apply-all", lock=True, besides=besides),
    ):
        pytest.fail("it opened")
    assert caught.value.lines() == [
        "db-2: sudo wants a password",
        "  sudo: no",
        "  db-1: too little memory",
        "hint: NOPASSWD",
    ]
    assert asked == [["db-1", "db-3", "proxy-1"]]
    assert all(hosts[name].closed.wait(5) for name in asked[0])


def test_after_an_error_meanwhile_nobody_stays_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """db-1 is connected when it comes, the others only later."""
    hosts = {name: Connected() for name in NAMES}
    first, go_on = threading.Event(), threading.Event()

    def connect(name: str, *args: object, **more: object) -> Connected:
        if name == "db-1":
            first.set()
        else:
            assert go_on.wait(10)
        return hosts[name]

    def meanwhile(context: Context) -> None:
        assert first.wait(10)
        raise LookupError("a step cannot say what it wants")

    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)
    options = write_inventory(tmp_path, UNUSED)
    with (
        pytest.raises(LookupError, match="a step cannot say"),
        open_session(options, doing="plan", lock=False, meanwhile=meanwhile),
    ):
        pytest.fail("it opened")
    assert hosts["db-1"].closed.wait(5)
    go_on.set()
    assert all(host.closed.wait(5) for host in hosts.values())


def test_nothing_is_done_meanwhile_while_the_files_are_wrong(tmp_path: Path) -> None:
    options = write_inventory(tmp_path, UNUSED)
    options.inventory.write_text("cluster: {}\n")

    def meanwhile(context: Context) -> None:
        pytest.fail("it was called")

    with (
        pytest.raises(InventoryError),
        open_session(options, doing="x", lock=True, meanwhile=meanwhile),
    ):
        pytest.fail("it opened")


# --- certificates --------------------------------------------------------------------------------------


def with_certificates(directory: Path, *, days_ago: int = 0) -> Options:
    """Return options of an inventory whose certificates were made some days ago."""
    options = write_inventory(directory, UNUSED)
    read = inventory.load(options.inventory)
    made = datetime.now(UTC) - timedelta(days=days_ago)
    write(pki_of(read, now=made), Stored(read.pki_path))
    return options


def test_certificates_are_made_in_memory_and_not_written(tmp_path: Path) -> None:
    context, _ = read_context(write_inventory(tmp_path, UNUSED))
    assert set(context.pki.hosts) == set(NAMES)
    assert context.pki.fresh
    assert not (tmp_path / "credentials").exists()


def test_stored_certificates_are_used_also_when_they_have_expired(tmp_path: Path) -> None:
    context, _ = read_context(with_certificates(tmp_path, days_ago=500))
    assert context.pki.fresh == frozenset()
    stored = load(context.inventory.pki_path)
    assert stored.differing(context.pki) == {}


def test_broken_certificates_are_said_before_a_connection_is_opened(tmp_path: Path) -> None:
    options = with_certificates(tmp_path)
    (tmp_path / "credentials" / "pki" / "db-1.key").write_text("nonsense\n")
    with (
        pytest.raises(CredentialsError, match=r"pki/db-1\.key: no private key can be read"),
        open_session(options, doing="plan", lock=False),
    ):
        pytest.fail("it opened")
    assert not (tmp_path / ".kbpg").exists()


@pytest.mark.parametrize("own", [False, True])
def test_keys_that_others_may_read_stop_all_but_who_only_looks(tmp_path: Path, own: bool) -> None:
    options = with_certificates(tmp_path)
    if own:
        options.inventory.write_text(
            f"{options.inventory.read_text()}tls: {{certificates: credentials/pki}}\n"
        )
    key = tmp_path / "credentials" / "pki" / "db-1.key"
    key.chmod(0o644)
    for lock in (True, False):
        with (
            pytest.raises(CredentialsError, match=r"pki/db-1\.key: mode 0644: wanted 0600"),
            open_session(options, doing="x", lock=lock, partial=True),
        ):
            pytest.fail("it opened")
    with pytest.raises(CredentialsError, match="0644"):
        read_context(options)
    with open_session(options, doing="status", lock=False, partial=True, lenient=True) as session:
        assert session.context.pki.exposed == {key: 0o644}
        if not own:
            assert StoredFact.of(session.context).read().exposed == {key: 0o644}


@pytest.mark.parametrize("renewing", [False, True])
def test_the_users_own_that_have_expired_stop_only_who_writes(tmp_path: Path, renewing: bool) -> None:
    options = with_certificates(tmp_path, days_ago=500)
    path = options.inventory
    path.write_text(f"{path.read_text()}tls: {{certificates: credentials/pki}}\n")
    with (
        pytest.raises(CredentialsError if renewing else KbpgError) as caught,
        open_session(options, doing="logs", lock=False, renewing=renewing, only=()),
    ):
        pytest.fail("it opened")
    assert ("expired on" in str(caught.value)) is renewing


def test_the_journal_knows_the_keys(tmp_path: Path) -> None:
    options = with_certificates(tmp_path)
    line = (tmp_path / "credentials" / "pki" / "db-1.key").read_text().splitlines()[1]
    with pytest.raises(KbpgError), open_session(options, doing="plan", lock=False):
        pytest.fail("it opened")
    assert options.mask(f"a {line} b") == "a *** b"
