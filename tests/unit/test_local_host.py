"""The controller as a host: real commands on this machine."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbpg.errors import CommandFailed, CommandTimeout, HostError
from kbpg.hosts.local import LocalHost


@dataclass(frozen=True)
class Asked:
    """A question."""

    key: str
    script: str


class Recorded:
    """A journal in memory that knows one secret."""

    def __init__(self) -> None:
        self.lines: list[tuple[tuple[str, ...], int | str]] = []

    def record(
        self,
        host: str,
        command: Sequence[str],
        *,
        status: int | str,
        seconds: float,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        self.lines.append((tuple(command), status))

    def mask(self, text: str) -> str:
        return text.replace("secret", "***")


def test_questions_are_answered_in_one_execution() -> None:
    journal = Recorded()
    answers = LocalHost(journal).read(
        [Asked("a", "echo one; echo two >&2; exit 3"), Asked("b", 'printf %s "$0\'x"'), Asked("c", "exit")]
    )
    assert (answers["a"].status, answers["a"].stdout, answers["a"].stderr) == (3, "one\n", "two\n")
    assert answers["b"].stdout.endswith("'x")
    assert answers["c"].ok
    assert journal.lines == [(("read", "a", "b", "c"), 0)]


def test_no_question_needs_no_execution() -> None:
    journal = Recorded()
    assert LocalHost(journal).read([]) == {}
    assert journal.lines == []


def test_run_gives_status_and_both_streams() -> None:
    journal = Recorded()
    output = LocalHost(journal).run(["sh", "-c", "cat; echo e >&2; exit 4"], stdin=b"in", check=False)
    assert (output.status, output.stdout, output.stderr) == (4, "in", "e\n")
    assert journal.lines[0][1] == 4


def test_a_failed_command_is_an_error_without_secrets() -> None:
    with pytest.raises(CommandFailed) as caught:
        LocalHost(Recorded()).run(["sh", "-c", "echo the secret >&2; exit 1"])
    assert caught.value.status == 1
    assert "secret" not in "\n".join(caught.value.lines())


def test_a_signal_is_a_status_as_shells_have_it() -> None:
    assert LocalHost().run(["sh", "-c", "kill -9 $$"], check=False).status == 137


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(HostError, match="cannot run no-such-command: no such file"):
        LocalHost().run(["no-such-command"])


def test_a_deadline_ends_the_whole_process_group(tmp_path: Path) -> None:
    journal = Recorded()
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"did not end within 0\.3 s"):
        LocalHost(journal).run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], timeout=0.3)
    assert time.monotonic() - started < 5
    assert journal.lines[0][1] == "timeout"
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "the command's child still runs after 5 s"
        time.sleep(0.02)


def test_input_comes_piece_by_piece() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    assert LocalHost().run(["wc", "-c"], stdin=chunks()).stdout.strip() == str(64 * 65536)


def test_input_that_nobody_reads_is_no_error() -> None:
    assert LocalHost().run(["true"], stdin=iter([b"x" * (1 << 20)] * 4)).ok


def test_an_input_that_breaks_off_is_an_error() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        LocalHost().run(["cat"], stdin=chunks())


def test_stream_yields_and_raises_at_its_end() -> None:
    host = LocalHost(Recorded())
    assert b"".join(host.stream(["printf", "abc"])) == b"abc"
    with pytest.raises(CommandFailed, match="exit code 2"):
        list(host.stream(["sh", "-c", "echo out; echo err >&2; exit 2"]))
    with pytest.raises(CommandTimeout):
        list(host.stream(["sleep", "60"], timeout=0.2))


def test_a_streams_deadline_passes_while_its_reader_is_busy() -> None:
    journal = Recorded()
    stream = LocalHost(journal).stream(["sh", "-c", "echo $$; sleep 60"], timeout=0.5)
    status = Path(f"/proc/{int(next(stream))}/status")
    deadline = time.monotonic() + 10
    while "\nState:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, "the command still runs after 10 s"
        time.sleep(0.02)
    with pytest.raises(CommandTimeout, match=r"did not end within 0\.5 s"):
        next(stream)
    assert journal.lines[0][1] == 137


def test_a_stream_whose_child_keeps_the_output_open_ends_at_its_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeout):
        list(LocalHost().stream(["sh", "-c", "sleep 60 & exit 0"], timeout=0.3))
    assert time.monotonic() - started < 5


def test_a_stream_that_is_left_ends_its_command() -> None:
    journal = Recorded()
    stream = LocalHost(journal).stream(["yes"])
    assert next(stream).startswith(b"y\n")
    stream.close()  # type: ignore[attr-defined]
    assert journal.lines == [(("yes",), 137)]


def test_write_is_atomic_and_narrow(tmp_path: Path) -> None:
    path = tmp_path / "file"
    journal = Recorded()
    LocalHost(journal).write(str(path), b"content", owner=f"{os.getuid()}:{os.getgid()}", mode=0o640)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert journal.lines[0][0][:2] == ("write", str(path))
    with pytest.raises(CommandFailed):
        LocalHost().write(str(tmp_path / "none" / "file"), b"", owner="0:0", mode=0o600)


def test_only_this_machine_is_dialled() -> None:
    host = LocalHost()
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = threading.Thread(target=lambda: server.accept()[0].close())
        accepted.start()
        host.dial(server.getsockname()[1]).close()
        accepted.join(5)
    with pytest.raises(HostError, match="dials no address but this machine's own"):
        host.dial(80, address="192.0.2.1")
