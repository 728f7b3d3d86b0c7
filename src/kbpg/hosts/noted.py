"""A change that goes to a service through a stream, and not to a command: under the lock, and in the journal, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbpg.errors import LockLost
from kbpg.hosts.port import Reader


@dataclass
class Note:
    """What the journal will say of it: 0 once it was done, else why not."""

    status: int | str = "failed"


@contextlib.contextmanager
def noted(host: Reader, command: Sequence[str], *, anyway: bool = False) -> Iterator[Note]:
    """Note `command` in the journal when the block ends, however it ends; `Reader.note` says what it may hold.

    The status is 0 when the block ends well, unless it has set another. Raises `LockLost` before the block where the
    host's lock is held no more; not so for what is done `anyway`, as clients wait for it.
    """
    if not anyway and host.lock_lost():
        raise LockLost(host.name, " ".join(command))
    note, started = Note(), time.monotonic()
    try:
        yield note
        if note.status == "failed":
            note.status = 0
    finally:
        host.note(command, status=note.status, seconds=time.monotonic() - started)
