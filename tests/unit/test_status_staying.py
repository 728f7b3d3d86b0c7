"""A watch stays connected: hosts that are lost are tried again, one that hangs holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kbpg.errors import HostError, Unreachable
from kbpg.hosts.local import LocalHost
from kbpg.status.staying import Connected, Staying

DEADLINE = 5.0


class Host(LocalHost):
    alive = True

    def close(self) -> None:
        self.alive = False


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends, f"not within {DEADLINE:g} s"
        time.sleep(0.01)


def never(name: str) -> Connected:
    raise AssertionError(f"{name} was tried again")


def test_connected_hosts_are_left_alone() -> None:
    hosts = {"a": Host("a"), "b": Host("b")}
    staying = Staying(hosts, {}, never)
    for _ in range(3):
        assert staying.now() == (hosts, {})
    staying.close()
    assert not hosts["a"].alive
    assert not hosts["b"].alive


def test_a_lost_host_comes_back() -> None:
    first, second = Host("a"), Host("a")
    staying = Staying({"a": first}, {}, lambda _: second)
    first.alive = False
    found, lost = staying.now()
    assert found == {}
    assert "connection was lost" in lost["a"].reason
    until(lambda: staying.now() == ({"a": second}, {}))


def test_a_host_that_stays_away_is_tried_again_and_again_and_says_why() -> None:
    tried: list[str] = []

    def connect(name: str) -> Connected:
        tried.append(name)
        raise Unreachable(name, f"attempt {len(tried)}")

    staying = Staying({}, {"a": Unreachable("a", "attempt 0")}, connect)
    until(lambda: "attempt 3" in staying.now()[1]["a"].reason)
    assert set(tried) == {"a"}


def test_one_attempt_at_a_time_and_nobody_waits_for_it() -> None:
    release, tried = threading.Event(), threading.Semaphore(0)

    def connect(name: str) -> Connected:
        tried.release()
        assert release.wait(DEADLINE)
        return Host(name)

    staying = Staying({}, {"a": Unreachable("a", "off")}, connect)
    started = time.monotonic()
    for _ in range(3):
        assert set(staying.now()[1]) == {"a"}
    assert time.monotonic() - started < 1
    assert tried.acquire(timeout=DEADLINE)
    assert not tried.acquire(blocking=False)
    release.set()
    until(lambda: set(staying.now()[0]) == {"a"})


def test_a_host_that_is_connected_too_late_is_closed() -> None:
    release, late = threading.Event(), Host("a")

    def connect(name: str) -> Connected:
        assert release.wait(DEADLINE)
        return late

    lost: dict[str, HostError] = {"a": Unreachable("a", "off")}
    staying = Staying({}, lost, connect)
    staying.now()
    staying.close()
    release.set()
    until(lambda: not late.alive)
