"""A host for tests: what it holds is in dictionaries, and what it does not know raises.

It ships with kbpg so that it stays what the port asks for; the contract tests run against it and against a
real host alike.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from kbpg.errors import CommandFailed, HostError
from kbpg.hosts.forward import Forward
from kbpg.hosts.port import DEFAULT_TIMEOUT, RELEASE_TIMEOUT, Output, Question, Writer
from kbpg.hosts.settings import Guard

Program = Callable[["FakeHost", Sequence[str], bytes], Output]
"""What stands for a program: gets the host, its arguments without its name, and its whole standard input."""

Answer = Callable[["FakeHost", Any], Output]
"""Answers the questions of one type from what the host holds."""


@dataclass
class FakeFile:
    """A regular file: owner is "uid:gid"."""

    content: bytes
    owner: str = "0:0"
    mode: int = 0o644


@dataclass
class FakeDirectory:
    """A directory: owner is "uid:gid"."""

    owner: str = "0:0"
    mode: int = 0o755


@dataclass
class FakeHolding:
    """What `FakeHost.hold` returns."""

    answer: str
    alive: bool = True
    sent: bytes = b""
    last: str = ""
    """What it prints before it ends."""

    def send(self, data: bytes) -> bool:
        """Remember what was written."""
        self.sent += data
        return self.alive

    def release(self, seconds: float = RELEASE_TIMEOUT) -> str:
        """Let go."""
        alive, self.alive = self.alive, False
        return self.last if alive else ""


class UnknownToFake(LookupError):
    """The fake was asked something nobody taught it: teach it, or the test does not test what it says."""


def _programs() -> dict[str, Program]:
    from kbpg.hosts.fake_programs import PROGRAMS

    return dict(PROGRAMS)


@dataclass
class FakeHost(Writer):
    """A host made of dictionaries.

    `programs` are the commands it can run, by name, `answers` the questions it can answer, by their type.
    `services` says where in this machine the host's ports are: (address, port) as dialled, to (address, port) of
    a real listener. `journal` has every command that was run, as lists of words.
    """

    name: str = "fake"
    address: str = "127.0.0.1"
    files: dict[str, FakeFile] = field(default_factory=dict)
    directories: dict[str, FakeDirectory] = field(
        default_factory=lambda: {path: FakeDirectory() for path in ("/", "/etc", "/opt", "/run")}
    )
    containers: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=_programs)
    answers: dict[type, Answer] = field(default_factory=dict)
    services: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    journal: list[list[str]] = field(default_factory=list)
    guard: Guard | None = None
    held: FakeHolding | None = None
    watches: list[FakeHolding] = field(default_factory=list)
    ended: HostError | None = None

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        """Answer each question by its type. Raises `UnknownToFake`, and `ValueError` for one key twice."""
        answered: dict[str, Output] = {}
        for question in questions:
            if question.key in answered:
                raise ValueError(f"one key for several questions: {question.key}")
            answer = next((self.answers[kind] for kind in type(question).mro() if kind in self.answers), None)
            if answer is None:
                raise UnknownToFake(f"{self.name} cannot answer a {type(question).__name__}: {question.key}")
            answered[question.key] = answer(self, question)
        return answered

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        """Connect to the listener that stands for the port. Raises `ConnectionRefusedError` without one."""
        place = self.services.get((address or self.address, port))
        if place is None:
            raise ConnectionRefusedError(f"{self.name}: nothing answers on {address or self.address}:{port}")
        return socket.create_connection(place, timeout=timeout)

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        """Listen on a free port of 127.0.0.1 and pass connections on, as `dial` would."""

        def dial() -> socket.socket:
            stream = self.dial(port, address=address)
            stream.settimeout(None)
            return stream

        return Forward(dial)

    def lock_lost(self) -> bool:
        """Return whether the guard is gone."""
        guard = self.guard
        return guard is not None and not guard.alive

    def gone(self) -> HostError | None:
        """Return `ended`."""
        return self.ended

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes] = b"",
        timeout: float = DEFAULT_TIMEOUT,
        check: bool = True,
    ) -> Output:
        """Run a program it knows. Raises `UnknownToFake`, and `CommandFailed` when `check`."""
        output = self._execute(argv, stdin)
        if check and not output.ok:
            said = output.stderr or output.stdout
            raise CommandFailed(self.name, shlex.join(argv), output.status, said)
        return output

    def stream(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        """Run a program it knows and yield its output; raises as `run` does, at the end."""
        output = self._execute(argv, b"")
        if output.stdout:
            yield output.stdout.encode()
        if not output.ok:
            raise CommandFailed(self.name, shlex.join(argv), output.status, output.stderr)

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        """Put `content` at `path`. Raises `CommandFailed` where there is no directory for it."""
        shown = ["write", path, owner, f"{mode:04o}"]
        self.journal.append(shown)
        if parent(path) not in self.directories or path in self.directories:
            raise CommandFailed(self.name, shlex.join(shown), 1, f"{path}: no such directory, or it is one")
        self.files[path] = FakeFile(content, owner, mode)

    def hold(
        self, argv: Sequence[str], *, shown: str, marker: str, timeout: float, guarded: bool = False
    ) -> FakeHolding:
        """Hold the one lock the host has; the answer is "ok", or "held" while another holding lives.

        What is `guarded` is no lock: it is kept in `watches`.
        """
        if guarded:
            self.watches.append(FakeHolding(""))
            return self.watches[-1]
        if self.held is not None and self.held.alive:
            return FakeHolding("held")
        self.held = FakeHolding("ok")
        return self.held

    def _execute(self, argv: Sequence[str], stdin: bytes | Iterator[bytes]) -> Output:
        self.journal.append(list(argv))
        program = self.programs.get(argv[0])
        if program is None:
            raise UnknownToFake(f"{self.name} cannot run {shlex.join(argv)}")
        return program(self, argv[1:], stdin if isinstance(stdin, bytes) else b"".join(stdin))


def parent(path: str) -> str:
    """Return the directory `path` is in."""
    return str(PurePosixPath(path).parent)
