"""The user's own terminal, handed over to a program on a host for as long as that runs."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kbpg.hosts.tcp import DEAD_AFTER

if TYPE_CHECKING:
    from kbpg.hosts.link import Link

_ROUND = 0.5
"""Seconds between two looks whether the connection lives, while nothing is typed or written."""
_CHUNK = 1 << 15


class Terminal:
    """Standard input and output, which both are a terminal."""

    @property
    def kind(self) -> str:
        """Return what programs need to know to draw on it."""
        return os.environ.get("TERM") or "dumb"

    @staticmethod
    def size() -> tuple[int, int]:
        """Return columns and rows."""
        columns, rows = shutil.get_terminal_size()
        return columns, rows

    def join(self, channel: Any, link: Link) -> None:
        """Pass what is typed to the channel and what it writes to the screen, until it ends or the link does.

        Every key goes to the program, Ctrl-C too. The terminal is as before when this returns or raises.
        """
        with self._raw(), self._following_size(channel):
            while not channel.closed:
                readable, _, _ = select.select([channel, sys.stdin], [], [], _ROUND)
                if channel in readable and not self._show(channel):
                    break
                if sys.stdin in readable:
                    self._type(channel)
                if link.transport.silent_for() > DEAD_AFTER:
                    link.transport.close()
        channel.status_event.wait(_ROUND)

    def _show(self, channel: Any) -> bool:
        data = channel.recv(_CHUNK)
        view = memoryview(data)
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]
        return bool(data)

    def _type(self, channel: Any) -> None:
        data = os.read(sys.stdin.fileno(), _CHUNK)
        if not data:
            channel.shutdown_write()
            return
        with contextlib.suppress(OSError):  # it has just ended
            channel.sendall(data)

    @contextlib.contextmanager
    def _raw(self) -> Iterator[None]:
        """Let the terminal pass every key on."""
        sys.stdout.flush()
        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setraw(sys.stdin)
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    @contextlib.contextmanager
    def _following_size(self, channel: Any) -> Iterator[None]:
        """Tell the program when the window changes its size."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def resized(signum: int, frame: object) -> None:
            with contextlib.suppress(Exception):
                channel.resize_pty(*self.size())

        before = signal.signal(signal.SIGWINCH, resized)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)
