"""Every wait ends where the connection has ended of a host that it needs, and goes on where others are away."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from kbpg.adoption.takeover import HandoverFirst
from kbpg.engine.site import Site
from kbpg.errors import ConnectionLost, KbpgError, NotConverged
from kbpg.health.repair import acts
from kbpg.hosts.fake import FakeHost
from kbpg.model import Change
from kbpg.operations import candidates, config_set, failover, raft_rebuild, raft_rotation, reinit, switchover
from kbpg.patroni import NodeFact, NodeStatus, Replica
from kbpg.resources.patroni import DynamicConfig

from .small_cluster import DATABASES, context, site

NODE = NodeFact(8008)
LONG = 5.0
"""Seconds that nobody waits here: without the end of a connection a test fails after them."""


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0.001)
    monkeypatch.setattr(failover, "DEADLINE", LONG)
    monkeypatch.setattr(switchover, "SETTLE", LONG)


def lost(*names: str) -> dict[str, FakeHost]:
    """Return db hosts, the connections to some of which have ended."""
    ended = {name: ConnectionLost(name, "the connection has ended") for name in names}
    return {name: FakeHost(name, ended=ended.get(name)) for name in DATABASES}


def status(name: str, leader: str, *streams: str) -> NodeStatus:
    role = "primary" if name == leader else "replica"
    replicas = tuple(Replica(each, "streaming", "async") for each in streams)
    return NodeStatus("running", role, 1, "4.1.5", "7", False, False, False, replicas)


def there(leader: str, *gone: str, look: Callable[[], object] = lambda: None) -> Site:
    """Return a cluster that `leader` leads ("": nobody does); whose connection has ended says nothing."""
    known = {name: {NODE.key: status(name, leader)} for name in DATABASES if name not in gone}
    return site("db-1", lost(*gone), known, look=lambda wanted: look())


# --- what they share ---------------------------------------------------------------------------------


def looked(there: Site, seconds: float, each: Collection[str] = (), some: Collection[str] = ()) -> int:
    return sum(1 for _ in there.looks(seconds, each=each, some=some))


def test_it_is_looked_at_once_and_after_the_deadline() -> None:
    assert looked(there("db-1"), 0.0) == 1
    assert looked(there("db-1"), -1.0) == 1
    assert looked(there("db-1"), 0.02) > 1


@pytest.mark.parametrize(
    ("each", "some", "gone", "ends"),
    [
        (["db-1"], [], ["db-1"], "db-1"),
        (["db-2", "db-1"], [], ["db-1"], "db-1"),
        (["db-2"], [], ["db-1"], ""),
        ([], [], ["db-1"], ""),
        ([], ["db-1", "db-2"], ["db-1"], ""),
        ([], ["db-1", "db-2"], ["db-1", "db-2"], "db-1"),
        (["not connected"], ["not connected"], ["db-1"], ""),
    ],
)
def test_who_is_needed_and_gone_ends_it(each: list[str], some: list[str], gone: list[str], ends: str) -> None:
    waits = there("", *gone)
    if not ends:
        assert looked(waits, 0.02, each, some) > 1
        return
    with pytest.raises(ConnectionLost, match=f"{ends}: the connection has ended"):
        looked(waits, LONG, each, some)


def test_what_was_seen_at_the_last_look_counts_whoever_is_gone() -> None:
    for _ in there("", "db-1").looks(LONG, each=["db-1"]):
        break


# --- each of them ------------------------------------------------------------------------------------


def clone(where: Site) -> object:
    return reinit.await_streaming(where, "db-2", seconds=LONG)


WAITS: dict[str, tuple[Callable[[Site], object], str, tuple[str, ...]]] = {
    "a clone": (clone, "db-1", ("db-2",)),
    "a failover": (lambda where: failover._await(where, "db-2"), "", ("db-2",)),
    "a rebuild": (
        lambda where: raft_rebuild.Rebuild(where)._await("db-2", "lead", LONG, ["db-2"], lambda: False),
        "",
        ("db-2",),
    ),
    "a rotation": (lambda where: raft_rotation._await(where, "so", LONG, lambda: False), "db-1", ("db-3",)),
    "a switchover": (lambda where: switchover._settle(where, "db-1", "db-2"), "", ("db-2",)),
    "a new configuration": (
        lambda where: DynamicConfig(where.context)._taken_over(where, dict.fromkeys(DATABASES)),
        "db-1",
        ("db-3",),
    ),
    "a parameter that waits": (lambda where: acts._waits_for_restart(where, "db-2"), "db-1", ("db-2",)),
}


@pytest.mark.parametrize("wait", WAITS)
def test_it_ends_with_the_connection(wait: str) -> None:
    waits, leader, gone = WAITS[wait]
    with pytest.raises(ConnectionLost, match=f"{gone[0]}: the connection has ended"):
        waits(there(leader, *gone))


def test_a_clone_is_not_waited_for_whose_leader_is_out_of_sight() -> None:
    """It may well go on: but nobody who is asked would tell."""
    waits = there("db-1")

    def look(wanted: object) -> None:
        waits.hosts["db-1"].ended = ConnectionLost("db-1", "the connection has ended")  # type: ignore[attr-defined]

    waits.refresh = look
    with pytest.raises(ConnectionLost, match="db-1: the connection has ended"):
        clone(waits)


def test_a_clone_goes_on_while_a_bystander_is_away() -> None:
    waits = there("db-1", "db-3")
    looks = iter(range(3))

    def look(wanted: object) -> None:
        if next(looks) == 2:
            waits.facts._knowledge.put("db-1", {NODE.key: status("db-1", "db-1", "db-2")})

    waits.refresh = look
    clone(waits)


def test_a_switchover_goes_on_while_who_left_is_away() -> None:
    waits = there("", "db-1")
    looks = iter(range(3))

    def look(wanted: object) -> None:
        if next(looks) == 2:
            waits.facts._knowledge.put("db-2", {NODE.key: status("db-2", "db-2")})

    waits.refresh = look
    switchover._settle(waits, "db-1", "db-2")


@pytest.mark.parametrize("gone", [("db-1",), DATABASES], ids=["one", "all"])
def test_the_way_back_is_tried_whoever_is_away(
    gone: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is left may lead; where nobody is, the way back itself says so, and at once."""
    monkeypatch.setattr(config_set, "LEADER_DEADLINE", LONG if gone == DATABASES else 0.05)
    looks: list[None] = []
    config_set._await_leader(there("", *gone, look=lambda: looks.append(None)))
    assert (len(looks) == 1) is (gone == DATABASES)


