"""New passwords on their way into force: the whole new file beside the old one, until it is proven.

`postgres.env.new` is all there is to know of a rotation: what differs from `postgres.env` is being rotated. While it
is there each of these passwords in the cluster is the old or the new one, and the old file is untouched. Once the new
ones are proven it takes the old one's place by one rename, so that at whatever moment kbpg is killed, both
files are whole and the passwords in force are in one of them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import MappingProxyType

from kbpg.credentials.completing import complete
from kbpg.credentials.found import Found, load
from kbpg.credentials.model import ROLE, generate_password, role_password_name
from kbpg.credentials.store import render, write
from kbpg.errors import CredentialsError, LockHeld, UsageError
from kbpg.secret import Secret

KINDS = MappingProxyType(
    {
        "app": "POSTGRES_APP_PASS",
        "superuser": "POSTGRES_SUPERPASS",
        "replication": "POSTGRES_REPLICATION_PASS",
        "rewind": "POSTGRES_REWIND_PASS",
        "pgbouncer": "PGBOUNCER_AUTH_PASS",
        "rest": "PATRONI_REST_PASS",
        "raft": "RAFT_PASS",
    }
)
"""What can be rotated, as it is called on the command line, and its name in the file."""
ALONE = "RAFT_PASS"
"""It is rotated by itself, and last: each node gets the file with it just before its restart."""
RESUME = "kbpg credentials rotate --resume"
LOOK = 1.0
"""Seconds after which a lock on the new file is no mere look (`under_way`), which takes a moment."""


def names_for(words: Sequence[str], roles: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the file for the words of a command line; `roles` are the inventory's that log in.

    Raises `UsageError` for a word that is none, and for a role that is none.
    """
    names: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "role":
            role = next(rest, "")
            if role not in roles:
                what = f"role {role}: no role of the inventory that logs in" if role else "role: which one?"
                raise UsageError(what, hint=f"one of: {', '.join(roles) or 'there is none'}")
            names.append(role_password_name(role))
        elif word == "all":
            names += [*KINDS.values(), *map(role_password_name, roles)]
        elif word in KINDS:
            names.append(KINDS[word])
        else:
            raise UsageError(
                f"{word}: nothing that can be rotated", hint=f"one of {', '.join(KINDS)}, role NAME, all"
            )
    return tuple(dict.fromkeys(names))


def parts(names: Collection[str]) -> list[tuple[str, ...]]:
    """Return what is rotated together, one after another: each with a new file of its own."""
    together = tuple(name for name in names if name != ALONE)
    return [part for part in (together, (ALONE,) if ALONE in names else ()) if part]


def new_path(path: str | os.PathLike[str]) -> Path:
    """Return where the new file is while it is not proven: beside the old one, also where that is a link's target."""
    file = Path(os.path.realpath(path))
    return file.with_name(f"{file.name}.new")


def begin(found: Found, names: Collection[str], make: Callable[[], Secret] = generate_password) -> Found:
    """Write the new file, with new passwords for `names`, and return what is in it.

    Every other byte is the old file's. From here on the rotation is under way. Raises `CredentialsError`; there is no
    new file then.
    """
    values = {name: make() if name in names else value for name, value in found.values.items()}
    text = render(complete(_with(found, values)), found)
    path = new_path(found.path)
    write(path, text)
    try:
        return _written(path, found, names)
    except CredentialsError:
        # It would be a rotation under way; none of its passwords is in use yet
        path.unlink(missing_ok=True)
        raise


def _written(path: Path, found: Found, names: Collection[str]) -> Found:
    """Return what is in the new file. Raises `CredentialsError` where other passwords than `names` are new."""
    written = load(path, found.roles)
    if written is None or changed(found, written) != tuple(n for n in found.names if n in names):
        raise CredentialsError(f"{path}: not what was written there")
    return written


def _with(found: Found, values: dict[str, Secret]) -> Found:
    return Found(found.path, found.text, values, found.lines, found.spans, found.mode, found.roles)


def left(path: str | os.PathLike[str], roles: Sequence[str] = ()) -> Found | None:
    """Return the new file of a rotation that is not ended, None where there is none.

    Raises `CredentialsError` where it cannot be read, or lacks a name.
    """
    new = load(new_path(path), roles)
    if new is not None and new.missing:
        raise CredentialsError(
            f"{new.path}: {', '.join(new.missing)} missing: not a file that kbpg wrote for a rotation",
            hint="move it away, if you put it there",
        )
    return new


def under_way(path: str | os.PathLike[str]) -> bool:
    """Return whether a kbpg on this controller is rotating now; it is in nobody's way."""
    try:
        descriptor = os.open(new_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def hold(new: Found) -> int:
    """Say, until the descriptor that is returned is closed, or kbpg ends, that the rotation is under way.

    Raises `LockHeld` where another kbpg says so.
    """
    descriptor = os.open(new.path, os.O_RDONLY | os.O_CLOEXEC)
    ends = time.monotonic() + LOOK
    while not (locked := _locked(descriptor)) and time.monotonic() < ends:
        time.sleep(LOOK / 20)
    if locked:
        return descriptor
    os.close(descriptor)
    raise LockHeld(
        "passwords are being rotated by another kbpg", hint=f"wait for its end; what it leaves: {RESUME}"
    )


def _locked(descriptor: int) -> bool:
    """Return whether the file is locked now, for nobody else."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def changed(old: Found, new: Found) -> tuple[str, ...]:
    """Return the names whose values differ, in the file's order: what is being rotated."""
    return tuple(name for name in new.names if new.values.get(name) != old.values.get(name))


def end(old: Found, new: Found) -> None:
    """Let the new file take the old one's place. Raises `CredentialsError` where somebody edited one meanwhile."""
    for each in (old, new):
        now = load(each.path, each.roles)
        if now is None or now.text != each.text:
            raise CredentialsError(
                f"{each.path}: was changed while the passwords were rotated",
                hint=f"look at both files; {RESUME} goes on",
            )
    file = Path(os.path.realpath(old.path))
    try:
        new.path.replace(file)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        raise CredentialsError(
            f"{old.path}: cannot be replaced by {new.path.name}: {(exc.strerror or str(exc)).lower()}",
            hint=f"the new passwords are in force; when it can be: {RESUME}",
        ) from exc


def words_for(names: Collection[str]) -> list[str]:
    """Return what the names are called on the command line: `app`, `role reporting`."""
    kinds = {name: word for word, name in KINDS.items()}
    return [kinds.get(name) or f"role {_role(name)}" for name in names]


def _role(name: str) -> str:
    return name.removeprefix("POSTGRES_ROLE_").removesuffix("_PASS").lower() if ROLE.fullmatch(name) else name
