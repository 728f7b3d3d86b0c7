"""What kbpg needs of a host: the port behind which SSH, and the fake of the tests, stand.

A `Reader` only looks: it answers shell questions (`read`, many in one execution) and opens TCP streams to
the host's services (`dial`). A `Writer` is the only way to change a host: every command is an argument list,
so no value ever reaches a shell unquoted, and what is secret travels by standard input alone.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kbpg.errors import HostError
    from kbpg.trust import Trust

RELEASE_TIMEOUT = 2.0
"""Seconds a released command may take to end, where it has nothing left to do."""
DEFAULT_TIMEOUT = 60.0
"""Seconds a command may take when nobody said otherwise: it never waits for ever."""


@dataclass(frozen=True)
class Output:
    """What a command left behind: exit status, what it printed, and how long it took in seconds."""

    status: int
    stdout: str
    stderr: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Return whether the command ended with exit status 0."""
        return self.status == 0


class Question(Protocol):
    """One read-only question to a host's shell: `key` is unique, `script` is a POSIX sh fragment."""

    @property
    def key(self) -> str: ...

    @property
    def script(self) -> str: ...


@dataclass(frozen=True)
class Joint:
    """Several questions that share their processes on the host, which cost it more than what they print.

    `prepare` is an sh command that does once what all of them need; where it fails, each is asked by its own
    `script`. `shorts` are fragments, one a question and in their order, that set `s` to the status and do not exit.
    They stand in the script as they are, in one subshell: they share its variables and positional parameters, and a
    mistake in the syntax of one spoils the script.
    """

    prepare: str
    shorts: tuple[str, ...]


class Sociable(Question, Protocol):
    """A question that can be asked together with others whose `kind` is the same."""

    @property
    def kind(self) -> str: ...

    @staticmethod
    def together(questions: Sequence[Any]) -> Joint:
        """Return how to ask all of them, two at least."""
        ...


class Reader(Protocol):
    """A host that can be looked at.

    `name` is the inventory's, `address` the one on the cluster network.
    """

    name: str
    address: str
    trust: Trust | None = None
    """How its services prove who they are; None where nobody said."""

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        """Answer all questions as root, in one execution; keys are the questions' keys.

        The composed script travels by standard input, so it may hold a hash key. Raises `HostError`.
        """
        ...

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        """Open a TCP stream, from the host, to `address` (default: its own cluster address) and `port`.

        What returns behaves like a connected socket. Raises `ConnectionRefusedError` or `TimeoutError` when
        nothing answers there, `HostError` when the host itself is lost.
        """
        ...

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        """Listen on a free port of 127.0.0.1 of the controller and pass connections on, as `dial` would."""
        ...

    def note(self, command: Sequence[str], *, status: int | str, seconds: float) -> None:
        """Write into the journal what a service of the host was asked to change through such a stream.

        `command` begins with the service's language (PATCH, SQL) and holds no secret; `status` is its answer, 0 where
        it has none but "done". A host without a journal does nothing.
        """
        return

    def lock_lost(self) -> bool:
        """Return whether this host was locked for kbpg, and is no more although it is still connected.

        Somebody has ended the process that held the lock, and another kbpg may be at work. Where nothing was locked
        nothing is lost.
        """
        return False

    def gone(self) -> HostError | None:
        """Return why this host can be asked nothing more, None where it can.

        A connection that has ended is not made again in the same run: what waits for this host waits for nothing.
        """
        return None


class Holding(Protocol):
    """A process on a host that runs until it is let go; `answer` is what it said first."""

    answer: str

    @property
    def alive(self) -> bool:
        """Return whether it still runs, as far as is known here."""
        ...

    def send(self, data: bytes) -> bool:
        """Write to its standard input, which stays open; return whether that could be done."""
        ...

    def release(self, seconds: float = RELEASE_TIMEOUT) -> str:
        """End its standard input, wait so many seconds at most for its end, and return what it printed since."""
        ...


class Writer(Reader, Protocol):
    """A host that may be changed."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes] = b"",
        timeout: float = DEFAULT_TIMEOUT,
        check: bool = True,
    ) -> Output:
        """Run one command as root, `stdin` (never journalled) on its standard input, until `timeout` seconds.

        Raises `CommandFailed` on a non-zero exit when `check`, `CommandTimeout`, `ConnectionLost`.
        """
        ...

    def stream(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        """Run one command as root and yield what it writes to standard output; raise like `run`."""
        ...

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        """Put `content` at `path` atomically (temporary file beside it, fsync, rename).

        `owner` is numeric, "uid:gid"; the file never exists with a wider mode than `mode`.
        """
        ...

    def hold(
        self, argv: Sequence[str], *, shown: str, marker: str, timeout: float, guarded: bool = False
    ) -> Holding:
        """Start a command as root that runs until its standard input ends, as it does with this connection.

        Waits `timeout` seconds at most for the line that begins with `marker`; `shown` is what errors call it.
        What is `guarded` keeps others from taking the lock while it runs. Raises `HostError`.
        """
        ...
