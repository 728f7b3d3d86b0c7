"""The journal: every command run on a host, one JSON object a line, without secrets and without input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kbpg.engine.redactor import Redactor
from kbpg.errors import KbpgError

LONGEST = 2000
"""Characters of one argument that are written; the rest of a long script tells nobody anything."""
KEPT = 200
"""Files that are kept, the newest ones. The largest of 635 that were looked at had 70 kB, so this is 14 MB."""
_NAME = re.compile(r"\d{8}T\d{6}Z-.*\d+\.jsonl")


class Journal:
    """Writes down commands; usable from several threads, and as a context manager that closes it.

    The file is `<UTC time>-<command>-<pid>.jsonl` in `directory`. It comes into being with the first command,
    so what touches no host leaves no file. Directory and file are their owner's alone (0700, 0600). A new file
    takes the place of the oldest where there are `KEPT` of them.
    """

    def __init__(self, directory: Path | None, command: str, redactor: Redactor) -> None:
        """Prepare the journal of `command`; without a directory nothing is written, only masked."""
        started = datetime.now(UTC)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", command).strip("-")
        self.path = (
            directory / f"{started:%Y%m%dT%H%M%SZ}-{name}-{os.getpid()}.jsonl"
            if directory is not None
            else None
        )
        self._redactor = redactor
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    @classmethod
    def null(cls, redactor: Redactor | None = None) -> Journal:
        """Return a journal that writes nothing."""
        return cls(None, "", redactor or Redactor())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def mask(self, text: str) -> str:
        """Return `text` with every known secret masked."""
        return self._redactor.mask(text)

    def record(
        self,
        host: str,
        command: Sequence[str],
        *,
        status: int | str,
        seconds: float,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        """Write down one command that ended now: its status (or why there is none), seconds, bytes to and from it.

        The time that is written is that of its start. Raises `KbpgError` when the journal cannot be written.
        """
        if self.path is None:
            return
        entry = {
            "time": _before(seconds),
            "host": host,
            "command": [_shortened(self.mask(word)) for word in command],
            "status": status,
            "seconds": round(seconds, 4),
            "sent": sent,
            "received": received,
        }
        line = json.dumps(entry, ensure_ascii=False)
        with self._lock:
            try:
                os.write(self._open(self.path), f"{line}\n".encode(errors="replace"))
            except OSError as exc:
                raise KbpgError(f"the journal {self.path} cannot be written: {exc.strerror}") from exc

    def close(self) -> None:
        """Close the file; recording again opens it again."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self, path: Path) -> int:
        if self._descriptor is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            _forget_oldest(path)
        return self._descriptor


def _forget_oldest(new: Path) -> None:
    """Remove the journals beside `new` that are beyond `KEPT`; anything else in that directory is left alone."""
    # Names begin with the time; who is not allowed to remove them can still work
    with contextlib.suppress(OSError):
        names = sorted(each.name for each in new.parent.iterdir() if _NAME.fullmatch(each.name))
        for name in names[:-KEPT]:
            if name != new.name:
                (new.parent / name).unlink(missing_ok=True)


def _before(seconds: float) -> str:
    """Return the time that was so many seconds ago, in ISO 8601 and UTC."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[:LONGEST]}… {len(word) - LONGEST} more characters"
