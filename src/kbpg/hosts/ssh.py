"""A host reached by SSH: one connection, many channels, usable from several threads at once."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from kbpg.asking import Asking
from kbpg.errors import CommandFailed, HostError, LockLost
from kbpg.hosts import atomic, script
from kbpg.hosts.become import Way, first_lines, way_to_root
from kbpg.hosts.config import resolve
from kbpg.hosts.connection import close_all, open_connection
from kbpg.hosts.forward import Forward
from kbpg.hosts.held import Held
from kbpg.hosts.line import EXPIRED, command_line, holding_line
from kbpg.hosts.link import Link
from kbpg.hosts.port import DEFAULT_TIMEOUT, Output, Question, Writer
from kbpg.hosts.session import STDERR, STDOUT
from kbpg.hosts.settings import Ask, Guard, Recorder, Silence, SshSettings

if TYPE_CHECKING:
    import socket
    from contextlib import AbstractContextManager

    from kbpg.asking import SudoPasswords
    from kbpg.hosts.session import Session
    from kbpg.trust import Trust

_STDERR_KEPT = 1 << 16  # bytes of a streamed command's standard error, for its error message


def connect(
    name: str,
    address: str,
    settings: SshSettings,
    *,
    journal: Recorder | None = None,
    ask: Ask | None = None,
    accept_new: bool = False,
    passwords: SudoPasswords | None = None,
) -> SshHost:
    """Connect to a host, log in, and make sure that it can be changed as root.

    `name` and `address` are the inventory's; `ask` is asked whether an unknown host key is to be trusted; an `Asking`
    also for the password that sudo may want, unless it is one of `passwords`.
    Raises `Unreachable`, `HostKeyError`, `AccessDenied`.
    """
    target = resolve(name, address, settings)
    transports = open_connection(target, settings, ask=ask, accept_new=accept_new)
    try:
        link = Link(name, transports, journal or Silence())
        asking = ask if isinstance(ask, Asking) else None
        way = way_to_root(link, target, passwords=passwords, asking=asking)
        return SshHost(name, address, link, way)
    except BaseException:
        close_all(transports)
        raise


class SshHost(Writer):
    """A host behind an SSH connection; close it, or use it as a context manager.

    `guard` is set by whoever holds the host's lock: while it is, every command that may change something keeps the
    guard's lock file locked, shared, as long as it runs, even when the controller has died meanwhile.
    """

    def __init__(self, name: str, address: str, link: Link, way: Way) -> None:
        self.name = name
        self.address = address
        self.guard: Guard | None = None
        self.trust: Trust | None = None
        self._link = link
        self._become = way.words
        self._password = password = way.password
        if password is not None:
            # From here on whatever the link starts is started by the way
            link.first = lambda: first_lines(password)

    def __enter__(self) -> SshHost:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; commands that still run lose their input and output."""
        self._link.close()

    @property
    def alive(self) -> bool:
        """Return whether the connection is up, as far as is known here."""
        return self._link.alive

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        """Answer all questions as root, in one execution of one script.

        Raises `CommandTimeout`, which names the question that did not end, and `ConnectionLost`.
        """
        composed = script.compose(list(questions), secrets.token_hex(16))
        if not composed.keys:
            return {}
        with self._link.recorded(("read", *composed.keys)) as record:
            started = time.monotonic()
            reading = script.Reading(composed)
            line = command_line(("sh", "-s"), timeout, become=self._become, guard=None)
            with self._link.session(line, timeout, reading.current) as session:
                record.session = session
                session.feed(composed.text)
                for stream, data in session.output():
                    # Without waiting for the end: what a question left running may hold the output open.
                    if reading.add(stream == STDOUT, data):
                        break
            seconds = time.monotonic() - started
            if not reading.complete:
                raise self._broke_off(reading, session, seconds, timeout)
            record.status = 0
            return reading.answers(seconds)

    def _broke_off(
        self, reading: script.Reading, session: Session, seconds: float, timeout: float
    ) -> HostError:
        if seconds >= timeout:
            return self._link.too_late(reading.current(), timeout)
        if not self.alive:
            return self._link.lost(reading.current())
        said = self._link.journal.mask(reading.last_words())
        how = f"after {seconds:.1f} s, {session.ending()}"
        return HostError(
            self.name, f"the script ended at `{reading.current()}` {how}", detail=said.splitlines()
        )

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        """Open a TCP stream from the host to `address` (default: its own cluster address) and `port`.

        Reads and writes on it time out after `timeout` seconds too, until `settimeout`. Raises `TimeoutError` or
        `ConnectionRefusedError` when nothing answers there, `HostError` when the host is lost or forbids forwarding.
        """
        return cast("socket.socket", self._link.stream((address or self.address, port), timeout))

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        """Listen on a free port of 127.0.0.1 and pass connections on, as `dial` would."""

        def dial() -> socket.socket:
            stream = self.dial(port, address=address)
            stream.settimeout(None)
            return stream

        return Forward(dial)

    def note(self, command: Sequence[str], *, status: int | str, seconds: float) -> None:
        """Write into the journal what a service was asked to change."""
        self._link.journal.record(self.name, command, status=status, seconds=seconds)

    def lock_lost(self) -> bool:
        """Return whether the guard is gone and the connection is not: a broken one is told as that."""
        guard = self.guard
        return guard is not None and not guard.alive and self.alive

    def gone(self) -> HostError | None:
        """Return that the connection has ended."""
        return None if self.alive else self._link.lost()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes] = b"",
        timeout: float = DEFAULT_TIMEOUT,
        check: bool = True,
    ) -> Output:
        """Run one command as root; the host itself ends it after `timeout` seconds, controller alive or not.

        An iterator is read in another thread; when it raises, so does `run`. A connection that breaks looks to the
        command like the end of its input, so what takes a part for the whole must check. One that died of signal n
        has status 128 + n. Raises `CommandFailed` when `check`, `CommandTimeout`, `ConnectionLost`.
        """
        return self._run(argv, argv, stdin=stdin, timeout=timeout, check=check)

    def _run(
        self,
        argv: Sequence[str],
        shown: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes],
        timeout: float,
        check: bool,
    ) -> Output:
        """Run `argv`; `shown` is what errors and the journal say."""
        outputs = {STDOUT: bytearray(), STDERR: bytearray()}
        command = self._link.journal.mask(shlex.join(shown))
        started = time.monotonic()
        for stream, data in self._exchange(argv, shown, stdin, timeout, outcome := _Outcome()):
            outputs[stream] += data
        output = Output(
            outcome.status,
            outputs[STDOUT].decode(errors="replace"),
            outputs[STDERR].decode(errors="replace"),
            time.monotonic() - started,
        )
        if check and not output.ok:
            said = self._link.journal.mask(output.stderr or output.stdout)
            raise CommandFailed(self.name, command, output.status, said)
        return output

    def stream(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        """Run one command as root and yield its standard output; raises as `run` does, at the end.

        A consumer that stops early closes the command's output, of which most commands die.
        """
        errors = bytearray()
        for stream, data in self._exchange(argv, argv, b"", timeout, outcome := _Outcome()):
            if stream == STDOUT:
                yield data
            else:
                errors += data
                del errors[:-_STDERR_KEPT]
        if outcome.status != 0:
            mask = self._link.journal.mask
            said = mask(errors.decode(errors="replace"))
            raise CommandFailed(self.name, mask(shlex.join(argv)), outcome.status, said)

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        """Put `content` at `path` atomically; a broken connection leaves the old file. Raises like `run`."""
        argv = atomic.write_command(path, size=len(content), owner=owner, mode=mode)
        shown = ("write", path, owner, f"{mode:04o}")
        self._run(argv, shown, stdin=content, timeout=DEFAULT_TIMEOUT, check=True)

    def hold(
        self, argv: Sequence[str], *, shown: str, marker: str, timeout: float, guarded: bool = False
    ) -> Held:
        """Start a command as root that runs until its input ends, that is, until this connection does.

        Waits `timeout` seconds at most until it prints a line beginning with `marker`, and returns what holds
        it, with the rest of that line. `shown` is what errors call it. What is `guarded` keeps others from taking the
        lock while it runs. Raises `CommandTimeout`, `ConnectionLost`, `HostError` when it ends without the line.
        """
        line = holding_line(argv, become=self._become, guard=self.guard if guarded else None)
        with self._link.recorded((shown,)) as record:
            held = self._link.hold(line, shown, marker=marker, timeout=timeout)
            record.status = 0
            return held

    def _exchange(
        self,
        argv: Sequence[str],
        shown: Sequence[str],
        stdin: bytes | Iterator[bytes],
        timeout: float,
        outcome: _Outcome,
    ) -> Iterator[tuple[int, bytes]]:
        """Run `argv`, yield its output as it comes, and leave its exit status in `outcome`."""
        command = self._link.journal.mask(shlex.join(shown))
        if self.lock_lost():
            raise LockLost(self.name, command)
        line = command_line(argv, timeout, become=self._become, guard=self.guard)
        with self._link.recorded(shown) as record:
            started = time.monotonic()
            with self._link.session(line, timeout, lambda: command) as session:
                record.session = session
                session.feed(stdin)
                yield from session.output()
                outcome.status = record.status = session.status()
            if outcome.status in EXPIRED and time.monotonic() - started >= timeout:
                raise self._link.too_late(command, timeout)


class _Outcome:
    """Where a generator leaves the exit status, which it can only yield beside its items."""

    status: int = -1
