"""Host keys: known ones pass, unknown ones are asked about, changed ones always stop.

Where the inventory pins a host's fingerprints, those pass, all others stop, and nobody is asked.

The file format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import fnmatch
import hashlib
import hmac
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbpg.errors import HostKeyError
from kbpg.hosts.settings import Ask

_one_at_a_time = threading.Lock()
"""Questions and file writes of connections that run in parallel must not interleave."""


def fingerprint_of(blob: bytes) -> str:
    """Return the fingerprint of a public key in its wire form: `SHA256:…`, spelled as `ssh-keygen -l` does."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


@dataclass(frozen=True)
class HostKey:
    """A public key as a host showed it: its type (`ssh-ed25519`) and its wire form."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Return `SHA256:…`, spelled as `ssh-keygen -l` does."""
        return fingerprint_of(self.blob)

    @property
    def encoded(self) -> str:
        """Return the key in base64, as known_hosts spells it."""
        return base64.b64encode(self.blob).decode()


@dataclass(frozen=True)
class Known:
    """A line of a known_hosts file that speaks of the host in question."""

    path: Path
    line: int
    kind: str
    encoded: str
    revoked: bool = False

    @property
    def fingerprint(self) -> str:
        """Return `SHA256:…`, nothing where the line holds no key."""
        try:
            return fingerprint_of(base64.b64decode(self.encoded, validate=True))
        except (binascii.Error, ValueError):
            return ""


def known_keys(paths: Sequence[Path], name: str, *, host: str = "") -> list[Known]:
    """Return what the files say about the host `name` (`host` or `[host]:port`).

    Files that are missing or not readable say nothing. Raises `HostKeyError`, about `host` (default: `name`),
    for what is no file, such as a directory.
    """
    try:
        return [entry for path in paths for entry in _entries(path, name)]
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise HostKeyError(
            host or name,
            f"its host key cannot be looked up in {exc.filename}: {reason}",
            hint="check `known_hosts` in the inventory and UserKnownHostsFile in ~/.ssh/config",
        ) from exc


def _entries(path: Path, name: str) -> Iterator[Known]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3 or marker == "@cert-authority" or not _speaks_of(fields[0], name):
            continue
        yield Known(path, number, fields[1], fields[2], revoked=marker == "@revoked")


def _speaks_of(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _hash_matches(patterns, name)
    matched = False
    for pattern in patterns.lower().split(","):
        # Brackets are literal in known_hosts, but a character class to fnmatch.
        glob = pattern.lstrip("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name, glob):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _hash_matches(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in hashed.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def verify(
    key: HostKey,
    *,
    host: str,
    where: str,
    name: str,
    paths: Sequence[Path],
    ask: Ask | None,
    accept_new: bool,
    pinned: Sequence[str] = (),
) -> bool:
    """Check the key that `host` showed; return whether a person was asked about it (which takes its time).

    Of `pinned` fingerprints it must have one, and then needs no entry in known_hosts. A new key that is accepted
    otherwise is appended to `paths[0]`. Raises `HostKeyError` for a key that is unknown and not accepted, not pinned,
    changed, or revoked.
    """
    if pinned:
        _check_pinned(key, host, where, pinned, known_keys(paths, name, host=host))
        return False
    if _is_known(key, host, where, known_keys(paths, name, host=host)):
        return False
    with _one_at_a_time:
        # Somebody may have accepted it while this thread waited for its turn.
        if _is_known(key, host, where, known_keys(paths, name, host=host)):
            return False
        if not accept_new:
            _put_to_user(key, host, where, ask)
        _remember(key, host, name, paths[0])
    return not accept_new


def _check_pinned(key: HostKey, host: str, where: str, pinned: Sequence[str], known: Sequence[Known]) -> None:
    if key.fingerprint not in pinned:
        have = [f"the inventory has {fingerprint}" for fingerprint in pinned]
        raise HostKeyError(
            host,
            f"the host key of {where} is none of those that the inventory pins",
            detail=(f"it shows a {key.kind} key with fingerprint {key.fingerprint}", *have),
            hint="on the host's own console, not through SSH: for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen "
            "-lf $f; done; only if it prints what is shown here, correct `ssh.fingerprint` (of a jump host "
            "`ssh.jump_fingerprint`)",
        )
    # An entry of another type contradicts nothing: a host has a key of each.
    _is_known(key, host, where, [entry for entry in known if entry.revoked or entry.kind == key.kind])


def _is_known(key: HostKey, host: str, where: str, known: Sequence[Known]) -> bool:
    for entry in known:
        if entry.revoked and entry.encoded == key.encoded:
            raise HostKeyError(host, f"its host key is revoked in {entry.path}, line {entry.line}")
    valid = [entry for entry in known if not entry.revoked]
    if any(entry.encoded == key.encoded for entry in valid):
        return True
    if valid:
        # Also when only the type differs: the known type was asked for first, so an honest host shows it.
        old = next((entry for entry in valid if entry.kind == key.kind), valid[0])
        raise HostKeyError(
            host,
            f"the host key of {where} has changed",
            detail=(
                f"it shows a {key.kind} key with fingerprint {key.fingerprint}",
                f"{old.path}, line {old.line}, has another {old.kind} key",
            ),
            hint=f"only if the host was reinstalled: remove line {old.line} of {old.path}",
        )
    return False


def _put_to_user(key: HostKey, host: str, where: str, ask: Ask | None) -> None:
    if ask is None:
        raise HostKeyError(
            host,
            f"the host key of {where} is unknown",
            detail=(f"it shows a {key.kind} key with fingerprint {key.fingerprint}",),
            hint="compare the fingerprint, then run again with --accept-new-host-keys",
        )
    question = (
        f"{host} ({where}) shows an unknown {key.kind} key with fingerprint {key.fingerprint}. Trust it?"
    )
    if not ask(question):
        raise HostKeyError(host, f"the host key of {where} was not accepted")


def _remember(key: HostKey, host: str, name: str, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            unfinished = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
            before = "\n" if unfinished else ""
            file.write(f"{before}{name} {key.kind} {key.encoded}\n".encode())
    except OSError as exc:
        raise HostKeyError(host, f"its host key cannot be remembered in {path}: {exc.strerror}") from exc
