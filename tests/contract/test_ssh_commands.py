"""Running commands over a real SSH connection: deadlines, lost connections, much data, many threads."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest

from kbpg.engine.journal import Journal
from kbpg.engine.redactor import Redactor
from kbpg.errors import CommandFailed, CommandTimeout, ConnectionLost, HostError
from kbpg.hosts import atomic, connection
from kbpg.hosts.ssh import SshHost, connect
from kbpg.secret import Secret

from .conftest import Sshd, start_sshd, stop


@dataclass(frozen=True)
class Ask:
    key: str
    script: str


@pytest.fixture
def host(sshd: Sshd) -> Iterator[SshHost]:
    with connect("db-1", "127.0.0.1", sshd.settings) as host:
        yield host


def eventually(condition: Callable[[], bool], what: str, *, within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within} s: {what}")
        time.sleep(0.02)


def runs(marker: str) -> bool:
    """Return whether a process of this machine has the word in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


# --- questions


@pytest.mark.parametrize(
    ("script", "status", "stdout"),
    [
        ("echo 'unbalanced", 2, ""),
        ("if true; then", 2, ""),
        ("}", 2, ""),
        (")", 2, ""),
        ("exit 3", 3, ""),
        ("cat <<'X'\n'a' \"b\" $HOME\nX\n", 0, "'a' \"b\" $HOME\n"),
        ("cat <<X\nnever ended", 0, "never ended"),
        ("cat", 0, ""),
        ("read line || echo nothing to read", 0, "nothing to read\n"),
        ("set -e; false; echo not reached", 1, ""),
        ("echo text # and a comment", 0, "text\n"),
        ("printf 'a\\n\\n\\n'", 0, "a\n\n\n"),
        ("printf '\\377\\n'", 0, "\ufffd\n"),
        ("kill -9 $(sh -c 'echo $PPID')", 137, ""),
        ("nonsense-command", 127, ""),
        ("", 0, ""),
    ],
)
def test_whatever_a_fragment_does_stays_in_it(host: SshHost, script: str, status: int, stdout: str) -> None:
    answers = host.read([Ask("before", "x=1; echo before"), Ask("it", script), Ask("after", "echo after$x")])

    assert (answers["before"].status, answers["before"].stdout) == (0, "before\n")
    assert (answers["it"].status, answers["it"].stdout) == (status, stdout)
    assert (answers["after"].status, answers["after"].stdout) == (0, "after\n")


def test_standard_error_is_kept_apart_by_question(host: SshHost) -> None:
    answers = host.read([Ask("a", "echo one >&2"), Ask("b", "echo two"), Ask("c", "printf three >&2")])
    assert [answers[key].stderr for key in "abc"] == ["one\n", "", "three"]


def test_much_output_of_many_questions(host: SshHost) -> None:
    asks = [Ask(f"q{number}", f"seq {number * 1000}; seq {number * 1000} >&2") for number in range(30)]
    answers = host.read(asks)
    for number in range(30):
        lines = "".join(f"{line}\n" for line in range(1, number * 1000 + 1))
        assert answers[f"q{number}"].stdout == answers[f"q{number}"].stderr == lines


def test_the_question_that_hangs_is_named(host: SshHost) -> None:
    marker = f"61.{os.getpid()}"
    with pytest.raises(CommandTimeout) as caught:
        host.read([Ask("quick", "true"), Ask("slow", f"sleep {marker}"), Ask("x", "true")], timeout=0.5)
    assert str(caught.value) == "db-1: `slow` did not end within 0.5 s"
    assert not runs(marker)


def test_what_a_question_leaves_running_does_not_hold_up_the_answers(host: SshHost) -> None:
    started = time.monotonic()
    assert host.read([Ask("a", "sleep 3 & echo started")])["a"].stdout == "started\n"
    assert time.monotonic() - started < 2.5


def test_a_script_that_is_killed_says_where(host: SshHost) -> None:
    with pytest.raises(HostError, match="db-1: the script ended at `b`"):
        host.read([Ask("a", "true"), Ask("b", "kill -9 $$"), Ask("c", "true")])


def test_questions_are_not_seen_in_the_list_of_processes(host: SshHost) -> None:
    hidden = "a-key-that-nobody-may-see"
    seen = host.read([Ask("a", f": {hidden}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")])["a"].stdout
    assert "sh -s" in seen
    assert hidden not in seen


# --- commands


NASTY = ["", " ", "a b", "'", '"', "\\", "$HOME", "`id`", "*", "~", "!x", "ü€", "a\nb", "-n", ";", "#", "a=b"]


