"""The machine kbpg runs on, as a host: commands run here, as whoever runs kbpg."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO

from kbpg.errors import CommandFailed, CommandTimeout, HostError
from kbpg.hosts import atomic, script
from kbpg.hosts.port import DEFAULT_TIMEOUT, Holding, Output, Question, Writer
from kbpg.hosts.settings import Recorder, Silence

_CHUNK = 1 << 18
"""Bytes read at once from a streamed command."""


class LocalHost(Writer):
    """The controller. `name` and `address` are how messages call it."""

    def __init__(self, journal: Recorder | None = None, *, name: str = "controller") -> None:
        self.name = name
        self.address = "127.0.0.1"
        self._journal = journal or Silence()

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        """Answer all questions in one execution of one script. Raises `CommandTimeout`, `HostError`."""
        composed = script.compose(list(questions), secrets.token_hex(16))
        if not composed.keys:
            return {}
        status, stdout, stderr, seconds = self._execute(
            ("sh", "-s"), composed.text, timeout, shown=("read", *composed.keys)
        )
        reading = script.Reading(composed)
        reading.add(True, stdout)
        reading.add(False, stderr)
        if status != 0 or not reading.complete:
            raise HostError(self.name, f"reading stopped at {reading.current()}")
        return reading.answers(seconds)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes] = b"",
        timeout: float = DEFAULT_TIMEOUT,
        check: bool = True,
    ) -> Output:
        """Run one command. Raises `CommandFailed` when `check`, `CommandTimeout`, `HostError`."""
        status, stdout, stderr, seconds = self._execute(argv, stdin, timeout, shown=argv)
        output = Output(status, _text(stdout), _text(stderr), seconds)
        if check and not output.ok:
            raise self._failed(argv, status, output.stderr or output.stdout)
        return output

    def stream(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        """Run one command and yield its standard output; raises as `run` does, at the end."""
        started = time.monotonic()
        process = self._start(argv)
        errors = bytearray()
        reader = threading.Thread(target=lambda: errors.extend(_pipe(process.stderr).read()), daemon=True)
        late = threading.Timer(timeout, _kill, (process,))
        try:
            _pipe(process.stdin).close()
            reader.start()
            late.start()
            while chunk := os.read(_pipe(process.stdout).fileno(), _CHUNK):
                yield chunk
            process.wait()
            reader.join()
        finally:
            late.cancel()
            _end(process)
            seconds = time.monotonic() - started
            status = _status(process.wait())
            self._journal.record(self.name, tuple(argv), status=status, seconds=seconds)
        if seconds >= timeout:
            raise self._too_late(argv, timeout)
        if status != 0:
            raise self._failed(argv, status, _text(bytes(errors)))

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        """Put `content` at `path` atomically, as a host does."""
        argv = atomic.write_command(path, size=len(content), owner=owner, mode=mode)
        shown = ("write", path, owner, f"{mode:04o}")
        status, _, stderr, _ = self._execute(argv, content, DEFAULT_TIMEOUT, shown=shown)
        if status != 0:
            raise self._failed(shown, status, _text(stderr))

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        """Open a TCP stream to a port of this machine; nothing else is reached from here."""
        if address not in (None, "127.0.0.1", "::1"):
            raise HostError(self.name, f"kbpg dials no address but this machine's own from here: {address}")
        return socket.create_connection((address or self.address, port), timeout=timeout)

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        """Raise `HostError`: a port of this machine needs no forwarding."""
        raise HostError(self.name, f"port {port} of this machine needs no forwarding")

    def note(self, command: Sequence[str], *, status: int | str, seconds: float) -> None:
        """Write into the journal what a service was asked to change."""
        self._journal.record(self.name, command, status=status, seconds=seconds)

    def hold(
        self, argv: Sequence[str], *, shown: str, marker: str, timeout: float, guarded: bool = False
    ) -> Holding:
        """Raise `HostError`: nothing on this machine has to outlive kbpg."""
        raise HostError(self.name, f"nothing is held on this machine: {shown}")

    # --- processes -----------------------------------------------------------------------------------

    def _execute(
        self, argv: Sequence[str], stdin: bytes | Iterator[bytes], timeout: float, *, shown: Sequence[str]
    ) -> tuple[int, bytes, bytes, float]:
        started = time.monotonic()
        status: int | str = "failed"
        process = self._start(argv)
        try:
            feeder = _Feeder(process, stdin)
            stdout, stderr = process.communicate(timeout=timeout)
            status = _status(process.returncode)
            feeder.join()
        except subprocess.TimeoutExpired as exc:
            status = "timeout"
            raise self._too_late(shown, timeout) from exc
        finally:
            _end(process)
            self._journal.record(self.name, tuple(shown), status=status, seconds=time.monotonic() - started)
        return int(status), stdout, stderr, time.monotonic() - started

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        try:
            # A session of its own, so that its whole process group can be ended at the deadline
            return subprocess.Popen(
                list(argv), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
            )
        except OSError as exc:
            raise HostError(self.name, f"cannot run {argv[0]}: {(exc.strerror or str(exc)).lower()}") from exc

    def _failed(self, argv: Sequence[str], status: int, output: str) -> CommandFailed:
        command = self._journal.mask(shlex.join(argv))
        return CommandFailed(self.name, command, status, self._journal.mask(output))

    def _too_late(self, argv: Sequence[str], timeout: float) -> CommandTimeout:
        command = self._journal.mask(shlex.join(argv))
        return CommandTimeout(self.name, f"`{command}` did not end within {timeout:g} s")


class _Feeder(threading.Thread):
    """Writes a process's standard input piece by piece: an image does not fit into memory twice."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes | Iterator[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = _pipe(process.stdin)
        self._chunks = iter((stdin,)) if isinstance(stdin, bytes) else stdin
        self._error: BaseException | None = None
        # Otherwise communicate() closes it at once
        process.stdin = None
        self.start()

    def run(self) -> None:
        """Write until there is no more, or the process has had enough."""
        try:
            with contextlib.suppress(BrokenPipeError), self._pipe:
                for chunk in self._chunks:
                    self._pipe.write(chunk)
        except BaseException as error:  # noqa: BLE001 (raised again by `join`)
            self._error = error

    def join(self, timeout: float | None = None) -> None:
        """Wait, and raise what the source of the input raised."""
        super().join(timeout)
        if self._error:
            raise self._error


def _status(code: int) -> int:
    """Return an exit status as a shell has it: 128 + n after signal n."""
    return 128 - code if code < 0 else code


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group, and leave the pipes to whoever reads them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _kill(process)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 (all three are pipes)
    return pipe


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
