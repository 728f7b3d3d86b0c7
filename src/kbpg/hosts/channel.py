"""A channel on which nothing follows its end.

paramiko makes a message under the channel's lock and sends it after letting go of that. In between another thread,
its own when the host ends the channel, may have sent the channel's end. Then sshd has forgotten the channel's number,
and ends the whole connection for a message to it ("ieof packet referred to nonexistent channel"); or it has given the
number to the next channel, whose input ends half-way.
"""

from __future__ import annotations

import importlib
from typing import Any

from kbpg.hosts.lean import paramiko


class Channel(paramiko.Channel):
    """A channel of `kbpg.hosts.connection.Transport`."""

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
                self.transport.send_on(self, message)

    def _send(self, data: bytes, message: paramiko.Message) -> int:
        """Send what fits of `data` after the head `message`; return how much. Its last step is ours."""
        with self.lock:
            if self.closed:
                raise OSError("Socket is closed")
            size = int(self._wait_for_send_window(len(data)))  # type: ignore[attr-defined]
            if size == 0:
                return 0
            message.add_string(data[:size])
        self.transport.send_on(self, message)
        return size


def use_channel() -> None:
    """Let paramiko's transports open channels of this class; there is no other way to tell them."""
    module: Any = importlib.import_module("paramiko.transport")
    module.Channel = Channel


use_channel()