def test_arguments_arrive_as_they_are(host: SshHost) -> None:
    output = host.run(["printf", r"<%s>\n", *NASTY])
    assert output.stdout == "".join(f"<{word}>\n" for word in NASTY)


def test_much_data_in_and_out_at_once(host: SshHost) -> None:
    piece = os.urandom(1 << 20)
    output = host.run(["sh", "-c", "tee /dev/stderr | sha256sum; cat"], stdin=(piece for _ in range(24)))
    assert output.stdout.split()[0] == hashlib.sha256(piece * 24).hexdigest()
    assert len(output.stderr) > 8 << 20


def test_output_that_nobody_expects_does_not_block_the_input(host: SshHost) -> None:
    output = host.run(["cat"], stdin=b"0123456789abcdef" * (1 << 19))
    assert output.stdout == "0123456789abcdef" * (1 << 19)


def test_a_command_may_leave_its_input_unread(host: SshHost) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000

    assert host.run(["head", "-c", "3"], stdin=endless()).stdout == "xxx"
    assert host.run(["true"], stdin=b"x" * (8 << 20)).ok


def test_input_whose_source_breaks_has_no_end(host: SshHost, tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        host.run(["sh", "-c", f"cat && touch {tmp_path}/ended"], stdin=source())
    assert host.run(["true"]).ok


def test_a_command_that_is_killed_has_the_status_a_shell_gives(host: SshHost) -> None:
    assert host.run(["sh", "-c", "kill -TERM $$"], check=False).status == 143


def test_a_command_is_ended_at_its_deadline_on_the_host_too(host: SshHost) -> None:
    marker = f"62.{os.getpid()}"
    with pytest.raises(CommandTimeout) as caught:
        host.run(["sleep", marker], timeout=0.3)
    assert str(caught.value) == f"db-1: `sleep {marker}` did not end within 0.3 s"
    assert not runs(marker)


def test_a_status_of_124_in_time_is_no_timeout(host: SshHost) -> None:
    assert host.run(["sh", "-c", "exit 124"], check=False).status == 124


def test_a_failure_shows_the_last_of_what_was_said(host: SshHost) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(["sh", "-c", "echo out; echo why >&2; exit 7"])
    assert caught.value.lines() == [
        "db-1: `sh -c 'echo out; echo why >&2; exit 7'` ended with exit code 7",
        "  why",
    ]


def test_a_daemon_that_a_command_starts_does_not_hold_it_up(host: SshHost) -> None:
    started = time.monotonic()
    assert host.run(["sh", "-c", "sleep 20 & echo started"]).stdout == "started\n"
    assert time.monotonic() - started < 4


def test_more_commands_at_once_than_sshd_has_sessions(host: SshHost) -> None:
    with ThreadPoolExecutor(24) as pool:
        outputs = pool.map(lambda number: host.run(["sh", "-c", f"sleep 0.1; echo {number}"]), range(24))
        assert [output.stdout for output in outputs] == [f"{number}\n" for number in range(24)]


def test_a_stream_may_be_left_early(host: SshHost) -> None:
    marker = f"63.{os.getpid()}"
    chunks = host.stream(["sh", "-c", f"yes & sleep {marker}"])
    assert next(chunks).startswith(b"y\n")
    chunks.close()  # type: ignore[attr-defined]
    assert host.run(["true"]).ok


# --- files


def test_a_file_that_does_not_arrive_whole_changes_nothing(host: SshHost, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    argv = atomic.write_command(str(target), size=10, owner="0:0", mode=0o600)
    output = host.run(argv, stdin=b"half", check=False)
    assert (output.status, output.stderr) == (1, "the content did not arrive whole\n")
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "file"}


def test_a_file_that_cannot_be_owned_leaves_nothing(host: SshHost, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        host.write(str(tmp_path / "file"), b"secret", owner="no:body", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_content_is_in_no_command_line_and_no_journal(sshd: Sshd, tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "journal", "test", Redactor()) as journal,
        connect("db-1", "127.0.0.1", sshd.settings, journal=journal) as host,
    ):
        host.write(str(tmp_path / "file"), b"the content", owner="0:0", mode=0o600)
        host.run(["cat"], stdin=b"the input")
        with pytest.raises(CommandTimeout):
            host.run(["sleep", "9"], timeout=0.1)
        host.read([Ask("a", "true"), Ask("b", "true")])
    assert journal.path is not None
    text = journal.path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["command"], line["status"]) for line in lines] == [
        (["write", str(tmp_path / "file"), "0:0", "0600"], 0),
        (["cat"], 0),
        (["sleep", "9"], "timeout"),
        (["read", "a", "b"], 0),
    ]
    assert (lines[1]["sent"], lines[1]["received"]) == (9, 9)
    assert "the content" not in text
    assert "the input" not in text


