"""Clients go on, on every way out of a pause: what the consoles and the guards were told, in which order.

The consoles are stand-ins here; tests/lab/test_switchover.py pauses real ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import psycopg
import pytest

from kbpg import sql
from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError, NotConverged
from kbpg.hosts.fake import FakeHost
from kbpg.operations import clients_wait as moments
from kbpg.operations import waiting_clients
from kbpg.operations.clients_wait import Manner, clients_wait
from kbpg.operations.pause_guard import FAILED, RESUMED
from kbpg.operations.waiting_clients import WaitingClients, serving
from kbpg.resources.docker import PROXY_CONTAINERS

from .small_cluster import PROXIES, site

RUNNING = {"pgbouncer": {"State": {"Status": "running"}}}
STOPPED = {"pgbouncer": {"State": {"Status": "exited"}}}


@dataclass
class Consoles:
    """What was said on the consoles, by proxy; `busy` proxies never end PAUSE, `broken` say no to a command."""

    said: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in PROXIES})
    busy: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    broken: dict[tuple[str, str], str] = field(default_factory=dict)

    @contextmanager
    def connect(self, host: FakeHost, *_: object, **__: object) -> Iterator[Console]:
        if host.name in self.deaf:
            raise psycopg.OperationalError("connection refused")
        yield Console(self, host.name)


@dataclass
class Console:
    """One connection."""

    all: Consoles
    proxy: str

    def execute(self, command: bytes) -> None:
        text = command.decode()
        self.all.said[self.proxy].append(text)
        if why := self.all.broken.get((self.proxy, text)):
            raise psycopg.OperationalError(why)
        if text == "PAUSE" and self.proxy in self.all.busy:
            threading.Event().wait(5)


@pytest.fixture
def consoles(monkeypatch: pytest.MonkeyPatch) -> Consoles:
    found = Consoles()

    @contextmanager
    def uncut(*_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(sql, "connect", found.connect)
    monkeypatch.setattr(sql, "cut_after", uncut)
    monkeypatch.setattr(waiting_clients, "PATIENCE", 0.2)
    monkeypatch.setattr(moments, "await_quiet", lambda *_: None)
    return found


def there(said: list[str] | None = None, **containers: object) -> Site:
    shown = {name: {PROXY_CONTAINERS.key: containers.get(name[-1:], RUNNING)} for name in PROXIES}
    return site("cluster", {name: FakeHost(name) for name in PROXIES}, shown, said=said)


def told(world: Site, proxy: str) -> bytes:
    """Return what the guard on a proxy was told, without signs of life."""
    host = world.hosts[proxy]
    assert isinstance(host, FakeHost)
    assert all(not watch.alive for watch in host.watches)
    return b"".join(watch.sent for watch in host.watches).replace(b".", b"")


def ends_with(world: Site, proxy: str, word: str) -> None:
    """Let the guard on a proxy print this before it ends."""
    host = world.hosts[proxy]
    assert isinstance(host, FakeHost)
    host.watches[-1].last = f"{word}\n"


def test_clients_wait_and_go_on(consoles: Consoles) -> None:
    world = there()
    with WaitingClients(world, PROXIES, "switchover", "db-2") as clients:
        assert clients.pause()
        assert clients.waiting
        clients.go_on("px-1")
        assert consoles.said == {"px-1": ["PAUSE", "RESUME"], "px-2": ["PAUSE"]}
        assert clients.waiting
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}
    assert [told(world, name) for name in PROXIES] == [b"hd", b"hd"]
    assert clients.problems == {}


def test_clients_go_on_though_the_lock_is_lost_meanwhile(consoles: Consoles) -> None:
    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        assert clients.pause()
        for host in world.hosts.values():
            host.guard = SimpleNamespace(path="", alive=False)  # type: ignore[attr-defined]
            assert host.lock_lost()
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}


def test_an_error_in_between_lets_everybody_go_on(consoles: Consoles) -> None:
    world = there()
    with pytest.raises(KeyboardInterrupt), WaitingClients(world, PROXIES, "x") as clients:  # noqa: PT012
        clients.pause()
        raise KeyboardInterrupt
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}


def test_the_guard_resumes_where_the_console_does_not(consoles: Consoles) -> None:
    consoles.broken["px-1", "RESUME"] = "server closed the connection"
    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        clients.pause()
        ends_with(world, "px-1", RESUMED)
    assert [told(world, name) for name in PROXIES] == [b"hr", b"hd"]
    assert clients.problems == {}


def test_a_guard_that_cannot_resume_either_is_a_problem(consoles: Consoles) -> None:
    consoles.broken["px-1", "RESUME"] = "server closed the connection"
    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        clients.pause()
        ends_with(world, "px-1", FAILED)
    assert clients.problems == {
        "px-1": "its clients still wait: neither PgBouncer's console nor its signal ended the pause, for 60 s; once "
        "Docker answers there: kbpg step 04 --limit px-1"
    }


def test_a_release_that_takes_its_time_is_waited_for(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    consoles.broken["px-1", "RESUME"] = "server closed the connection"
    begun, ends = threading.Event(), threading.Event()

    def resume(guard: object) -> str:
        begun.set()
        assert ends.wait(5)
        return FAILED

    monkeypatch.setattr(waiting_clients.pause_guard.Guard, "resume", resume)
    with WaitingClients(there(), PROXIES, "x") as clients:
        clients.pause()
        threading.Thread(target=clients.go_on, args=("px-1",)).start()
        assert begun.wait(5)
        threading.Timer(0.2, ends.set).start()
    assert list(clients.problems) == ["px-1"]


def test_a_journal_that_cannot_be_written_keeps_nobody_waiting(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise KbpgError("the journal x.jsonl cannot be written: No space left on device")

    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        clients.pause()
        monkeypatch.setattr(FakeHost, "note", full)
        for name in PROXIES:
            ends_with(world, name, RESUMED)
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}
    assert [told(world, name) for name in PROXIES] == [b"hr", b"hr"]
    assert clients.problems == {}


def test_a_proxy_that_is_lost_is_named(consoles: Consoles) -> None:
    consoles.broken["px-1", "RESUME"] = "server closed the connection"
    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        clients.pause()
        world.hosts["px-1"].watches[0].alive = False  # type: ignore[attr-defined]
    assert list(clients.problems) == ["px-1"]
    assert "a guard there lets its clients go on within 20 s" in clients.problems["px-1"]


def test_who_is_not_paused_any_more_has_nothing_to_end(consoles: Consoles) -> None:
    consoles.broken["px-1", "RESUME"] = "pooler is not paused/suspended"
    world = there()
    with WaitingClients(world, PROXIES, "x") as clients:
        clients.pause()
    assert told(world, "px-1") == b"hd"


def test_a_transaction_that_does_not_end_lets_everybody_go_on(consoles: Consoles) -> None:
    consoles.busy.add("px-2")
    world, started = there(), time.monotonic()
    with WaitingClients(world, PROXIES, "x") as clients:
        assert not clients.pause()
        assert not clients.waiting
    assert time.monotonic() - started < 2
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}
    assert told(world, "px-1") == b"d"


def test_a_transaction_may_be_cut(consoles: Consoles) -> None:
    consoles.busy.add("px-2")
    with WaitingClients(there(), PROXIES, "x") as clients:
        assert clients.pause(cut=True)
        assert clients.waiting


def test_a_pause_that_is_refused_is_the_proxys_error(consoles: Consoles) -> None:
    consoles.broken["px-2", "PAUSE"] = "already suspended/paused"
    world = there()
    with (
        pytest.raises(HostError, match="px-2: PgBouncer did not take PAUSE: already suspended"),
        WaitingClients(world, PROXIES, "x") as clients,
    ):
        clients.pause()
    assert consoles.said == {"px-1": ["PAUSE", "RESUME"], "px-2": ["PAUSE"]}  # somebody else's stays
    assert told(world, "px-2") == b"d"


def test_a_pause_that_is_refused_does_not_stop_a_rollout(consoles: Consoles) -> None:
    consoles.broken["px-2", "PAUSE"] = "already suspended/paused"
    said: list[str] = []
    world = there(said)
    with WaitingClients(world, PROXIES, "x", lenient=True) as clients:
        assert clients.pause()
        assert list(clients.each) == ["px-1"]
    assert consoles.said == {"px-1": ["PAUSE", "RESUME"], "px-2": ["PAUSE"]}
    assert [told(world, name) for name in PROXIES] == [b"hd", b"d"]
    why = "PgBouncer did not take PAUSE: already suspended/paused"
    assert said == [f"clients of px-2 cannot be made to wait: {why}"]
    assert clients.problems == {
        "px-2": f"{why}; kbpg diagnose says whether somebody paused it; --repair ends that"
    }


def test_a_pause_whose_answer_is_lost_is_ended(consoles: Consoles) -> None:
    consoles.broken["px-2", "PAUSE"] = "server closed the connection"
    with WaitingClients(there(), PROXIES, "x", lenient=True) as clients:
        assert clients.pause()
        assert consoles.said == {"px-1": ["PAUSE"], "px-2": ["PAUSE", "RESUME"]}
    assert list(clients.problems) == ["px-2"]


def test_nothing_is_paused_where_a_guard_is_gone(consoles: Consoles) -> None:
    world = there()
    with pytest.raises(HostError, match="guard"), WaitingClients(world, PROXIES, "x") as clients:  # noqa: PT012
        world.hosts["px-2"].watches[0].alive = False  # type: ignore[attr-defined]
        clients.pause()
    assert consoles.said == {name: ["PAUSE", "RESUME"] for name in PROXIES}


def test_a_console_that_does_not_answer_stops_a_switchover_and_not_a_rollout(consoles: Consoles) -> None:
    consoles.deaf.add("px-2")
    world = there()
    with (
        pytest.raises(HostError, match="px-2: PgBouncer's console does not answer"),
        WaitingClients(world, PROXIES, "x"),
    ):
        pass
    assert consoles.said == {"px-1": [], "px-2": []}
    assert [told(world, name) for name in PROXIES] == [b"d", b"d"]
    said: list[str] = []
    with WaitingClients(there(said), PROXIES, "x", lenient=True) as clients:
        assert clients.pause()
    assert consoles.said == {"px-1": ["PAUSE", "RESUME"], "px-2": []}
    assert said[0].startswith("clients of px-2 cannot be made to wait: PgBouncer's console does not answer")


# --- the moment ----------------------------------------------------------------------------------------


def test_only_proxies_whose_pgbouncer_runs_have_clients() -> None:
    world = there(**{"2": STOPPED})
    assert serving(world) == ["px-1"]
    assert serving(there(), without=["px-1"]) == ["px-2"]


def test_pause_is_given_a_few_times(consoles: Consoles) -> None:
    consoles.busy.add("px-2")
    with (
        pytest.raises(NotConverged, match=r"did not end within .* 3 times, so nothing was done"),
        clients_wait(there(), "db-1", "x", Manner()),
    ):
        pytest.fail("nobody was made to wait")
    assert consoles.said["px-1"] == ["PAUSE", "RESUME"] * 3


def test_a_quiet_moment_is_waited_for_unless_transactions_are_cut(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(moments, "await_quiet", lambda *words: looked.append(words[1:]))
    with clients_wait(there(), "db-1", "x", Manner()) as clients:
        assert clients.waiting
    assert looked == [("db-1", list(PROXIES))]
    with clients_wait(there(), "db-1", "x", Manner(cut=True)):
        pass
    assert len(looked) == 1