def test_nobody_hands_over_whose_connection_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "patience", lambda _: LONG)
    passing = candidates.Candidate("db-2", "streaming", "async", 0, "not synchronous", passing=True)
    monkeypatch.setattr(candidates, "candidates", lambda *_: [passing])
    for wait, gone in (
        (lambda where: candidates.choose(where, "db-1"), "db-1"),
        (lambda where: candidates.choose(where, "db-1", "db-2"), "db-2"),
        (lambda where: candidates.await_fitness(where, "db-1"), "db-1"),
    ):
        with pytest.raises(ConnectionLost, match=f"{gone}: the connection has ended"):
            wait(there("db-1", gone))


def test_a_handover_of_an_adopted_cluster_waits_for_its_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbpg.adoption.takeover.change_by_rest", lambda *_: None)
    monkeypatch.setattr("kbpg.adoption.takeover.SYNCHRONOUS_DEADLINE", 0.05)
    first = HandoverFirst(context())

    def outcome(*gone: str) -> KbpgError:
        waits = there("db-1")
        for name in gone:
            waits.hosts[name].ended = ConnectionLost(name, "the connection has ended")  # type: ignore[attr-defined]
        with pytest.raises(KbpgError) as caught:
            first.fix(waits, Change({"ttl": 30}, {"ttl": 20}))
        return caught.value

    assert isinstance(outcome(), NotConverged)
    assert isinstance(outcome("db-3"), NotConverged)
    assert isinstance(outcome("db-1"), ConnectionLost)
