"""A listener on 127.0.0.1 of the controller whose connections end at a port behind a host."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

Dial = Callable[[], socket.socket]
"""Opens the far end of one connection; raises `OSError` or `KbpgError` when nothing answers."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset, which says "refused" better than an orderly end does."""


FAREWELL = 0.5
"""Seconds that are left, at the end, for what was sent to arrive and for the server to hang up."""


class Forward:
    """Listens from entering to leaving the context, whose value is the port."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._near: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0))
        port: int = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener)
        return port

    def __exit__(self, *exc: object) -> None:
        assert self._listener is not None  # noqa: S101
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept() on Linux
        self._listener.close()
        # What a client said last is still on its way: a TLS session that ends without a word is a line in a log
        self._end(self._near, socket.SHUT_RD, FAREWELL)
        self._end(self._open, socket.SHUT_RDWR, 5.0)

    def _end(self, ends: set[socket.socket], how: int, seconds: float) -> None:
        """Shut `ends` down and wait, `seconds` at most, for their threads."""
        with self._lock:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(how)
            threads = self._threads
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def _spawn(self, work: Callable[..., None], *args: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, name="forward", daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive() or other.ident is None]
            self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(near)
                self._near.add(near)
            self._spawn(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        from kbpg.errors import KbpgError

        try:
            far = self._dial()
        except (OSError, KbpgError):
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close(near)
            return
        with self._lock:
            self._open.add(far)
        back = threading.Thread(target=_copy, args=(far, near), name="forward", daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        self._close(near, far)

    def _close(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(ends)
            self._near.difference_update(ends)
        for end in ends:
            end.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends, then end the sink's input."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
