"""A command that runs until it is let go, or until the connection ends."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbpg.hosts.session import Session

_RELEASE_TIMEOUT = 2.0
"""Seconds a released command may take to end; it has nothing left to do."""


class Held:
    """A command that was started to hold something; `first_line` tells what came of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._output = session.output()

    @property
    def alive(self) -> bool:
        """Return whether it still runs, as far as is known here."""
        return self._session.alive

    def first_line(self) -> str:
        """Return the first line it prints, or all of it when it ends before. Waits without a deadline."""
        text = bytearray()
        for _, data in self._output:
            text += data
            if b"\n" in data:
                break
        return text.decode(errors="replace").partition("\n")[0]

    def release(self) -> None:
        """Close its input and wait until it has ended, two seconds at most."""
        deadline = time.monotonic() + _RELEASE_TIMEOUT
        with contextlib.suppress(Exception):
            self._session.end_input()
            for _ in self._output:
                if time.monotonic() > deadline:
                    break
        self._session.close()
