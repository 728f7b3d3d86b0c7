"""Staying connected for as long as somebody watches: a host that dies and comes back is connected again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from kbpg.errors import ConnectionLost, HostError
from kbpg.hosts.port import Reader


class Connected(Reader, Protocol):
    """A host with a connection that can break."""

    @property
    def alive(self) -> bool:
        """Return whether the connection is up, as far as is known here."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


Connect = Callable[[str], Connected]
"""Connects to the host of that name; raises `HostError`."""


class Staying:
    """The hosts of a watch. Lost ones are tried again in the background, so that none holds up the others."""

    def __init__(
        self, hosts: Mapping[str, Connected], lost: Mapping[str, HostError], connect: Connect
    ) -> None:
        self._hosts, self._lost, self._connect = dict(hosts), dict(lost), connect
        self._trying: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def now(self) -> tuple[dict[str, Connected], dict[str, HostError]]:
        """Return the connected hosts and why the others are not, and begin to connect to those again."""
        with self._lock:
            for name in [name for name, host in self._hosts.items() if not host.alive]:
                self._hosts.pop(name).close()
                self._lost[name] = ConnectionLost(name, "the SSH connection was lost")
            idle = [] if self._closed else [name for name in self._lost if name not in self._trying]
            self._trying.update(idle)
            found = dict(self._hosts), dict(self._lost)
        for name in idle:
            threading.Thread(target=self._again, args=(name,), name=f"connect-{name}", daemon=True).start()
        return found

    def close(self) -> None:
        """End all connections, also those that are being made."""
        with self._lock:
            self._closed = True
            hosts = list(self._hosts.values())
        for host in hosts:
            host.close()

    def _again(self, name: str) -> None:
        host: Connected | None = None
        error: HostError | None = None
        try:
            host = self._connect(name)
        except HostError as problem:
            error = problem
        finally:
            with self._lock:
                self._trying.discard(name)
                if host and not self._closed:
                    self._hosts[name] = host
                    del self._lost[name]
                    host = None
                elif error:
                    self._lost[name] = error
        if host:
            host.close()
