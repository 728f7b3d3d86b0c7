"""The directory of certificates and keys on the controller: read as it is, and written."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kbpg.errors import CredentialsError
from kbpg.pki.model import CA, Pki
from kbpg.replacing import locked, replace
from kbpg.secret import Secret

FILE_MODE = 0o600
OTHERS = 0o077
"""Rights of anybody but the owner: a key has none of them, and neither has its directory."""
MAX_BYTES = 262_144
"""A larger file is no certificate: one takes 1 to 3 kB, a whole system's bundle of authorities about 220 kB."""
SUFFIXES = (".crt", ".key")


@dataclass(frozen=True)
class Stored:
    """What the directory holds: the content of each file by its name. Empty where there is no directory.

    `exposed` are the keys, or the directory, that others have a right to, with their mode, where that was no reason
    to refuse them.
    """

    directory: Path
    files: Mapping[str, Secret] = field(default_factory=dict, hash=False)
    exposed: Mapping[Path, int] = field(default_factory=dict, hash=False, compare=False)

    def path(self, name: str) -> Path:
        """Return where a file is, or would be."""
        return self.directory / name

    def differing(self, pki: Pki) -> dict[str, str]:
        """Return what of `pki` the directory lacks: the files' names, and `missing` or `outdated`."""
        return {
            name: "outdated" if name in self.files else "missing"
            for name, content in pki.files().items()
            if self.files.get(name) != content
        }


def load(directory: str | os.PathLike[str], *, lenient: bool = False) -> Stored:
    """Return what `directory` holds, as it is. Raises CredentialsError with every file that cannot be used.

    Only files that end in one of `SUFFIXES` are looked at. A key, or the directory, that others have a right to is
    refused (`lenient`: told of in `Stored.exposed`, for who only looks), and so is a symbolic link: it would be
    replaced by a file, and not followed.
    """
    place = Path(directory)
    problems: list[str] = []
    exposed: dict[Path, int] = {}
    try:
        status = place.lstat()
    except FileNotFoundError:
        return Stored(place)
    except OSError as error:
        raise CredentialsError(f"{place}: cannot be read: {_reason(error)}") from error
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
        raise CredentialsError(f"{place}: {kind}: wanted a directory", hint="move it away")
    if status.st_mode & OTHERS:
        exposed[place] = stat.S_IMODE(status.st_mode)
    files = _files(place, problems, exposed)
    if not lenient:
        problems = [*(too_open(path, mode) for path, mode in exposed.items()), *problems]
    if problems:
        raise CredentialsError(
            "\n".join(problems), hint=f"chmod -R go= {place} keeps others out; move away what is no file"
        )
    return Stored(place, files, exposed)


def too_open(path: Path, mode: int) -> str:
    """Return what is wrong with a key, or the directory, that others have a right to."""
    return f"{path}: mode {mode:04o}: wanted {'0600' if path.suffix == '.key' else '0700'}"


def _files(place: Path, problems: list[str], exposed: dict[Path, int]) -> dict[str, Secret]:
    try:
        paths = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES and path.stem[:1] != ".")
    except OSError as error:
        raise CredentialsError(f"{place}: cannot be read: {_reason(error)}") from error
    found = {}
    for path in paths:
        try:
            found[path.name] = read_file(path, follow=False, exposed=exposed)
        except CredentialsError as error:
            problems.append(error.message)
    return found


def read_file(path: Path, *, follow: bool, exposed: dict[Path, int] | None = None) -> Secret:
    """Return the text of a file; a key must be its owner's alone. Raises CredentialsError with one line.

    `follow`: whether it may be a symbolic link, as where somebody else (a secret store) puts the files there.
    `exposed`: where the mode of a key is noted that others have a right to, instead of being raised.
    """
    # O_NONBLOCK: opening a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    if not follow and path.is_symlink():
        raise CredentialsError(f"{path}: a symbolic link: wanted a file")
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CredentialsError(f"{path}: not a file")
            if path.suffix == ".key" and status.st_mode & OTHERS:
                if exposed is None:
                    raise CredentialsError(too_open(path, stat.S_IMODE(status.st_mode)))
                exposed[path] = stat.S_IMODE(status.st_mode)
            with open(descriptor, "rb", closefd=False) as stream:
                data = stream.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise CredentialsError(f"{path}: no such file") from None
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be read: {_reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise CredentialsError(f"{path}: more than {MAX_BYTES} bytes: wanted PEM")
    if not data.isascii():
        raise CredentialsError(f"{path}: not text: wanted PEM")
    return Secret(data.decode("ascii"))


def write(pki: Pki, stored: Stored) -> tuple[str, ...]:
    """Write what `stored.directory` lacks of `pki` and return the names; what is the same is left alone.

    Each file is always the old one or the new one, and no certificate ever stands beside a key that it does not
    fit, whenever the process is killed: before a key is replaced its certificate is removed, and `complete` makes a
    certificate for a key that has none. Raises CredentialsError.
    """
    names = tuple(stored.differing(pki))
    if not names:
        return ()
    contents = pki.files()
    try:
        with locked(stored.directory):
            for name in sorted(names, key=_keys_first):
                path = stored.path(name)
                if path.suffix == ".key":
                    path.with_suffix(".crt").unlink(missing_ok=True)
                replace(path, contents[name].reveal().encode("ascii"), mode=FILE_MODE)
    except BlockingIOError as error:
        raise CredentialsError(
            f"{stored.directory}: another kbpg is writing it", hint="try again when it has ended"
        ) from error
    except OSError as error:
        raise CredentialsError(f"{stored.directory}: cannot be written: {_reason(error)}") from error
    return names


def demand_written(pki: Pki, directory: Path) -> None:
    """Raise CredentialsError where a part of `pki` is nowhere but in memory: it must not reach a host."""
    if pki.fresh:
        raise CredentialsError(
            f"{directory}: {', '.join(sorted(pki.fresh))}: missing, or not what the inventory asks for",
            hint="run kbpg step 00 first",
        )


def _keys_first(name: str) -> tuple[bool, bool]:
    """Return the place in the order of writing: the authority before all others, keys before certificates."""
    return not name.startswith(f"{CA}."), name.endswith(".crt")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
