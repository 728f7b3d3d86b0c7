"""Which db hosts serve while something else goes on: Patroni's REST API, asked all the time."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PATRONI = 8008
INTERVAL = 0.2
"""Seconds between two looks at one host."""
TIMEOUT = 2.0
"""Seconds for one look: a host that takes longer is busy, and nothing is known of it then."""


@dataclass(frozen=True)
class Absence:
    """A time during which a host did not serve: from before the first bad look to after the next good one."""

    host: str
    began: float
    ended: float

    def overlaps(self, other: Absence) -> bool:
        return self.host != other.host and self.began < other.ended and other.began < self.ended

    def __str__(self) -> str:
        return f"{self.host} for {self.ended - self.began:.1f} s from {self.began:.1f}"


def serves(address: str) -> bool | None:
    """Return whether PostgreSQL runs under Patroni at this address; None where nobody answers, in time or at all."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # who it is does not matter here
    try:
        return _healthy(http.client.HTTPSConnection(address, PATRONI, timeout=TIMEOUT, context=anybody))
    except ssl.SSLError:
        return _healthy(http.client.HTTPConnection(address, PATRONI, timeout=TIMEOUT))


def _healthy(connection: http.client.HTTPConnection) -> bool | None:
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except ssl.SSLError:
        raise  # it does not speak TLS
    except (ConnectionError, http.client.HTTPException):
        return False
    except OSError:
        return None
    finally:
        connection.close()


class Watch:
    """Looks at all hosts at once until it is told to end.

    A host may be at one of several addresses: it is looked for where it was last, and then at the others.
    """

    def __init__(self, hosts: Mapping[str, Sequence[str]]) -> None:
        self._hosts = hosts
        self._ends = threading.Event()
        self.looks: dict[str, list[tuple[float, bool]]] = {host: [] for host in hosts}
        self._threads = [threading.Thread(target=self._look, args=(h,), daemon=True) for h in hosts]
        for thread in self._threads:
            thread.start()

    def _look(self, host: str) -> None:
        addresses, looks = list(self._hosts[host]), self.looks[host]
        while not self._ends.is_set():
            before, answers = time.monotonic(), list[bool | None]()
            for address in list(addresses):
                answers.append(serves(address))
                if answers[-1]:
                    addresses.sort(key=address.__ne__)
                    looks.append((time.monotonic(), True))
                    break
            else:
                if False in answers:
                    looks.append((before, False))
            self._ends.wait(INTERVAL)

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(timeout=3 * TIMEOUT)

    @property
    def absences(self) -> list[Absence]:
        """Return them in the order in which they began."""
        found = []
        for host, looks in self.looks.items():
            began: float | None = None
            for at, served in looks:
                if not served and began is None:
                    began = at
                elif served and began is not None:
                    found.append(Absence(host, began, at))
                    began = None
            if began is not None:
                found.append(Absence(host, began, looks[-1][0]))
        return sorted(found, key=lambda each: each.began)

    def assert_one_at_a_time(self) -> None:
        """Never more than one host was away, and every host was looked at."""
        assert all(len(looks) > 5 for looks in self.looks.values()), self.looks
        away = self.absences
        both = [f"{a} and {b}" for n, a in enumerate(away) for b in away[n + 1 :] if a.overlaps(b)]
        assert not both, both


@contextmanager
def watching(hosts: Mapping[str, Sequence[str]]) -> Iterator[Watch]:
    """Look meanwhile; what was seen is there afterwards."""
    watch = Watch(hosts)
    try:
        yield watch
    finally:
        watch.end()
