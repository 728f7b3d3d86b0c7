"""A local file that is always the old one or the new one, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
