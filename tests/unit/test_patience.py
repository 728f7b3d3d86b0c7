"""How long a wait lasts: a replica that is being cloned puts the deadline off, by the size of the clone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from kbpg.engine.site import Site
from kbpg.facts import Fact
from kbpg.operations import patience
from kbpg.operations.patience import ClonePatience, Patience
from kbpg.operations.reinit import CLONE_RATE
from kbpg.operations.standing import RoomFact
from kbpg.patroni import CREATING, NodeFact, NodeStatus

from .small_cluster import DATABASES, knowing, site

NODE = NodeFact(8008)
ROOM = RoomFact("/opt/keybuzz/postgres/data", "/opt/keybuzz/postgres/data/pgdata")
DEADLINE = 180.0
SIZE = 60 * 60 * CLONE_RATE
"""Bytes that a clone takes an hour for at most."""


class World:
    """Three nodes and a clock: db-1 leads, db-3 is in the state that a test gives it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = SIZE) -> None:
        self.now, self.said, self.looks = 1000.0, list[str](), list[str]()
        self.answers: dict[str, dict[str, object]] = {name: {} for name in DATABASES}
        self.answers["db-1"][ROOM.key] = (size, 0)
        for name in DATABASES:
            self.become(name, "running", "primary" if name == "db-1" else "replica")
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        self.wait = ClonePatience(self.site, DEADLINE)

    @property
    def site(self) -> Site:
        def look(wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
            self.looks += [fact.key for facts in wanted.values() for fact in facts]

        found = site("cluster", {}, self.answers, look=look, said=self.said)
        found.facts = knowing(self.answers, "cluster")
        return found

    def become(self, name: str, state: str, role: str = "replica") -> None:
        self.answers[name][NODE.key] = NodeStatus(state, role, 1, "4.1.5", "77", False, False, True, ())

    def over_at(self, seconds: float, state: str) -> bool:
        """Return whether the wait is over so many seconds after it began, where db-3 is in that state."""
        self.become("db-3", state)
        self.wait._site = self.site
        self.now = 1000.0 + seconds
        return self.wait.over()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_plain_wait_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.9, 5.0])
    monkeypatch.setattr(patience.time, "monotonic", lambda: next(clock))
    wait = Patience(5)
    assert [wait.over(), wait.over()] == [False, True]


def test_without_a_clone_it_is_the_same(world: World) -> None:
    assert not world.over_at(179, "starting")
    assert world.over_at(180, "starting")
    assert (world.said, world.looks) == ([], [])


def test_a_clone_is_waited_for_and_what_comes_after_it_too(world: World) -> None:
    assert not any(world.over_at(seconds, CREATING) for seconds in range(0, 3000, 60))
    assert not world.over_at(3100, "starting")
    assert world.over_at(3000 + 180, "starting")
    assert world.looks == [ROOM.key]  # a size is measured once: `du` reads a whole directory


def test_a_clone_that_is_slower_than_the_rule_is_not(world: World) -> None:
    most = round(DEADLINE + SIZE / CLONE_RATE)
    assert not any(world.over_at(seconds, CREATING) for seconds in range(0, most, 60))
    assert world.over_at(most, CREATING)
    assert world.wait.seconds == most


def test_what_is_waited_for_is_said_from_time_to_time(world: World) -> None:
    for seconds in range(0, 130, 10):
        world.over_at(seconds, CREATING)
    assert world.said == [
        f"db-3 clones the data of db-1, {SIZE >> 20} MB: waiting, {minutes} minutes more at most"
        for minutes in (63, 62, 61)
    ]


def test_a_clone_without_a_leader_is_not_waited_for(world: World) -> None:
    world.become("db-1", "running")
    assert world.over_at(180, CREATING)


def test_a_leader_that_does_not_tell_its_size_has_none(world: World) -> None:
    del world.answers["db-1"][ROOM.key]
    assert not world.over_at(179, CREATING)
    assert world.over_at(180, CREATING)
