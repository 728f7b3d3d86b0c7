"""Raft's password rotated on a cluster in memory: the order, the majority, and a kill at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kbpg import raft
from kbpg.context import Context
from kbpg.credentials import load, rotation
from kbpg.engine.site import Site
from kbpg.errors import ConnectionLost, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.hosts.local import LocalHost
from kbpg.operations import raft_sides
from kbpg.operations.place import site_of
from kbpg.operations.raft_sides import Sides, next_one
from kbpg.operations.rotation_proof import prove
from kbpg.raft import RaftStatus
from kbpg.raft_admin import member_fact
from kbpg.session import read_context

from .rotation_world import Killed, World, build
from .small_cluster import DATABASES, PROXIES
from .test_rotation import assert_in_force, killed_at, rotate

ACTS = 19
"""Acts of a rotation in this world that change something; one test counts them."""
IN_THREADS = (6, 7)
"""Those that let clients go on, in threads that a kill here would end alone."""
FIVE = {f"n{number}": f"192.0.2.{number}:7000" for number in range(1, 6)}
STATUS = RaftStatus(leader=None, has_quorum=True, term=1, commit_index=1, log_length=1, partners={})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return build(tmp_path, monkeypatch)


def sides(new: Sequence[str] = (), old: Sequence[str] = (), silent: Sequence[str] = ()) -> Sides:
    return Sides(dict.fromkeys(new, STATUS), dict.fromkeys(old, STATUS), dict.fromkeys(silent, "no answer"))


@pytest.mark.parametrize(
    ("count", "leader", "order"),
    [
        (3, "n3", ["n1", "n3", "n2"]),
        (3, "n2", ["n1", "n2", "n3"]),
        (3, "n1", ["n2", "n1", "n3"]),
        (5, "n3", ["n1", "n2", "n3", "n4", "n5"]),
        (5, "n1", ["n2", "n3", "n1", "n4", "n5"]),
    ],
)
def test_the_majority_goes_over_with_the_leader(count: int, leader: str, order: list[str]) -> None:
    """Before and after each there is a majority, and the leader is in it."""
    names, done = list(FIVE)[:count], list[str]()
    while old := [name for name in names if name not in done]:
        seen = sides(done, old)
        done.append(next_one(seen, leader, FIVE))
        side = done if leader in done else [name for name in names if name not in done]
        assert leader in side
        assert len(side) >= seen.majority
    assert done == order


def test_where_nobody_leads_whoever_is_left_comes_next() -> None:
    assert next_one(sides(["n1"], ["n3"], ["n2"]), "", FIVE) == "n3"
    assert not sides(["n1"], ["n3"], ["n2"]).may_lead
    assert sides(["n1"], ["n2", "n3"]).may_lead


def test_the_leader_stays_where_it_would_have_no_majority() -> None:
    assert raft_sides.why_not_leader(sides(["n1"], ["n2", "n3"])) is None
    assert raft_sides.why_not_leader(sides([], ["n2"], ["n1", "n3"])) == (
        "0 of 3 members have the new password: with the leader no majority"
    )


@pytest.mark.parametrize(
    ("counted", "any_of", "unsafe"),
    [
        (["n2", "n3"], True, False),
        (["n2"], True, True),
        (["n3"], True, False),
        (["n2"], False, False),
        ([], False, True),
    ],
)
def test_commits_do_not_wait_for_the_one_that_goes(counted: list[str], any_of: bool, unsafe: bool) -> None:
    assert raft_sides.unsafe(counted, "n2", any_of=any_of) is unsafe


def test_the_leader_always_has_a_majority(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = world.path.read_text()
    assert rotate(world, "raft") == 0
    assert_in_force(world, before, "raft")
    assert world.restarts == [
        ("db-2", frozenset({"db-1", "db-3"})),
        ("db-1", frozenset({"db-1", "db-2"})),
        ("db-3", frozenset(DATABASES)),
    ]
    shown = "".join(capsys.readouterr())
    assert "raft: the new password is let in, the old one refused (3 ways in)" in shown
    assert "db-1 leads; clients waited " in shown
    assert "automatic failover was off for " in shown


def test_each_node_gets_its_file_just_before_its_restart(world: World) -> None:
    rotate(world, "raft")
    order = [act for act in world.acts if "restart" in act or "secrets.yml" in act]
    assert order == [
        "db-2: write secrets.yml",
        "db-2: restart",
        "db-1: write secrets.yml",
        "db-1: restart as leader",
        "db-3: write secrets.yml",
        "db-3: restart",
    ]


@pytest.mark.parametrize(
    "moment",
    [(number, when) for number in range(ACTS) if number not in IN_THREADS for when in ("before", "after")],
    ids=lambda m: f"{m[1]}-{m[0]}",
)
def test_killed_at_any_moment_it_is_resumed(world: World, moment: tuple[int, str]) -> None:
    before = killed_at(world, moment, "raft")
    assert len(world.side(world.leader)) >= 2
    assert rotate(world, resume=True) == 0
    assert_in_force(world, before, "raft")
    assert sorted(name for name, _ in world.restarts) == sorted(DATABASES)
    assert all(len(side) >= 2 for _, side in world.restarts)


def test_the_moments_are_all_of_them(world: World) -> None:
    rotate(world, "raft")
    assert len(world.acts) == ACTS, world.acts


def test_a_leader_that_moved_meanwhile_is_taken_as_it_is(world: World) -> None:
    before = world.path.read_text()
    world.kill = (2, "after")
    with pytest.raises(Killed):
        rotate(world, "raft")
    world.kill, world.leader = None, "db-3"
    assert rotate(world, resume=True) == 0
    assert_in_force(world, before, "raft")
    assert [name for name, _ in world.restarts] == ["db-2", "db-3", "db-1"]


def test_two_sides_without_a_majority_are_mended_by_the_next_one(world: World) -> None:
    """The leader's host is lost for a while, and with it the old majority."""
    before = world.path.read_text()
    world.kill = (2, "after")
    with pytest.raises(Killed):
        rotate(world, "raft")
    world.kill = None
    plain = raft._answer
    assert world.side("db-1") == {"db-1", "db-3"}

    def answer(reader: object, *words: object) -> object:
        if getattr(reader, "name", "") == "db-1" and ("db-3", 2) not in [
            (n, len(s)) for n, s in world.restarts
        ]:
            raise NotKnown("no answer")
        return plain(reader, *words)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raft, "_answer", answer)
        patch.setattr(World, "side", lambda self, name: frozenset({name}))
        world.leader = ""
        with pytest.raises(NotConverged):
            rotate(world, resume=True)
    assert world.rafts["db-3"] == world.rafts["db-2"] != world.rafts["db-1"]
    world.leader = "db-3"
    assert rotate(world, resume=True) == 0
    assert_in_force(world, before, "raft")


