"""A note beside the inventory of what a drill breaks, written before it does: the next kbpg takes it back.

While a drill is under way it holds a lock on the note, which ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbpg.drills.undo import Kind, Undo
from kbpg.errors import LockHeld
from kbpg.replacing import replace

FILE = "drill.json"
LOCK = "drill.lock"


@dataclass(frozen=True)
class Note:
    """Which drill, on which host, and the acts that take it back, in order."""

    drill: str
    target: str
    undo: tuple[Undo, ...]

    @property
    def text(self) -> str:
        """Return what takes it back, in words."""
        return ", ".join(act.text for act in self.undo)


def write(state: Path, note: Note) -> None:
    """Keep the note in the directory `state`, before anything is broken. Raises OSError."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    acts = [{"kind": act.kind.value, "host": act.host} for act in note.undo]
    document = {"drill": note.drill, "target": note.target, "undo": acts}
    replace(state / FILE, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)


def forget(state: Path) -> None:
    """Everything is taken back."""
    (state / FILE).unlink(missing_ok=True)


def read(state: Path) -> Note | None:
    """Return the note, None where there is none, or one that nobody can read: it is then not ours."""
    try:
        said = json.loads((state / FILE).read_text())
        acts = tuple(Undo(Kind(act["kind"]), str(act["host"])) for act in said["undo"])
        return Note(str(said["drill"]), str(said["target"]), acts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def under_way(state: Path) -> Iterator[None]:
    """Hold the lock that says that a drill of this inventory is under way. Raises `LockHeld` where one is."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld("a drill of this cluster is under way", hint="wait for its end") from None
        yield
    finally:
        os.close(descriptor)


def left(state: Path) -> Note | None:
    """Return the note of a drill that was broken off; None where there is none, or its drill is under way."""
    if not (state / FILE).exists():
        return None
    try:
        with under_way(state):
            return read(state)
    except LockHeld:
        return None
