"""Clients that write numbered rows through 6432 of both proxies, and what they saw.

Each client writes one row a transaction and knows which of its rows were acknowledged. On an error it notes it,
connects again and goes on. `Load.stop` compares what was acknowledged with what is there.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from tests.lab.conftest import PROXIES, Lab

CLIENTS = 20
TABLE = "numbered_rows"
BREAK = 0.005
"""Seconds between two rows of a client: twenty that write as fast as they can would measure the two cores."""
RECONNECT = 0.1
"""Seconds between two attempts to connect."""


@dataclass
class Client:
    """What one client did: rows acknowledged, errors as (monotonic, text), and the longest wait in seconds."""

    number: int
    proxy: str
    acknowledged: int = 0
    errors: list[tuple[float, str]] = field(default_factory=list)
    longest: float = 0.0
    longest_at: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def acknowledge(self) -> None:
        now = time.monotonic()
        if now - self.last > self.longest:
            self.longest, self.longest_at = now - self.last, self.last
        self.last = now
        self.acknowledged += 1


@dataclass(frozen=True)
class Seen:
    """What all clients saw; `lost` are rows that were acknowledged and are not there. Seconds."""

    rows: int
    errors: tuple[str, ...]
    longest: dict[str, float]
    lost: int

    @property
    def worst(self) -> float:
        return max(self.longest.values())

    def __str__(self) -> str:
        waits = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.longest.items())
        return f"{self.rows} rows, {len(self.errors)} errors, {self.lost} lost, longest wait: {waits}"


class Load:
    """Twenty clients that write until `stop`."""

    def __init__(self, lab: Lab, clients: int = CLIENTS, proxies: Sequence[str] = PROXIES) -> None:
        self._lab, self._ends = lab, threading.Event()
        with lab.connect(proxies[0], 6432) as connection:
            connection.execute(f"drop table if exists {TABLE}")
            connection.execute(f"create table {TABLE} (client int, n int, primary key (client, n))")
        self.clients = [Client(number, proxies[number % len(proxies)]) for number in range(clients)]
        self._threads = [threading.Thread(target=self._write, args=(c,), daemon=True) for c in self.clients]
        for thread in self._threads:
            thread.start()
        self.go_on_for(0)

    def go_on_for(self, seconds: float, *, deadline: float = 60.0) -> None:
        """Return when every client has had a row acknowledged after so many seconds from now."""
        since = time.monotonic() + seconds
        while not all(client.last > since for client in self.clients):
            assert time.monotonic() < since + deadline, "clients do not go on"
            time.sleep(0.05)

    def reset(self) -> None:
        """Forget the waits and errors so far."""
        for client in self.clients:
            client.longest, client.errors = 0.0, []

    def seen(self) -> Seen:
        """Return what was seen until now; nothing is compared with the table."""
        return self._seen(lost=0)

    def stop(self) -> Seen:
        self._ends.set()
        for thread in self._threads:
            thread.join(timeout=90)
        there = dict(self._counts())
        lost = sum(max(0, c.acknowledged - there.get(c.number, 0)) for c in self.clients)
        return self._seen(lost)

    def _seen(self, lost: int) -> Seen:
        longest = {
            name: max(c.longest for c in self.clients if c.proxy == name)
            for name in dict.fromkeys(c.proxy for c in self.clients)
        }
        errors = tuple(
            f"{c.proxy} client {c.number} at {at:.2f}: {text}" for c in self.clients for at, text in c.errors
        )
        return Seen(sum(c.acknowledged for c in self.clients), errors, longest, lost)

    def _counts(self) -> list[tuple[int, int]]:
        with self._lab.connect(PROXIES[0], 6432) as connection:
            return connection.execute(f"select client, count(*) from {TABLE} group by 1").fetchall()  # noqa: S608

    def _write(self, client: Client) -> None:
        n = 0
        while not self._ends.is_set():
            try:
                with self._lab.connect(client.proxy, 6432) as connection:
                    while not self._ends.is_set():
                        n += 1
                        connection.execute(f"insert into {TABLE} values (%s, %s)", (client.number, n))  # noqa: S608
                        client.acknowledge()
                        time.sleep(BREAK)
            except (OSError, psycopg.Error) as error:
                client.errors.append((time.monotonic(), str(error).strip().splitlines()[0]))
                self._ends.wait(RECONNECT)


@contextmanager
def writing(lab: Lab, clients: int = CLIENTS) -> Iterator[Load]:
    """Twenty clients that write meanwhile; they end with the context."""
    load = Load(lab, clients)
    try:
        yield load
    finally:
        load._ends.set()


def main() -> None:
    """Write through both proxies of a lab for some seconds, and print what was seen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("lab", type=Path, help="the lab's directory")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    load = Load(Lab(given.lab, given.lab / "inventory.yaml"))
    time.sleep(given.seconds)
    seen = load.stop()
    print(seen)
    for error in seen.errors[:20]:
        print(f"  {error}")


if __name__ == "__main__":
    main()
