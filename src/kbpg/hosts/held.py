"""A command that runs until it is let go, or until the connection ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbpg.hosts.session import Session

_RELEASE_TIMEOUT = 2.0
"""Seconds a released command may take to end; it has nothing left to do."""


class Held:
    """A command that was started to hold something; `answer` is what it said came of that."""

    def __init__(self, session: Session, output: Iterator[tuple[int, bytes]], answer: str) -> None:
        self.answer = answer
        self._session = session
        self._output = output

    @property
    def alive(self) -> bool:
        """Return whether it still runs, as far as is known here."""
        return self._session.alive

    def send(self, data: bytes) -> bool:
        """Write to its input, which stays open; return whether that could be done, as far as is known here."""
        with contextlib.suppress(Exception):
            self._session.write(data)
        return self.alive

    def release(self) -> None:
        """Close its input and wait until it has ended, two seconds at most."""
        deadline = time.monotonic() + _RELEASE_TIMEOUT
        # Whatever went wrong with the connection, the host lets go by itself.
        with contextlib.suppress(Exception):
            self._session.expire_at(deadline)
            self._session.end_input()
            for _ in self._output:
                pass
        self._session.close()
