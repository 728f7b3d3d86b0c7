"""A command that runs until it is let go, or until the connection ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from kbpg.hosts.port import RELEASE_TIMEOUT
from kbpg.hosts.session import STDOUT, Session


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

    def release(self, seconds: float = RELEASE_TIMEOUT) -> str:
        """Close its input, wait so many seconds at most until it has ended, and return what it printed since."""
        deadline, said = time.monotonic() + seconds, b""
        # Whatever went wrong with the connection, the host lets go by itself.
        with contextlib.suppress(Exception):
            self._session.expire_at(deadline)
            self._session.end_input()
            for stream, data in self._output:
                said += data if stream == STDOUT else b""
        self._session.close()
        return said.decode(errors="replace")
