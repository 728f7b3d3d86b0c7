"""Where a fix works: the hosts it may change, what is known of them, and a record of what it ran."""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kbpg.errors import HostError
from kbpg.facts import Fact, Facts
from kbpg.hosts.port import DEFAULT_TIMEOUT, Holding, Output, Question, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kbpg.context import Context


INTERVAL = 0.25
"""Seconds between two looks of a wait."""


class Recorded(Writer):
    """A writer that remembers the commands it ran, for the message when they did not help."""

    def __init__(self, host: Writer) -> None:
        self._host = host
        self.name = host.name
        self.address, self.trust = host.address, host.trust
        self.ran: list[str] = []

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        """Answer questions, as the host does."""
        return self._host.read(questions, timeout=timeout)

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        """Open a stream, as the host does."""
        return self._host.dial(port, address=address, timeout=timeout)

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        """Forward a port, as the host does."""
        return self._host.forward(port, address=address)

    def note(self, command: Sequence[str], *, status: int | str, seconds: float) -> None:
        """Write into the journal, as the host does."""
        self._host.note(command, status=status, seconds=seconds)

    def lock_lost(self) -> bool:
        """Return whether the host's lock is gone, as the host does."""
        return self._host.lock_lost()

    def gone(self) -> HostError | None:
        """Return why the host can be asked nothing more, as the host does."""
        return self._host.gone()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterator[bytes] = b"",
        timeout: float = DEFAULT_TIMEOUT,
        check: bool = True,
    ) -> Output:
        """Run a command and remember it with its exit code."""
        self.ran.append(f"`{shlex.join(argv)}`")
        output = self._host.run(argv, stdin=stdin, timeout=timeout, check=check)
        self.ran[-1] += f", exit {output.status}"
        return output

    def stream(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[bytes]:
        """Stream a command's output and remember the command."""
        self.ran.append(f"`{shlex.join(argv)}`")
        return self._host.stream(argv, timeout=timeout)

    def write(self, path: str, content: bytes, *, owner: str, mode: int) -> None:
        """Write a file and remember its path."""
        self.ran.append(f"write {path}")
        self._host.write(path, content, owner=owner, mode=mode)

    def hold(
        self, argv: Sequence[str], *, shown: str, marker: str, timeout: float, guarded: bool = False
    ) -> Holding:
        """Start what is held, and remember what it is called."""
        self.ran.append(f"`{shown}`")
        return self._host.hold(argv, shown=shown, marker=marker, timeout=timeout, guarded=guarded)


Refresh = Callable[[Mapping[str, Sequence[Fact[object]]]], None]


@dataclass
class Site:
    """What `Resource.fix` gets.

    `place` is a host's name, CLUSTER or CONTROLLER; `hosts` are all connected hosts by name; `controller`
    is where kbpg runs.
    """

    place: str
    hosts: Mapping[str, Writer]
    controller: Writer
    context: Context
    facts: Facts
    refresh: Refresh
    say: Callable[[str], None]

    @property
    def host(self) -> Writer:
        """Return the host that this place is."""
        return self.hosts[self.place]

    def look(self, wanted: Mapping[str, Sequence[Fact[object]]]) -> Facts:
        """Ask the facts of each host again, all side by side, and return the view with the new answers."""
        self.refresh(wanted)
        return self.facts

    def looks(
        self,
        seconds: float = 0.0,
        *,
        each: Collection[str] = (),
        some: Collection[str] = (),
        over: Callable[[], bool] | None = None,
    ) -> Iterator[None]:
        """Yield for each look of a wait of so many seconds: at once, then every `INTERVAL`, last after the deadline.

        `over` says instead when it ends, where that is decided on the way.

        The wait needs `each` of these hosts, and one of `some`: raises the `HostError` of one that it needs and whose
        connection has ended, after a look in vain. Hosts that were not connected to begin with do not count.
        """
        ends = time.monotonic() + seconds
        while True:
            yield
            self.require_connected(each)
            ended = [self.hosts[name].gone() for name in some if name in self.hosts]
            if all(ended):
                self.require_connected(some)
            if over() if over else time.monotonic() >= ends:
                return
            time.sleep(INTERVAL)

    def require_connected(self, names: Iterable[str]) -> None:
        """Raise the `HostError` of the first of these hosts whose connection has ended."""
        for name in names:
            if name in self.hosts and (reason := self.hosts[name].gone()):
                raise reason

    def at(self, place: str) -> Site:
        """Return the same site seen from another place."""
        return Site(
            place, self.hosts, self.controller, self.context, self.facts.at(place), self.refresh, self.say
        )
