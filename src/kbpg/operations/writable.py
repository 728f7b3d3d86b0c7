"""Whether a node takes writes, seen through each proxy: a write that is there to stay, and no table for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.hosts.port import Reader

INTERVAL = 0.1
"""Seconds between two tries."""
TRIES = 8
"""Tries through one proxy at a time."""
WRITE_TIMEOUT = 3.0
"""Seconds for one try, the commit's wait for a replica included."""

# A message in the WAL is a write like any other: the commit waits for the synchronous standbys, and a replica
# refuses it. Nothing reads it: there is no logical decoding here.
_WRITE = "select host(inet_server_addr()), pg_logical_emit_message(true, 'kbpg', 'written through a proxy')"


@dataclass
class Search:
    """A wait for `leader` to take writes through each of some proxies.

    `reached` is called with each proxy once it does, in a thread. `stop` ends the wait early.
    """

    site: Site
    leader: str
    reached: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    seen: dict[str, str] = field(default_factory=dict)
    """Why the last try through each proxy failed."""

    def run(self, proxies: Sequence[str], ends: float) -> list[str]:
        """Return the proxies through which it does not take writes at `ends` (monotonic)."""
        found = {name: threading.Event() for name in proxies}
        threads = [_thread(self._look, name, event, ends) for name, event in found.items()]
        for thread in threads:
            thread.join()
        return [name for name, event in found.items() if not event.is_set()]

    def missed(self, name: str) -> str:
        """Return that no write came through this proxy, and what was seen instead."""
        return f"no write reached {self.leader} through it: {self.seen.get(name, 'no try came to an end')}"

    def _look(self, name: str, found: threading.Event, ends: float) -> None:
        """Begin a try every `INTERVAL`, whatever became of the others: HAProxy may hold one for seconds."""
        tries: list[threading.Thread] = []
        while not (found.is_set() or self.stop.is_set()) and time.monotonic() < ends:
            tries = [thread for thread in tries if thread.is_alive()]
            if len(tries) < TRIES:
                tries.append(_thread(self._try, name, found))
            found.wait(INTERVAL)

    def _try(self, name: str, found: threading.Event) -> None:
        wanted = str(self.site.context.inventory.host(self.leader).address)
        try:
            with written(self.site.context, self.site.hosts[name]) as where:
                if where == wanted and not self.stop.is_set():
                    self.reached(name)
                    found.set()
                self.seen[name] = f"writes still go to {where}"
        except HostError as error:
            self.seen[name] = error.reason


def _thread(work: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


@contextmanager
def written(context: Context, proxy: Reader) -> Iterator[str]:
    """Write through HAProxy on `proxy` and yield the address of who took it. Raises `HostError`.

    The connection is closed at the end of the context, because that takes longer than the write.
    """
    import psycopg

    from kbpg import sql

    user, port = context.credentials.superuser, context.inventory.ports.primary
    login = context.login(user, "superuser_password", "postgres", port)
    try:
        with sql.connect(proxy, login, seconds=WRITE_TIMEOUT) as connection:
            yield str(sql.ask(connection, _WRITE)[0][0])
    except (OSError, psycopg.Error) as error:
        raise HostError(proxy.name, sql.short(error)) from error


def first_to_lead(site: Site, names: Sequence[str], ends: float, stop: threading.Event) -> str | None:
    """Return the first of these replicas whose PostgreSQL leaves recovery; None where none does until `ends`.

    `ends` is monotonic; `stop` ends the wait early. Every look is a connection of its own: one that is there
    already may not notice for seconds that its server stands still.
    """
    found: list[str] = []
    over = threading.Event()

    def watch(name: str) -> None:
        while not (over.is_set() or stop.is_set()) and time.monotonic() < ends:
            if _leads(site, name):
                found.append(name)
                over.set()
            over.wait(INTERVAL)

    for name in names:
        _thread(watch, name)
    while not (over.is_set() or stop.is_set()) and time.monotonic() < ends:
        over.wait(INTERVAL)
    over.set()
    return found[0] if found else None


def _leads(site: Site, name: str) -> bool:
    import psycopg

    from kbpg import sql

    try:
        with sql.connect(site.hosts[name], site.context.superuser(), seconds=WRITE_TIMEOUT) as connection:
            return not sql.ask(connection, "select pg_is_in_recovery()")[0][0]
    except (OSError, psycopg.Error, HostError):
        return False
