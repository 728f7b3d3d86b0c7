"""An inventory file before and after a change that kbpg makes to it, and how it gets onto the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbpg import replacing
from kbpg.errors import InventoryError, UsageError
from kbpg.inventory.assignment import Assignment
from kbpg.inventory.edit import given, taken_out
from kbpg.inventory.load import parse
from kbpg.inventory.models import Inventory


@dataclass(frozen=True)
class Edit:
    """The file's content as it was read, as it is to be, and the inventory that the latter is."""

    path: Path
    before: bytes
    after: bytes
    inventory: Inventory

    @property
    def changes(self) -> bool:
        """Return whether the file changes at all."""
        return self.before != self.after

    def write(self) -> None:
        """Put the new content in place. Raises `UsageError` where the file is not the one that was read."""
        self._replace(self.before, self.after)

    def restore(self) -> None:
        """Put the old content back. Raises `UsageError` where somebody else has changed the file since."""
        self._replace(self.after, self.before)

    def _replace(self, old: bytes, new: bytes) -> None:
        if old == new:
            return
        try:
            if self.path.read_bytes() != old:
                raise UsageError(f"{self.path}: was changed by somebody else just now", hint="run it again")
            replace(self.path, new)
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}"
            ) from error


def edit(path: Path, assignments: Sequence[Assignment]) -> Edit:
    """Return the change of the inventory at `path`; nothing is written.

    Raises `InventoryError` for a file that was wrong before, `UsageError` for values that make it wrong.
    """
    try:
        before = path.read_bytes()
    except OSError as error:
        raise InventoryError([f"{path}: {(error.strerror or str(error)).lower()}"]) from error
    parse(before, path)
    text = before.decode()
    for each in assignments:
        text = taken_out(text, each.path) if each.value is None else given(text, each.path, each.value)
    after = text.encode()
    try:
        return Edit(path, before, after, parse(after, path))
    except InventoryError as error:
        problems = [problem.removeprefix(f"{path}:").partition(": ")[2] for problem in error.problems]
        raise UsageError(
            problems[0] if len(problems) == 1 else "the inventory would not be right",
            detail=problems if len(problems) > 1 else (),
            hint="docs/inventory.md has the bounds of every key",
        ) from error


def replace(path: Path, content: bytes) -> None:
    """Make `content` the content of `path`, with its mode and owner; a symbolic link is followed.

    The file is always the old one or the new one, whenever the process is killed. Raises OSError; it is then
    unchanged.
    """
    file = Path(os.path.realpath(path))
    status = file.stat()
    replacing.replace(file, content, mode=status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