def test_a_raft_that_is_not_whole_is_refused_before_anything(world: World) -> None:
    world.rafts["db-3"] = "another"
    with pytest.raises(Refused) as caught:
        rotate(world, "raft")
    assert "db-3: closed the connection" in caught.value.detail
    assert world.acts == []
    assert not rotation.new_path(world.path).exists()


def test_others_that_were_broken_off_come_first(world: World) -> None:
    before, world.kill = world.path.read_text(), (2, "before")
    with pytest.raises(Killed):
        rotate(world, "app", "rest", "raft")
    world.kill = None
    assert rotate(world, "app", "rest", "raft") == 0
    assert_in_force(world, before, "app", "rest", "raft")


def test_amid_it_members_are_asked_with_both_passwords(world: World) -> None:
    world.kill = (2, "after")
    with pytest.raises(Killed):
        rotate(world, "raft")
    context: Context
    context, _ = read_context(world.options, credentials_exist=True)
    assert [member_fact(context).ask(world.hosts[name]).has_quorum for name in DATABASES] == [
        True,
        False,
        True,
    ]
    assert load(world.path, ["reporting"]) is not None
    assert world.paused.isdisjoint(PROXIES)


@pytest.fixture
def lost(world: World, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose db-2 has lost its connection."""
    plain = raft._answer

    def answer(reader: Any, *words: Any) -> object:
        if reader.name == "db-2":
            raise ConnectionLost("db-2", "the SSH connection was lost")
        return plain(reader, *words)

    monkeypatch.setattr(raft, "_answer", answer)
    context, _ = read_context(world.options, credentials_exist=True)
    return site_of(context, world.hosts, LocalHost(), lambda place, text: None)


def test_a_member_whose_host_is_lost_is_silent(lost: Site) -> None:
    seen = raft_sides.look(lost)
    assert (set(seen.new), seen.silent) == ({"db-1", "db-3"}, {"db-2": "the SSH connection was lost"})


def test_a_host_that_is_lost_ends_no_proof_of_the_others(lost: Site, world: World) -> None:
    world.rafts["db-3"] = "another"
    with pytest.raises(NotConverged, match="not proven") as caught:
        prove(lost, ["RAFT_PASS"])
    assert caught.value.detail == (
        "db-2: Raft: the new password could not be tried: the SSH connection was lost",
        "db-3: Raft: the new password is refused",
    )
