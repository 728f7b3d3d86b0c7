"""What a switchover makes of what it meets: a refusal, nobody who takes over, another than was asked for.

Patroni and the proxies are stand-ins here; tests/lab/test_switchover.py does it for real.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from kbpg.engine.site import Site
from kbpg.errors import ConnectionLost, HostError, LockLost, NotConverged
from kbpg.hosts.fake import FakeHost
from kbpg.operations import switchover as module
from kbpg.operations.candidates import Candidate
from kbpg.operations.patroni_change import PatroniRefused
from kbpg.operations.switchover import Handover, switchover
from kbpg.operations.writable import Search

from .small_cluster import DATABASES, PROXIES, site

Ask = Callable[..., None]


class Waiting:
    """Clients of both proxies, who wait until they are let go on."""

    def __init__(self) -> None:
        self.each = dict.fromkeys(PROXIES)
        self.since = time.monotonic()
        self.gone: list[str] = []
        self.problems: dict[str, str] = {}

    @property
    def waiting(self) -> bool:
        return len(self.gone) < len(PROXIES)

    def go_on(self, name: str) -> None:
        self.gone.append(name)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


class World:
    """A cluster of which everything but the order of things is made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clients = Waiting()
        self.asked: list[object] = []
        self.answer: Exception | None = None
        self.ends = True
        """Whether `answer` is one that ends the wait."""
        self.leader: str | None = "db-2"
        self.reach: Sequence[str] = PROXIES
        self.said: list[str] = []
        self.fit = True
        replaced: dict[str, object] = {
            "choose": lambda *_: Candidate("db-2", "streaming", "quorum", 0),
            "any_will_do": lambda *_: self.fit,
            "await_fitness": lambda *_: self.asked.append("fitness"),
            "checkpoint": lambda *_: self.asked.append("checkpoint"),
            "clients_wait": self.wait,
            "change_by_rest": self.ask,
            "first_to_lead": self.lead,
            "wake": lambda *_: None,
            "_settle": lambda *_: None,
            "SHUTDOWN": 0.0,
        }
        for name, stand_in in replaced.items():
            monkeypatch.setattr(module, name, stand_in)
        monkeypatch.setattr(Search, "run", lambda search, proxies, _: self.search(search, proxies))

    @contextmanager
    def wait(self, *_: object, **__: object) -> Iterator[Waiting]:
        self.asked.append("pause")
        try:
            yield self.clients
        finally:
            self.clients.gone = list(PROXIES)

    def ask(self, *words: object) -> None:
        self.asked.append(words[2:5])
        if self.answer:
            raise self.answer

    def lead(self, site: Site, names: Sequence[str], ends: float, stop: object) -> str | None:
        assert list(names) == ["db-2", "db-3"]
        deadline = time.monotonic() + 5
        while len(self.asked) < 4 or (self.answer and self.ends and not stop.is_set()):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if not self.ends:
            time.sleep(0.05)  # for what must not come
            assert not stop.is_set()  # type: ignore[attr-defined]
        return self.leader

    def search(self, search: Search, proxies: Sequence[str]) -> list[str]:
        for name in self.reach:
            search.reached(name)
        return [name for name in proxies if name not in self.reach]

    def run(self, to: str = "") -> Handover:
        hosts = {name: FakeHost(name) for name in (*DATABASES, *PROXIES)}
        return switchover(site("cluster", hosts, said=self.said), leaving="db-1", to=to)


def test_patroni_is_asked_when_everybody_waits(world: World) -> None:
    done = world.run()
    assert world.asked == ["fitness", "checkpoint", "pause", ("POST", "/switchover", {"leader": "db-1"})]
    assert (done.leaving, done.leader, done.proxies, done.problems) == ("db-1", "db-2", PROXIES, {})


@pytest.mark.parametrize(("to", "fit"), [("db-2", True), ("", False)])
def test_a_candidate_is_named_where_it_must_be_that_one(to: str, fit: bool, world: World) -> None:
    world.fit = fit
    world.run(to)
    assert world.asked[-1] == ("POST", "/switchover", {"leader": "db-1", "candidate": "db-2"})
    assert world.said[0] == "switchover from db-1 to db-2"


def test_what_patroni_refuses_is_said(world: World) -> None:
    world.answer, world.leader = PatroniRefused("db-1", "Patroni refused POST /switchover with 412: no"), None
    with pytest.raises(HostError, match="Patroni refused POST /switchover with 412") as caught:
        world.run()
    assert caught.value.lines()[1:] == [
        "  clients go on, with db-1 or whoever leads now",
        "hint: kbpg status",
    ]
    assert not world.clients.waiting


def no_answer(cause: Exception) -> HostError:
    """Return what `change_by_rest` makes of a request that was sent and not answered."""
    error = HostError("db-1", f"Patroni did not answer POST /switchover: {cause}")
    error.__cause__ = cause
    return error


SILENCES = [
    no_answer(TimeoutError("timed out")),
    no_answer(http.client.IncompleteRead(b"Succ")),
    ConnectionLost("db-1", "the connection has ended"),
]


@pytest.mark.parametrize("silence", SILENCES, ids=["too late", "half an answer", "connection lost"])
def test_without_an_answer_it_may_go_on_and_clients_wait(silence: HostError, world: World) -> None:
    world.answer, world.ends = silence, False
    assert world.run().leader == "db-2"


@pytest.mark.parametrize("silence", SILENCES, ids=["too late", "half an answer", "connection lost"])
def test_without_an_answer_and_a_leader_both_are_said(silence: HostError, world: World) -> None:
    world.answer, world.ends, world.leader = silence, False, None
    with pytest.raises(NotConverged, match="nobody took over from db-1") as caught:
        world.run()
    assert caught.value.detail == (silence.message,)
    assert not world.clients.waiting


def test_what_was_not_asked_for_does_not_come(world: World) -> None:
    world.answer, world.leader = LockLost("db-1", "POST /switchover"), None
    with pytest.raises(LockLost, match="was not run"):
        world.run()
    assert not world.clients.waiting


def test_nobody_who_takes_over_is_said(world: World) -> None:
    world.leader = None
    with pytest.raises(NotConverged, match="nobody took over from db-1 within 20 s; clients go on"):
        world.run()
    assert not world.clients.waiting


def test_when_each_phase_ended_is_told(world: World) -> None:
    world.clients.since -= 1.5
    done = world.run(to="db-2")
    assert done.candidate == "db-2"
    assert 1.5 <= done.asked <= done.led < 3
    for name in PROXIES:
        assert done.led <= done.written[name] <= done.waited[name] < 3
    (told,) = (line for line in world.said if line.startswith("seconds after PAUSE"))
    assert told.startswith(
        f"seconds after PAUSE: everybody waited {done.asked:.1f}, db-2 led {done.led:.1f}, "
    )
    assert f"a write came through px-2 {done.written['px-2']:.1f}" in told


def test_another_may_take_over(world: World) -> None:
    world.leader = "db-3"
    assert world.run().leader == "db-3"


def test_a_proxy_through_which_nothing_comes_is_named(world: World) -> None:
    world.reach = PROXIES[:1]
    done = world.run()
    assert list(done.problems) == ["px-2"]
    assert done.problems["px-2"].startswith("no write reached db-2 through it")
