"""A channel on which nothing follows its end.

paramiko makes a message under the channel's lock and sends it after letting go of that. In between another thread,
its own when the host ends the channel, may have sent the channel's end. Then sshd has forgotten the channel's number,
and ends the whole connection for a message to it ("ieof packet referred to nonexistent channel"); or it has given the
number to the next channel, whose input ends half-way.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import Any

from kbpg.hosts.lean import paramiko


class Channel(paramiko.Channel):
    """paramiko's channel, but for the moment in which it sends."""

    transport: Any
    lock: Any

    def shutdown(self, how: int) -> None:
        """End reading (0), writing (1) or both (2), as a socket does."""
        if how in (0, 2):
            super().shutdown(0)
        if how in (1, 2):
            with self.lock:
                message = self._send_eof()  # type: ignore[attr-defined]  # private, but this is what has to change
            if message is not None:
                self._send_unless_closed(message)

    def _send(self, data: bytes, message: paramiko.Message) -> int:
        """Send what fits of `data` after the head `message`; return how much. Its last step is ours."""
        with self.lock:
            if self.closed:
                raise OSError("Socket is closed")
            size = int(self._wait_for_send_window(len(data)))  # type: ignore[attr-defined]
            if size == 0:
                return 0
            message.add_string(data[:size])
        self._send_unless_closed(message)
        return size

    def _send_unless_closed(self, message: paramiko.Message) -> None:
        """Send `message` unless this channel has ended: looked at when nothing else can be sent in between.

        During a key exchange it waits. Where the connection is lost, or the channel has ended, nobody waits for the
        message any more. Raises `paramiko.SSHException` for a key exchange that does not end.
        """
        transport = self.transport
        until = time.monotonic() + transport.clear_to_send_timeout
        while transport.active:
            transport.clear_to_send.wait(0.1)
            with transport.clear_to_send_lock:
                if transport.clear_to_send.is_set():
                    if not self.closed:
                        with contextlib.suppress(EOFError):
                            transport._send_message(message)
                    return
            if time.monotonic() > until:
                raise paramiko.SSHException("the key exchange did not end")


# paramiko's transports make their channels by this name, and can be told of another class in no other way
_transport: Any = importlib.import_module("paramiko.transport")
_transport.Channel = Channel
