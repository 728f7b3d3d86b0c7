"""One command on one SSH channel: its input fed, both outputs drained, its end awaited, up to a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kbpg.hosts.lean import paramiko
from kbpg.hosts.tcp import DEAD_AFTER

if TYPE_CHECKING:
    from kbpg.hosts.connection import Transport

STDOUT, STDERR = 1, 2

_CHUNK = 32704
"""Bytes per packet: what OpenSSH accepts (32 KiB), less the 64 that paramiko takes off."""

_AFTERGLOW = 1.0
"""Seconds to wait for more output when the command has ended but what it started holds its output open."""

_REFUSED_FOR = 3.0
"""Seconds for which sshd may refuse a session before that is an error."""


class DeadlinePassed(Exception):
    """The command was still running at its deadline; its channel is closed."""


class SessionLost(Exception):
    """The channel or the whole connection ended before the command told its exit status."""


class _Wake:
    """An event for several sources; clearing is the waiter's business, so no wake-up is lost."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set
        self.wait = self._event.wait
        self.reset = self._event.clear

    def clear(self) -> None:
        """Ignore that one source has run dry: another may not have."""


class _StatusEvent(threading.Event):
    """paramiko's event for an exit status, which also wakes the reader."""

    def __init__(self, wake: _Wake) -> None:
        super().__init__()
        self._wake = wake

    def set(self) -> None:
        super().set()
        self._wake.set()


class Session:
    """A running command. `sent` and `received` count bytes. Close it, or use it as a context manager."""

    def __init__(self, transport: Transport, line: str, *, timeout: float, first: bytes = b"") -> None:
        """Start `line` in the login shell; its standard input begins with `first`, which is short.

        Raises `paramiko.SSHException` when no channel can be opened.
        """
        self.sent = 0
        self.received = 0
        self._transport = transport
        self._deadline = time.monotonic() + timeout
        self._wake = _Wake()
        self._feeder: threading.Thread | None = None
        self._broken_input: BaseException | None = None
        channel = self._open(timeout)
        channel.in_buffer.set_event(self._wake)
        channel.in_stderr_buffer.set_event(self._wake)
        channel.status_event = _StatusEvent(self._wake)
        self._channel = channel
        self._request(line)
        if first:
            self._send(first)
            self.sent = 0  # it is not what the command is given

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, timeout: float) -> Any:
        patience = time.monotonic() + _REFUSED_FOR
        while True:
            try:
                return self._transport.open_session(timeout=timeout)
            except paramiko.ChannelException:
                # A session that is closed here still counts in sshd (MaxSessions) until its process is reaped.
                if not self._transport.is_active() or time.monotonic() > patience:
                    raise
                time.sleep(0.02)

    def _request(self, line: str) -> None:
        # As Channel.exec_command, without waiting for the answer: that would be one more round trip.
        # A refusal closes the channel, and is noticed as such.
        request = paramiko.Message()
        request.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
        request.add_int(self._channel.remote_chanid)
        request.add_string("exec")
        request.add_boolean(True)
        request.add_string(line)
        self._transport._send_user_message(request)

    def feed(self, data: bytes | Iterable[bytes]) -> None:
        """Send the command's whole standard input and its end; in the background unless it fits at once."""
        if isinstance(data, bytes):
            if len(data) <= self._channel.out_window_size:
                self._send(data)
                self._channel.shutdown_write()
                return
            data = (data,)
        self._feeder = threading.Thread(target=self._feed_all, args=(data,), name="stdin", daemon=True)
        self._feeder.start()

    def _feed_all(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                if not self._send(chunk):
                    return
            self._channel.shutdown_write()
        except BaseException as exc:  # noqa: BLE001
            # Without an end of input, so that the command cannot take half of it for the whole.
            self._broken_input = exc
            self._channel.close()

    def _send(self, data: bytes) -> bool:
        """Send all of `data`; return False when the command ended first, whose exit status will tell why."""
        view = memoryview(data)
        while view:
            if self._channel.closed or self._channel.eof_sent:
                return False
            try:
                count = self._channel.send(bytes(view[:_CHUNK]))
            except OSError:
                return False
            self.sent += count
            view = view[count:]
        return True

    def write(self, data: bytes) -> None:
        """Send a piece of standard input and keep it open."""
        self._send(data)

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Yield (STDOUT or STDERR, bytes) until the command ends.

        Raises `DeadlinePassed`, `SessionLost`, or what the iterator of standard input raised.
        """
        channel = self._channel
        quiet_since: float | None = None
        while True:
            self._wake.reset()
            ended = channel.eof_received or channel.closed
            before = self.received
            yield from self._drain()
            if ended:
                break
            if channel.status_event.is_set():
                now = time.monotonic()
                quiet_since = now if self.received > before or quiet_since is None else quiet_since
                if now - quiet_since > _AFTERGLOW:
                    break
            self._check()
            self._wake.wait(max(0.0, min(0.5, self._deadline - time.monotonic())))
        if self._broken_input is not None:
            raise self._broken_input

    def _drain(self) -> Iterator[tuple[int, bytes]]:
        channel = self._channel
        for stream, ready, receive in (
            (STDOUT, channel.recv_ready, channel.recv),
            (STDERR, channel.recv_stderr_ready, channel.recv_stderr),
        ):
            while ready():
                data = receive(1 << 18)
                self.received += len(data)
                yield stream, data

    def _check(self) -> None:
        if self._transport.silent_for() > DEAD_AFTER:
            self._transport.close()
        if time.monotonic() >= self._deadline:
            self._channel.close()
            raise DeadlinePassed

    def status(self) -> int:
        """Return the exit status, 128 + n after signal n. Raises `DeadlinePassed` or `SessionLost`."""
        channel = self._channel
        while not channel.status_event.is_set():
            self._check()
            self._wake.reset()
            if not channel.status_event.is_set():
                self._wake.wait(0.5)
        if channel.exit_status < 0:
            raise SessionLost
        return int(channel.exit_status)

    def ending(self) -> str:
        """Return how the command ended, for a message: its exit status, or what is known instead."""
        channel = self._channel
        channel.status_event.wait(0.5)  # it may come after the end of the output
        if channel.status_event.is_set() and channel.exit_status >= 0:
            return f"status {channel.exit_status}"
        return "without a status" if channel.eof_received else "its channel closed"

    @property
    def alive(self) -> bool:
        """Return whether the command still runs, as far as is known here."""
        channel = self._channel
        return bool(self._transport.is_active() and not (channel.closed or channel.eof_received))

    def expire_at(self, deadline: float) -> None:
        """Set the deadline, in the seconds of `time.monotonic`; infinity for none."""
        self._deadline = deadline

    def end_input(self) -> None:
        """Close the command's standard input."""
        if not self._channel.closed:
            self._channel.shutdown_write()

    def close(self) -> None:
        """Close the channel; a command that still runs loses its input and output."""
        self._channel.close()
        if self._feeder is not None and self._feeder is not threading.current_thread():
            self._feeder.join(timeout=1.0)