def test_errors_are_masked(sshd: Sshd) -> None:
    journal = Journal.null(Redactor([Secret("pa'ss word")]))
    with connect("db-1", "127.0.0.1", sshd.settings, journal=journal) as host:
        with pytest.raises(CommandFailed) as caught:
            host.run(["sh", "-c", 'echo "$1" >&2; exit 1', "sh", "pa'ss word"])
        with pytest.raises(CommandTimeout) as late:
            host.run(["sh", "-c", "sleep 9", "sh", "pa'ss word"], timeout=0.0)
    assert "ss word" not in "\n".join([*caught.value.lines(), *late.value.lines(), caught.value.output])


# --- streams


def test_http_through_a_stream(host: SshHost) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.path.encode() * 10_000
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", server.server_port)
        client.sock = host.dial(server.server_port)
        client.request("GET", "/patroni", headers={"Connection": "close"})
        response = client.getresponse()
        client.close()
        assert response.read() == b"/patroni" * 10_000
        server.shutdown()
        thread.join(5)


def test_a_stream_times_out(host: SshHost, sshd: Sshd) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        host.dial(silent.getsockname()[1], timeout=0.2) as stream,
        pytest.raises(TimeoutError),
    ):
        stream.recv(1)


def test_a_host_that_forbids_forwarding_is_named(tmp_path: Path, sshd: Sshd) -> None:
    strict = start_sshd(tmp_path, "AllowTcpForwarding no")
    try:
        with (
            connect("db-1", "127.0.0.1", strict.settings, accept_new=True) as host,
            pytest.raises(HostError) as caught,
        ):
            host.dial(strict.port)
        assert caught.value.lines() == [
            "db-1: sshd forbids forwarded connections",
            "hint: set `AllowTcpForwarding yes` in its sshd_config",
        ]
    finally:
        stop(strict.process)


# --- what comes too late


class Gate:
    """paramiko's `clear_to_send`, at which the threads called `late` wait: their message is made, but not sent."""

    def __init__(self, real: threading.Event) -> None:
        self._real = real
        self.reached, self.open = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def wait(self, seconds: float) -> bool:
        if threading.current_thread().name == "late":
            self.reached.set()
            assert self.open.wait(10)
        return self._real.wait(seconds)


@pytest.mark.parametrize("next_number", [True, False], ids=["number in use again", "number free"])
@pytest.mark.parametrize("late", ["the end of input", "input"])
def test_nothing_follows_the_end_of_a_channel(host: SshHost, late: str, *, next_number: bool) -> None:
    transport: Any = host._link.transport
    gate = transport.clear_to_send = Gate(transport.clear_to_send)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = host.dial(server.getsockname()[1])
        peer, _ = server.accept()
        send = {
            "the end of input": lambda: stream.shutdown(socket.SHUT_WR),
            "input": lambda: stream.send(b"x"),
        }
        thread = threading.Thread(target=send[late], name="late")
        thread.start()
        assert gate.reached.wait(5)
        stream.close()
        peer.close()
        host.run(["true"])  # sshd has let go of the stream's number

        def halves() -> Iterator[bytes]:
            yield b"one half, "
            gate.open.set()
            thread.join(5)
            yield b"the other"

        if next_number:
            assert host.run(["cat"], stdin=halves()).stdout == "one half, the other"
        gate.open.set()
        thread.join(5)
    assert host.run(["echo", "there"]).stdout == "there\n"


# --- lost connections


def test_a_killed_session_is_noticed_at_once(new_sshd: Sshd) -> None:
    with connect("db-1", "127.0.0.1", new_sshd.settings, accept_new=True) as host:
        (session,) = new_sshd.children()
        threading.Timer(0.3, os.kill, (session, signal.SIGKILL)).start()
        started = time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            host.run(["sleep", "20"])
        assert time.monotonic() - started < 3
        assert str(caught.value) == "db-1: the SSH connection was lost while `sleep 20` ran"
        assert not host.alive
        for attempt in (
            lambda: host.run(["true"]),
            lambda: host.dial(1),
            lambda: host.read([Ask("a", "true")]),
        ):
            with pytest.raises(ConnectionLost):
                attempt()


