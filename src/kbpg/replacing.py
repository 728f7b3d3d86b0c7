"""Local files that are always the old ones or the new ones, whenever the process is killed; one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

DIRECTORY_MODE = 0o700
"""Of a directory that is made for a secret."""


def replace(file: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make `content` the content of `file`, with this mode, and `owner` (uid, gid) where the process may set it.

    The temporary file beside it has one name, so that it never piles up: one writer at a time is the caller's
    business. Raises OSError; the file is then unchanged. Its directory is not synced.
    """
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123 (a descriptor, not a path)
            stream.write(content)
            stream.flush()
            os.fchmod(descriptor, mode)
            if owner is not None:
                with contextlib.suppress(PermissionError):  # only root gives a file to somebody else
                    os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one who writes in `directory`; what was written is on the disk at the end.

    A directory that is missing is made, with those above it, for the owner alone. Raises BlockingIOError where
    somebody else writes there, OSError.
    """
    _make(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(directory: Path) -> None:
    if directory.is_dir():
        return
    _make(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(DIRECTORY_MODE)
