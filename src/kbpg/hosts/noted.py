"""A change that goes to a service through a stream, not to a command: it is in the journal all the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbpg.hosts.port import Reader


@dataclass
class Note:
    """What the journal will say of it: 0 once it was done, else why not."""

    status: int | str = "failed"


@contextlib.contextmanager
def noted(host: Reader, command: Sequence[str]) -> Iterator[Note]:
    """Note `command` in the journal when the block ends, however it ends; `Reader.note` says what it may hold.

    The status is 0 when the block ends well, unless it has set another.
    """
    note, started = Note(), time.monotonic()
    try:
        yield note
        if note.status == "failed":
            note.status = 0
    finally:
        host.note(command, status=note.status, seconds=time.monotonic() - started)