@pytest.mark.parametrize(
    ("doing", "shown"),
    [
        (lambda host: host.run(["sleep", "20"]), "sleep 20"),
        (lambda host: host.read([Ask("a", "true"), Ask("b", "sleep 20")]), "b"),
        (lambda host: host.hold(["sleep", "20"], shown="the guard", marker="never", timeout=20), "the guard"),
    ],
    ids=["run", "read", "hold"],
)
def test_whatever_was_asked_when_the_session_was_killed_the_loss_is_told(
    new_sshd: Sshd, doing: Callable[[SshHost], object], shown: str
) -> None:
    with connect("db-1", "127.0.0.1", new_sshd.settings, accept_new=True) as host:
        (session,) = new_sshd.children()
        threading.Timer(0.3, os.kill, (session, signal.SIGKILL)).start()
        with pytest.raises(ConnectionLost, match=f"the SSH connection was lost while `{shown}` ran"):
            doing(host)


def test_a_stream_that_ends_with_its_connection_is_not_taken_for_its_service(
    new_sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the end asks at once whether the connection is gone, and paramiko's thread may still be slow."""
    asked = threading.Event()
    unlink: Any = paramiko.Channel._unlink  # type: ignore[attr-defined]  # private

    def slow(channel: paramiko.Channel) -> None:
        unlink(channel)
        asked.wait(5)

    monkeypatch.setattr(paramiko.Channel, "_unlink", slow)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        connect("db-1", "127.0.0.1", new_sshd.settings, accept_new=True) as host,
    ):
        (session,) = new_sshd.children()
        stream = host.dial(server.getsockname()[1])
        os.kill(session, signal.SIGKILL)
        assert stream.recv(1) == b""
        lost = host.gone()
        asked.set()
    assert isinstance(lost, ConnectionLost)
    assert lost.reason == "the SSH connection was lost"


def test_a_connection_that_dies_under_a_message_is_no_traceback(new_sshd: Sshd) -> None:
    with connect("db-1", "127.0.0.1", new_sshd.settings, accept_new=True) as host:
        transport: Any = host._link.transport
        with socket.create_server(("127.0.0.1", 0)) as server:
            stream = host.dial(server.getsockname()[1])

            died = threading.Event()

            def dies(data: bytes) -> None:
                died.set()
                raise EOFError

            transport.packetizer.write_all = dies
            stream.send(b"x")
            stream.shutdown(socket.SHUT_WR)
            assert died.wait(5)
            stream.close()


def test_a_dead_host_is_noticed(new_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PING_AFTER", 1)
    monkeypatch.setattr(connection, "DEAD_AFTER", 3)
    with connect("db-1", "127.0.0.1", new_sshd.settings, accept_new=True) as host:
        (session,) = new_sshd.children()
        host.run(["true"])
        os.kill(session, signal.SIGSTOP)
        started = time.monotonic()
        try:
            with pytest.raises(ConnectionLost, match=r"was lost while `true` ran \(no answer for 3 s\)"):
                host.run(["true"])
            assert time.monotonic() - started < 6
        finally:
            os.kill(session, signal.SIGKILL)


def test_a_silent_command_is_not_a_dead_host(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PING_AFTER", 0.2)
    monkeypatch.setattr(connection, "DEAD_AFTER", 1)
    with connect("db-1", "127.0.0.1", sshd.settings) as host:
        assert host.run(["sleep", "2.5"]).ok


def test_closing_ends_what_waits(sshd: Sshd) -> None:
    host = connect("db-1", "127.0.0.1", sshd.settings)
    threading.Timer(0.3, host.close).start()
    with pytest.raises(ConnectionLost):
        host.run(["sleep", "20"])


def test_nothing_is_left_behind(sshd: Sshd) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    threads, before = threading.active_count(), descriptors()
    with connect("db-1", "127.0.0.1", sshd.settings) as host:
        host.run(["cat"], stdin=(b"x" for _ in range(10)))
        with (
            host.forward(sshd.port) as port,
            socket.create_connection(("127.0.0.1", port), timeout=5) as stream,
        ):
            assert stream.recv(4) == b"SSH-"
        host.dial(sshd.port).close()
    eventually(lambda: threading.active_count() == threads, "the threads have ended")
    assert descriptors() == before


def test_what_is_held_may_say_a_last_word(host: SshHost) -> None:
    script = "echo mark:first; dd bs=1 count=1 2>/dev/null; cat; echo; echo last; echo aside >&2"
    held = host.hold(["sh", "-c", script], shown="hold", marker="mark:", timeout=5)
    assert held.answer == "first"
    assert held.send(b"x")
    assert held.release(5.0) == "x\nlast\n"
    assert not held.alive


def test_what_is_held_is_waited_for_as_long_as_was_said(host: SshHost) -> None:
    held = host.hold(["sh", "-c", "echo mark:; exec sleep 3"], shown="hold", marker="mark:", timeout=5)
    started = time.monotonic()
    assert held.release(0.3) == ""
    assert 0.2 < time.monotonic() - started < 2
