"""Connections to hosts that lose power: made again where they were lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from kbpg.connecting import connect_all
from kbpg.errors import HostError, Unreachable
from kbpg.hosts.port import Writer
from kbpg.hosts.settings import Recorder
from kbpg.inventory import Inventory
from kbpg.options import Options

PATIENCE = 3.0
"""Seconds for each stage of a login: a host that is off is asked again soon."""
INTERVAL = 0.5
"""Seconds between two attempts."""

Result = TypeVar("Result")


class Links:
    """A connection to every host, as a context: what was opened here is closed at its end."""

    def __init__(
        self, inventory: Inventory, options: Options, journal: Recorder, hosts: Mapping[str, Writer]
    ) -> None:
        self._inventory, self._journal, self._hosts = inventory, journal, dict(hosts)
        self._options = replace(options, patience=PATIENCE, accept_new_host_keys=False)
        self._locks = {host.name: threading.Lock() for host in inventory.hosts}
        self._stack, self._closing = ExitStack(), threading.Lock()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._closing:
            self._stack.close()

    @property
    def connected(self) -> dict[str, Writer]:
        """Return the hosts that are connected, as far as is known."""
        return dict(self._hosts)

    def ask(self, name: str, question: Callable[[Writer], Result]) -> Result:
        """Return what `question` says of the host; after a `HostError`, which is raised, connect anew next time."""
        host = self._reach(name)
        try:
            return question(host)
        except HostError:
            self.forget(name)
            raise

    def within(self, name: str, seconds: float, question: Callable[[Writer], Result]) -> Result:
        """Ask again until the host answers, `seconds` at most. Raises the last `HostError`."""
        ends = time.monotonic() + seconds
        while True:
            try:
                return self.ask(name, question)
            except HostError:
                if time.monotonic() > ends:
                    raise
            time.sleep(INTERVAL)

    def forget(self, name: str) -> None:
        """Connect anew when the host is asked next."""
        self._hosts.pop(name, None)

    def _reach(self, name: str) -> Writer:
        with self._locks[name]:
            host = self._hosts.get(name)
            if host is None:
                host = self._hosts[name] = self._connected(name)
            return host

    def _connected(self, name: str) -> Writer:
        with ExitStack() as stack:
            hosts, problems = connect_all(self._inventory, self._options, self._journal, None, stack, (name,))
            if name not in hosts:
                raise problems.get(name) or Unreachable(name, "no connection")
            with self._closing:
                self._stack.push(stack.pop_all())
            return hosts[name]
