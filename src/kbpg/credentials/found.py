"""What a credentials file holds, and every problem of it at once."""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbpg.credentials import shell
from kbpg.credentials.limits import password_problems, user_problems
from kbpg.credentials.model import (
    NAMES,
    REQUIRED,
    ROLE,
    USERS,
    role_password_name,
)
from kbpg.errors import CredentialsError
from kbpg.secret import Secret

MAX_BYTES = 65_536
"""Larger files are no credentials: nine lines need 600 bytes."""

_OWN_PREFIXES = ("POSTGRES_", "PGBOUNCER_", "RAFT_", "PATRONI_")
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_CORRECT = "correct the file, then: kbpg credentials show"


@dataclass(frozen=True)
class Found:
    """A credentials file that can be used.

    `text` is the whole file, `values` kbpg's own names in it, `lines` (from 1) and `spans` (offsets in
    `text`, quotes included) where their values stand. `mode` is the file's permission bits or None. `roles` are the
    roles whose passwords it should have besides.
    """

    path: Path
    text: Secret
    values: Mapping[str, Secret]
    lines: Mapping[str, int]
    spans: Mapping[str, tuple[int, int]]
    mode: int | None = None
    roles: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it should have."""
        return (*NAMES, *map(role_password_name, self.roles))

    @property
    def missing(self) -> tuple[str, ...]:
        """The names that `complete` would generate a value for."""
        return tuple(name for name in self.names if name not in self.values)

    @property
    def too_open(self) -> bool:
        """Whether anybody but the owner has a right to the file."""
        return self.mode is not None and bool(self.mode & 0o077)


def load(path: str | os.PathLike[str], roles: Sequence[str] = ()) -> Found | None:
    """Return what the file `path` holds, None where there is no such file. `roles` are to have passwords in it.

    Nothing is run or changed: a file that others may read is reported by `Found.too_open`. Raises
    CredentialsError with every problem, and for what is no readable file: a directory, a dangling link.
    """
    file = Path(path)
    try:
        data, status = _read(file)
    except FileNotFoundError as exc:
        if file.is_symlink():
            raise CredentialsError(
                f"{file}: a symbolic link to {file.readlink()}, where there is no file",
                hint="mount or restore what the link points to, or remove the link",
            ) from exc
        return None
    except OSError as exc:
        raise CredentialsError(f"{file}: cannot be read: {_reason(exc)}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise CredentialsError(
            f"{file}: {_kind(status.st_mode)}: wanted a file",
            hint="move it away, or name another file with credentials: in the inventory",
        )
    if len(data) > MAX_BYTES:
        raise CredentialsError(f"{file}: more than {MAX_BYTES} bytes: not a credentials file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CredentialsError(f"{file}:1: not UTF-8 but UTF-16: wanted UTF-8", hint=_CORRECT)
    text = data.decode("utf-8", "surrogateescape")
    return parse(text, path=file, mode=stat.S_IMODE(status.st_mode), roles=roles)


def parse(
    text: str, *, path: str | os.PathLike[str], mode: int | None = None, roles: Sequence[str] = ()
) -> Found:
    """Return what `text` holds as if it had been read from `path`; raises CredentialsError with them all.

    Bytes that are not UTF-8 are expected as surrogates (`surrogateescape` of Python's codecs). Values that
    are not kbpg's own are only checked for what a shell would do with them.
    """
    reading = _Reading()
    if text.startswith("\ufeff"):
        reading.problem(1, None, "starts with a byte order mark: wanted UTF-8 without one")
    offset = 0
    for number, line in enumerate(text.split("\n"), 1):
        reading.line(number, offset, line.removeprefix("\ufeff") if number == 1 else line)
        offset += len(line) + 1
    last_line = text.rstrip("\n").count("\n") + 1
    for name in REQUIRED:
        if name not in reading.lines:
            reading.problem(last_line, name, "missing: wanted it, or no file at all to have one generated")
    if reading.problems:
        raise CredentialsError(
            "\n".join(f"{os.fspath(path)}:{problem}" for problem in reading.in_order()), hint=_CORRECT
        )
    return Found(Path(path), Secret(text), reading.values, reading.lines, reading.spans, mode, tuple(roles))


@dataclass
class _Reading:
    """What has been read so far. A line with a problem still counts as the place of its name."""

    values: dict[str, Secret] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    windows: bool = False

    def problem(self, number: int, name: str | None, text: str) -> None:
        self.problems.append((number, f"{name}: {text}" if name else text))

    def in_order(self) -> Iterator[str]:
        for number, text in sorted(self.problems, key=lambda problem: problem[0]):
            yield f"{number}: {text}"

    def line(self, number: int, offset: int, line: str) -> None:
        if line.endswith("\r"):
            if not self.windows:
                self.problem(
                    number, None, "ends with CR LF, as on Windows: wanted LF, sed -i 's/\\r$//' makes it so"
                )
            self.windows = True
            line = line[:-1]
        if _NOT_UTF8.search(line):
            self.problem(number, _shown(_name_in(line)), "not UTF-8")
            self._place(number, _name_in(line))
            return
        if "\0" in line:
            self.problem(number, _shown(_name_in(line)), "has a zero byte, which no shell keeps")
            self._place(number, _name_in(line))
            return
        try:
            found = shell.assignment(line)
        except shell.ShellSyntaxError as exc:
            self.problem(number, _shown(exc.name), exc.text)
            self._place(number, exc.name)
            return
        if found:
            self._assignment(number, offset, found)

    def _assignment(self, number: int, offset: int, found: shell.Assignment) -> None:
        name = found.name
        if not _is_own(name):
            if _looks_own(name):
                self.problem(number, name, _unknown(name))
                self._place(number, _nearest(name))
            return
        if name in self.lines:
            self.problem(number, name, f"given again, first in line {self.lines[name]}: wanted it once")
            return
        self._place(number, name)
        self.values[name] = found.value
        self.spans[name] = (offset + found.start, offset + found.end)
        texts = user_problems(found.value.reveal()) if name in USERS else password_problems(name, found.value)
        for text in texts:
            self.problem(number, name, text)

    def _place(self, number: int, name: str | None) -> None:
        if name and _is_own(name):
            self.lines.setdefault(name, number)


def _name_in(line: str) -> str | None:
    return next((name for name in NAMES if re.match(rf"[ \t]*(export[ \t]+)?{name}=", line)), None)


def _shown(name: str | None) -> str | None:
    """A name that is not kbpg's own is not shown: it may be part of a secret pasted into the file."""
    return name if name and (name in NAMES or _looks_own(name)) else None


def _is_own(name: str) -> bool:
    return name in NAMES or ROLE.fullmatch(name) is not None


def _looks_own(name: str) -> bool:
    return name.upper().startswith(_OWN_PREFIXES) or _nearest(name) is not None


def _nearest(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name.upper(), NAMES, 1, 0.8)), None)


def _unknown(name: str) -> str:
    nearest = _nearest(name)
    if nearest:
        return f"unknown name: did you mean {nearest}?"
    return f"unknown name: wanted one of {', '.join(NAMES)}, or a name that does not look like one of kbpg's"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _read(file: Path) -> tuple[bytes, os.stat_result]:
    """Return the first `MAX_BYTES` + 1 bytes of a file (none of what is no regular file), and what it is."""
    # O_NONBLOCK: opening a named pipe would wait for a writer.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", status
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(MAX_BYTES + 1), status
    finally:
        os.close(descriptor)


def _reason(exc: OSError) -> str:
    if exc.errno == errno.EACCES:
        return f"permission denied for user {os.geteuid()}"
    return (exc.strerror or str(exc)).lower()
