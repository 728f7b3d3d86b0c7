"""A forwarded TCP stream that behaves like a connected socket."""

from __future__ import annotations

import io
import socket
from typing import Any


class ChannelSocket:
    """What http.client and others need of a socket, on top of a paramiko channel.

    As with a socket, files made by `makefile` keep the stream open after `close` until they are closed too.
    """

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, channel: Any, peer: tuple[str, int]) -> None:
        self._channel = channel
        self._peer = peer
        self._files = 0
        self._closed = False

    def __enter__(self) -> ChannelSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return up to `size` bytes, none at the end. Raises `TimeoutError`."""
        return bytes(self._channel.recv(size))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Read into `buffer` and return how many bytes. Raises `TimeoutError`."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send some of `data` and return how many bytes. Raises `BrokenPipeError`, `TimeoutError`."""
        try:
            sent = int(self._channel.send(bytes(data)))
        except TimeoutError:
            raise
        except OSError as exc:
            raise BrokenPipeError("the stream is closed") from exc
        if not sent and len(data):
            raise BrokenPipeError("the stream is closed")
        return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of `data`. Raises `BrokenPipeError`, `TimeoutError`."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view[:32704]) :]

    def makefile(self, mode: str = "r", buffering: int | None = None, **text: Any) -> Any:
        """Return a file on the stream, as `socket.socket.makefile` does."""
        raw = _RawStream(self, mode.replace("b", "").replace("t", "") or "r")
        if buffering == 0:
            return raw
        size = buffering if buffering and buffering > 1 else io.DEFAULT_BUFFER_SIZE
        file: Any
        if raw.readable() and raw.writable():
            file = io.BufferedRWPair(raw, raw, size)
        else:
            file = io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)
        return file if "b" in mode else io.TextIOWrapper(file, **text)

    def settimeout(self, seconds: float | None) -> None:
        """Let reads and writes raise `TimeoutError` after `seconds`; None waits for ever."""
        self._channel.settimeout(seconds)

    def gettimeout(self) -> float | None:
        """Return the seconds a read or write may take."""
        timeout: float | None = self._channel.gettimeout()
        return timeout

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self.settimeout(None if flag else 0.0)

    def setsockopt(self, *option: Any) -> None:
        """Accept and ignore: the stream's TCP connections belong to the two sshd."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to read, for select."""
        return int(self._channel.fileno())

    def getpeername(self) -> tuple[str, int]:
        """Return where the stream ends: address and port, as seen by the host."""
        return self._peer

    def shutdown(self, how: int) -> None:
        """End one direction or both."""
        self._channel.shutdown(how)

    def close(self) -> None:
        """Close the stream, once the files made of it are closed."""
        self._closed = True
        if self._files == 0:
            self._channel.close()

    def _file_opened(self) -> None:
        self._files += 1

    def _file_closed(self) -> None:
        self._files -= 1
        if self._closed:
            self.close()


class _RawStream(io.RawIOBase):
    """The unbuffered file under `makefile`."""

    def __init__(self, stream: ChannelSocket, mode: str) -> None:
        super().__init__()
        self._stream = stream
        self._mode = mode
        stream._file_opened()

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "w" in self._mode

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._stream.send(data)

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream._file_closed()
