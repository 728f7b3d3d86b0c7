"""The directory of the journals: which there are, and what is in them."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kbpg.engine.history import Record, parse
from kbpg.engine.journal import NAME

MAX_BYTES = 64 << 20
"""Of one file that are read: `status --watch` may write for days. What is beyond counts as one damaged line."""


class Unreadable(Exception):
    """A journal that cannot be read, and why in words."""


def names(directory: Path) -> list[str]:
    """Return the names of the journals in `directory`, newest first; other files are left out.

    A directory that does not exist has none. Raises `Unreadable`.
    """
    try:
        found = [each.name for each in directory.iterdir() if NAME.fullmatch(each.name)]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise Unreadable(f"{directory}: {(problem.strerror or str(problem)).lower()}") from problem
    return sorted(found, reverse=True)


def read(directory: Path, name: str) -> Record:
    """Return one journal. Raises `Unreadable`."""
    path = directory / name
    try:
        # O_NONBLOCK: a named pipe of that name would wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path}: not a file")
            running = _locked(descriptor)
            data = file.read(MAX_BYTES)
    except OSError as problem:
        raise Unreadable(f"{path}: {(problem.strerror or str(problem)).lower()}") from problem
    try:
        return parse(name, data.decode("utf-8", "replace"), running=running)
    except ValueError as problem:
        raise Unreadable(f"{path}: its name has no time") from problem


def _locked(descriptor: int) -> bool:
    """Return whether a kbpg has the lock that it takes on its journal."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def each(directory: Path, found: list[str]) -> Iterator[Record | Unreadable]:
    """Yield the journals of these names, or why one cannot be read."""
    for name in found:
        try:
            yield read(directory, name)
        except Unreadable as problem:
            yield problem
