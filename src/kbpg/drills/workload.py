"""The clients of a drill, all together: how many come which way, and whether they go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from kbpg.context import Context
from kbpg.drills.attempt import Access, Attempt
from kbpg.drills.client import Client, Connect
from kbpg.errors import NotConverged
from kbpg.prediction import TCP_USER_TIMEOUT
from kbpg.uri import verified

DATABASE = "kbpg_drill"
"""A drill's own database; PgBouncer serves it as it serves every database of the cluster."""
CONNECT_TIMEOUT = 2
"""Seconds; libpq's least. The next attempt goes to the other address."""
LEAVING = 5.0
"""Seconds for the attempts under way to end, before the connections are cut."""
INTERVAL = 0.05
"""Seconds between two looks at whether clients go on."""


@dataclass(frozen=True)
class Crowd:
    """How many clients come which way, and the seconds each waits between two attempts."""

    pooled: int = 12
    direct: int = 4
    reads: int = 4
    pause: float = 0.01

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        pause = round(self.pause * 1000, 3)
        return {
            "pooled": self.pooled,
            "direct": self.direct,
            "reads": self.reads,
            "row_pause_ms": pause,
        }


class Workload:
    """Clients that work from `start` to `stop`."""

    def __init__(self, context: Context, crowd: Crowd, clock: Callable[[], float]) -> None:
        self._clock = clock
        ports = context.inventory.ports
        ways = (
            (Access.POOLED, crowd.pooled, ports.pgbouncer),
            (Access.DIRECT, crowd.direct, ports.primary),
            (Access.READS, crowd.reads, ports.replicas),
        )
        self.clients: list[Client] = []
        for access, count, port in ways:
            for index in range(count):
                connect = partial(through_proxies, context, port, index)
                self._add(access, connect, crowd.pause, pairs=index % 3 == 2)

    def start(self) -> None:
        """Let every client begin."""
        for client in self.clients:
            client.start()

    def join(self, access: Access, connect: Connect, pause: float) -> None:
        """Let one more client begin now."""
        self._add(access, connect, pause).start()

    def _add(self, access: Access, connect: Connect, pause: float, *, pairs: bool = False) -> Client:
        number = len(self.clients) + 1
        client = Client(number, access, connect, self._clock, pause=pause, pairs=pairs)
        self.clients.append(client)
        return client

    def go_on(self, since: float, deadline: float) -> None:
        """Wait until every client but those inside has succeeded after `since`, in the drill's seconds.

        Raises `NotConverged` when `deadline` (seconds of the same clock) passes before.
        """
        while stuck := [
            c.name for c in self.clients if c.access is not Access.INSIDE and c.last_success <= since
        ]:
            if self._clock() > deadline:
                shown = ", ".join(stuck[:3]) + (f" and {len(stuck) - 3} more" if len(stuck) > 3 else "")
                raise NotConverged(f"clients do not go on: {shown}", hint="kbpg diagnose")
            time.sleep(INTERVAL)

    def stop(self) -> None:
        """Let every client end; those that still wait for an answer are cut off."""
        started = [client for client in self.clients if client.ident is not None]
        for client in started:
            client.leave()
        ends = time.monotonic() + LEAVING
        for client in started:
            client.join(max(0.0, ends - time.monotonic()))
        for client in started:
            if client.is_alive():
                client.cut()
                client.join(LEAVING)

    def attempts(self, *accesses: Access) -> list[Attempt]:
        """Return what the clients of these ways, or all, have tried so far."""
        return [each for client in self.of(*accesses) for each in list(client.attempts)]

    def of(self, *accesses: Access) -> Iterable[Client]:
        """Return the clients of these ways, or all."""
        return [client for client in self.clients if not accesses or client.access in accesses]


def through_proxies(context: Context, port: int, first: int, failed: int) -> psycopg.Connection[Any]:
    """Connect as an application does: to one proxy, and after `failed` attempts to the next.

    Raises `OSError` or `psycopg.Error`.
    """
    proxies = context.inventory.proxies
    address = proxies[(first + failed) % len(proxies)].address
    return application(context, str(address), port)


def application(context: Context, address: str, port: int) -> psycopg.Connection[Any]:
    """Connect to the drill's database as the application's user, with the options of `kbpg uri`."""
    credentials = context.credentials
    encryption: dict[str, Any] = dict(verified(context.inventory))
    return psycopg.connect(
        host=address,
        port=port,
        dbname=DATABASE,
        user=credentials.app_user,
        password=credentials.app_password.reveal(),
        connect_timeout=CONNECT_TIMEOUT,
        tcp_user_timeout=TCP_USER_TIMEOUT,
        application_name="kbpg drill",
        gssencmode="disable",
        **encryption,
        autocommit=True,
        prepare_threshold=None,
    )
