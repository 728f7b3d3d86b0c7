"""A logged-in connection to a host: sessions and streams on it, and its failures as kbpg's errors."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kbpg.errors import CommandTimeout, ConnectionLost, HostError
from kbpg.hosts.connection import Transport, close_all
from kbpg.hosts.held import Held
from kbpg.hosts.lean import paramiko
from kbpg.hosts.session import STDERR, STDOUT, DeadlinePassed, Session, SessionLost
from kbpg.hosts.settings import Recorder
from kbpg.hosts.streams import ChannelSocket

MAX_SESSIONS = 8
"""Commands that run at once on one connection: sshd allows 10 (MaxSessions), and the lock holds one."""

NETWORK_GRACE = 5.0
"""Seconds the controller waits beyond a deadline for the host to report that it ended the command."""

Running = Callable[[], str]
"""Names what is running, for the message when it does not end well."""


@dataclass
class Record:
    """What the journal will say of a command."""

    status: int | str = "failed"
    session: Session | None = None


class Link:
    """The connection to the host `name`; `transports` are those of jump hosts and, last, the host's own."""

    def __init__(self, name: str, transports: list[Transport], journal: Recorder) -> None:
        self.name = name
        self.journal = journal
        self._transports = transports
        self._transport = self.transport = transports[-1]
        self._slots = threading.BoundedSemaphore(MAX_SESSIONS)
        self.first: Callable[[], bytes] = bytes
        """Returns what the standard input of every command has to begin with (sudo's password)."""

    @property
    def alive(self) -> bool:
        """Return whether the connection is up, as far as is known here."""
        return self._transport.alive

    def close(self) -> None:
        """End the connection; commands that still run lose their input and output."""
        close_all(self._transports)

    @contextlib.contextmanager
    def session(self, line: str, timeout: float, running: Running) -> Iterator[Session]:
        """Run `line` in the login shell, `timeout` seconds and a grace at most.

        Raises `CommandTimeout`, `ConnectionLost`, `HostError`.
        """
        with (
            self._slots,
            self._translated(running, timeout),
            Session(self._transport, line, timeout=timeout + NETWORK_GRACE, first=self.first()) as session,
        ):
            yield session

    def hold(self, line: str, shown: str, *, marker: str, timeout: float) -> Held:
        """Run `line` until it is let go; wait `timeout` seconds at most for the line that begins with `marker`.

        Raises `CommandTimeout`, `ConnectionLost`, `HostError` when it ends without having said that.
        """
        with self._translated(lambda: shown, timeout), contextlib.ExitStack() as stack:
            session = stack.enter_context(Session(self._transport, line, timeout=timeout, first=self.first()))
            output = session.output()
            said = {STDOUT: b"", STDERR: b""}
            for stream, data in output:
                said[stream] += data
                _, found, answer = said[STDOUT].partition(marker.encode())
                if found and b"\n" in answer:
                    session.expire_at(math.inf)
                    stack.pop_all()
                    return Held(session, output, answer.decode(errors="replace").partition("\n")[0])
            if not self.alive:
                raise self.lost(shown)
            words = said[STDERR] or said[STDOUT]
            raise HostError(
                self.name, f"`{shown}` failed", detail=words.decode(errors="replace").splitlines()
            )

    def stream(self, peer: tuple[str, int], timeout: float) -> ChannelSocket:
        """Open a TCP stream from the host to `peer`; reads and writes on it time out after `timeout` too.

        Raises `ConnectionRefusedError`, `TimeoutError`, `ConnectionLost`, `HostError`.
        """
        where = f"{peer[0]}:{peer[1]}"
        try:
            channel = self._transport.open_channel("direct-tcpip", peer, ("127.0.0.1", 0), timeout=timeout)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if not self.alive:
                raise self.lost() from exc
            if isinstance(exc, paramiko.ChannelException) and exc.code == 1:
                raise HostError(
                    self.name,
                    "sshd forbids forwarded connections",
                    hint="set `AllowTcpForwarding yes` in its sshd_config",
                ) from exc
            if str(exc).startswith("Timeout"):
                raise TimeoutError(f"{self.name}: no answer from {where} within {timeout:g} s") from exc
            # Also without a reason: paramiko keeps one exception per connection, and another thread took it.
            raise ConnectionRefusedError(f"{self.name}: nothing answers on {where}") from exc
        channel.settimeout(timeout)
        return ChannelSocket(channel, peer)

    @contextlib.contextmanager
    def recorded(self, command: Sequence[str]) -> Iterator[Record]:
        """Write `command` into the journal when the block ends, however it ends."""
        record = Record()
        started = time.monotonic()
        try:
            yield record
        except CommandTimeout:
            record.status = "timeout"
            raise
        except ConnectionLost:
            record.status = "connection lost"
            raise
        finally:
            session = record.session
            self.journal.record(
                self.name,
                command,
                status=record.status,
                seconds=time.monotonic() - started,
                sent=session.sent if session else 0,
                received=session.received if session else 0,
            )

    @contextlib.contextmanager
    def _translated(self, running: Running, timeout: float) -> Iterator[None]:
        try:
            yield
        except DeadlinePassed:
            raise self.too_late(running(), timeout) from None
        except SessionLost as exc:
            raise self.lost(running()) from exc
        except (paramiko.SSHException, EOFError) as exc:
            if not self.alive:
                raise self.lost(running()) from exc
            if str(exc).startswith("Timeout"):
                raise self.too_late(running(), timeout) from exc
            raise HostError(self.name, f"sshd opens no session: {exc}") from exc

    def too_late(self, command: str, timeout: float) -> CommandTimeout:
        """Return the error for a command that went past its `timeout` seconds."""
        return CommandTimeout(self.name, f"`{command}` did not end within {timeout:g} s")

    def lost(self, command: str | None = None) -> ConnectionLost:
        """Return the error for a connection that broke, `command` being what ran."""
        why = f" ({self._transport.gave_up})" if self._transport.gave_up else ""
        during = f" while `{command}` ran" if command else ""
        return ConnectionLost(
            self.name,
            f"the SSH connection was lost{during}{why}",
            hint="what was done stays done; run the same command again when the host is back",
        )
