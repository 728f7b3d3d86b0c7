"""What a connection needs to be told: the inventory's SSH settings, and where commands are recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

Ask = Callable[[str], bool]
"""Puts a yes/no question to the user; the argument is the whole question."""


class SshSettings(Protocol):
    """How the inventory wants one host reached; what is None is left to `~/.ssh/config`, then to a default."""

    @property
    def host(self) -> str | None: ...

    @property
    def port(self) -> int | None: ...

    @property
    def user(self) -> str | None: ...

    @property
    def key(self) -> Path | None: ...

    @property
    def jump(self) -> str | None:
        """Return the jump host as `[user@]host[:port]`."""
        ...

    @property
    def known_hosts(self) -> Path | None: ...

    @property
    def connect_timeout(self) -> float:
        """Return the seconds a host may take for each stage of the login."""
        ...

    @property
    def sudo(self) -> bool: ...

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Return the only host keys that the host may show, as `SHA256:…`; none: known_hosts says which."""
        ...

    @property
    def jump_fingerprints(self) -> tuple[str, ...]:
        """Return the same of its jump host, of several: of each of them."""
        ...


class Guard(Protocol):
    """A lock that is held on a host, as its commands need to know it."""

    @property
    def path(self) -> str:
        """Return the lock file that commands keep locked, shared, while they run."""
        ...

    @property
    def alive(self) -> bool:
        """Return whether the lock is still held."""
        ...


class Recorder(Protocol):
    """Where every command run on a host is written down (the journal)."""

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
        """Write down one command: exit status (or why there is none), seconds, bytes to and from it."""
        ...

    def mask(self, text: str) -> str:
        """Return `text` with every known secret masked."""
        ...


class Silence:
    """A recorder that records nothing and knows no secret."""

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
        """Do nothing."""

    def mask(self, text: str) -> str:
        """Return `text` as it is."""
        return text
