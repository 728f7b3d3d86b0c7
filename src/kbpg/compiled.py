"""Compiled templates, kept from one run to the next: compiling them is 0.2 s of each command that renders.

As Python keeps what it makes of its modules, so does jinja2 of templates; it is loaded, that is, executed. So it is
kept where nobody else may write: in a directory of the user's own, 0700, in one that nobody else may write in either.
Where there is none, templates are compiled each time.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import jinja2.compiler

from kbpg import __version__
from kbpg.home import home
from kbpg.replacing import DIRECTORY_MODE

if TYPE_CHECKING:
    from jinja2.bccache import Bucket

_WRITABLE_BY_OTHERS = 0o022


def cache(makers: Iterable[Path]) -> Templates | None:
    """Return where compiled templates are kept; None where there is no place for them.

    `makers` are the sources of what configures jinja2, filters included: it computes what is constant when it
    compiles. So what a template is compiled to depends on them, on kbpg's version, and on jinja2's compiler; on the
    template's text and Python's version too, at which jinja2 itself looks.
    """
    base = _base()
    if base is None:
        return None
    directory = base / "kbpg"
    try:
        base.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        if not _mine(base.stat()):
            return None
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        return Templates(directory, _made_by(makers)) if _mine(directory.stat()) else None
    except OSError:
        return None


def _base() -> Path | None:
    """Return the user's directory for caches, by the XDG Base Directory Specification, 0.8."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if chosen.is_absolute():
        return chosen
    mine = home()
    return mine / ".cache" if mine else None


def _mine(found: os.stat_result) -> bool:
    """Return whether nobody else may write there, but root."""
    return found.st_uid == os.getuid() and not found.st_mode & _WRITABLE_BY_OTHERS


def _made_by(makers: Iterable[Path]) -> str:
    compiler = Path(jinja2.compiler.__file__).stat()
    parts = [__version__.encode(), repr((compiler.st_mtime_ns, compiler.st_size)).encode()]
    parts += [maker.read_bytes() for maker in sorted(makers)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


class Templates(jinja2.BytecodeCache):
    """A file for each template; what cannot be read or written is not kept, and no reason to stop."""

    def __init__(self, directory: Path, made_by: str) -> None:
        self.directory, self._made_by = directory, made_by

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load it, if it is there, whole, and nobody else's."""
        try:
            with self._file(bucket).open("rb") as file:
                if _mine(os.fstat(file.fileno())):
                    bucket.load_bytecode(file)
        except Exception:  # noqa: BLE001 (pickle and marshal raise whatever a broken file makes them)
            bucket.reset()
        if not isinstance(bucket.code, CodeType):
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it, if there is room."""
        # A name of one's own first: another kbpg may do the same now
        file = self._file(bucket)
        own = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        try:
            own.touch(mode=0o600)
            own.write_bytes(bucket.bytecode_to_string())
            own.replace(file)
        except OSError:
            own.unlink(missing_ok=True)

    def _file(self, bucket: Bucket) -> Path:
        return self.directory / f"{self._made_by}-{bucket.key}"
