"""The journal: every command run on a host, one JSON object a line, without secrets and without input.

The first line says who ran which kbpg (`event: begin`), the last how that ended (`event: end`); a file without the
last is of a kbpg that still runs, which then has a lock on it (flock), or was killed. `history.py` reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kbpg import __version__
from kbpg.engine.redactor import Redactor
from kbpg.errors import KbpgError
from kbpg.home import user

LONGEST = 2000
"""Characters of one argument that are written; the rest of a long script tells nobody anything."""
KEPT = 200
"""Files that are kept, the newest ones. The largest of 635 that were looked at had 70 kB, so this is 14 MB."""
NAME = re.compile(r"\d{8}T\d{6}Z-.*\d+\.jsonl")
"""The names of journals: UTC time, command, process id."""


def author(arguments: Sequence[str], inventory: Path) -> dict[str, object]:
    """Return what a journal's first line says: who runs which kbpg, with which arguments, on which inventory.

    `arguments` are without secrets already. `sudo_user` is who became root to do it, as sudo says.
    """
    sudo = os.environ.get("SUDO_USER")
    return {
        "who": f"{user()}@{socket.gethostname()}",
        **({"sudo_user": sudo} if sudo else {}),
        "kbpg": __version__,
        "arguments": list(arguments),
        "inventory": str(inventory.absolute()),
    }


class Journal:
    """Writes down commands; usable from several threads, and as a context manager that closes it.

    The file is `<UTC time>-<command>-<pid>.jsonl` in `directory`. It comes into being with the first command,
    so what touches no host leaves no file. Directory and file are their owner's alone (0700, 0600). A new file
    takes the place of the oldest where there are `KEPT` of them.
    """

    def __init__(
        self,
        directory: Path | None,
        command: str,
        redactor: Redactor,
        about: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare the journal of `command`; without a directory nothing is written, only masked.

        `about` is what its first line says (`author`); without it there is no such line.
        """
        self._started = started = datetime.now(UTC)
        self._about = dict(about or {})
        name = re.sub(r"[^A-Za-z0-9.]+", "-", command).strip("-")
        self.path = (
            directory / f"{started:%Y%m%dT%H%M%SZ}-{name}-{os.getpid()}.jsonl"
            if directory is not None
            else None
        )
        self._made = False
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
        self._write(self.path, entry)

    def end(self, code: int, ending: str) -> None:
        """Write down how kbpg ends: its exit code, and why in words, empty where it is as it should be.

        A journal without a command stays without a file. Raises `KbpgError` when it cannot be written.
        """
        if self.path is None or not self._made:
            return
        seconds = (datetime.now(UTC) - self._started).total_seconds()
        entry = {"event": "end", "time": _before(0), "exit": code, "seconds": round(seconds, 3)}
        self._write(self.path, {**entry, "ending": _shortened(self.mask(ending))})
        self.close()

    def close(self) -> None:
        """Close the file; recording again opens it again."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, path: Path, entry: Mapping[str, object]) -> None:
        with self._lock:
            try:
                os.write(self._open(path), _line(entry))
            except OSError as exc:
                raise KbpgError(f"the journal {path} cannot be written: {exc.strerror}") from exc

    def _open(self, path: Path) -> int:
        if self._descriptor is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            # Whoever reads it sees by this lock that kbpg still runs; a file system without locks does not matter
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _forget_oldest(path)
            if self._about and not self._made:
                os.write(self._descriptor, self._begin())
            self._made = True
        return self._descriptor

    def _begin(self) -> bytes:
        masked = {
            name: [self.mask(str(word)) for word in value]
            if isinstance(value, list)
            else self.mask(str(value))
            for name, value in self._about.items()
        }
        started = self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return _line({"event": "begin", "time": started, **masked})


def _line(entry: Mapping[str, object]) -> bytes:
    return f"{json.dumps(entry, ensure_ascii=False)}\n".encode(errors="replace")


def _forget_oldest(new: Path) -> None:
    """Remove the journals beside `new` that are beyond `KEPT`; anything else in that directory is left alone."""
    # Names begin with the time; who is not allowed to remove them can still work
    with contextlib.suppress(OSError):
        names = sorted(each.name for each in new.parent.iterdir() if NAME.fullmatch(each.name))
        for name in names[:-KEPT]:
            if name != new.name:
                (new.parent / name).unlink(missing_ok=True)


def _before(seconds: float) -> str:
    """Return the time that was so many seconds ago, in ISO 8601 and UTC."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[:LONGEST]}… {len(word) - LONGEST} more characters"
