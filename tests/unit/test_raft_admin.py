"""All members side by side: who agrees, who is a ghost, and who may be removed; and when a rebuild is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from kbpg.operations.position import NO_DATA, Position
from kbpg.operations.raft_lost import Before, why_not_rebuild
from kbpg.operations.raft_rebuild import alone, whole
from kbpg.raft import RaftStatus
from kbpg.raft_admin import Consensus, addresses, holds_without, why_not_remove

from .small_cluster import DATABASES, context

CONTEXT = context()
MEMBERS = addresses(CONTEXT)
GHOST = "192.0.2.99:7000"


def member(name: str, *, quorum: bool = True, ghosts: tuple[str, ...] = (), away: str = "") -> RaftStatus:
    partners = {address: other != away for other, address in MEMBERS.items() if other != name}
    partners |= dict.fromkeys(ghosts, False)
    leader = MEMBERS["db-1"] if quorum else None
    return RaftStatus(leader, quorum, 3, 100, 10, partners, MEMBERS[name], "follower")


def consensus(**how: Any) -> Consensus:
    return Consensus(MEMBERS, {name: member(name, **how) for name in DATABASES})


def test_three_that_agree() -> None:
    found = consensus()
    assert found.healthy
    assert found.with_quorum == list(DATABASES)
    assert found.ghosts == {}
    document = found.document()
    assert (document["healthy"], document["quorum"]) == (True, True)
    assert [each["host"] for each in document["members"]] == list(DATABASES)


def test_a_silent_member_is_shown_with_its_reason() -> None:
    found = Consensus(MEMBERS, {**consensus().seen, "db-2": "no answer"})
    assert not found.healthy
    assert found.document()["members"][1] == {
        "host": "db-2",
        "address": MEMBERS["db-2"],
        "error": "no answer",
    }


def test_ghosts_are_named_with_those_who_count_them() -> None:
    assert consensus(ghosts=(GHOST,)).ghosts == {GHOST: list(DATABASES)}
    assert not consensus(ghosts=(GHOST,)).healthy


@pytest.mark.parametrize(
    ("found", "address", "reason"),
    [
        (consensus(ghosts=(GHOST,)), GHOST, None),
        (consensus(), MEMBERS["db-2"], "a member of the inventory that answers"),
        (consensus(), GHOST, "no member counts"),
        (consensus(ghosts=(GHOST,), quorum=False), GHOST, "only a quorum can change the members"),
    ],
)
def test_who_may_be_removed(found: Consensus, address: str, reason: str | None) -> None:
    why = why_not_remove(found, address)
    assert why is None if reason is None else reason in str(why)


def test_a_member_of_the_inventory_that_is_gone_may_be_removed() -> None:
    found = Consensus(MEMBERS, {**consensus(away="db-3").seen, "db-3": "no answer"})
    assert why_not_remove(found, MEMBERS["db-3"]) is None


def test_ghosts_count_for_the_quorum() -> None:
    assert holds_without(member("db-1"), MEMBERS["db-2"])
    assert not holds_without(member("db-1", away="db-3"), MEMBERS["db-2"])
    assert not holds_without(member("db-1", ghosts=(GHOST, "192.0.2.98:7000")), MEMBERS["db-2"])


def test_a_quorum_that_the_leader_does_not_see_is_none() -> None:
    """What members that lost their log make of the three they know, while their leader counts ghosts."""
    others = {name: member(name) for name in ("db-2", "db-3")}
    leader = replace(member("db-1", quorum=False, ghosts=(GHOST,)), leader=MEMBERS["db-1"], state="leader")
    found = Consensus(MEMBERS, {"db-1": leader, **others})
    assert found.with_quorum == []
    assert not found.document()["quorum"]
    # A leader that is silent is believed to be one: others hear it
    assert Consensus(MEMBERS, {"db-1": "no answer", **others}).with_quorum == ["db-2", "db-3"]
    # One that is cut off takes nothing from those who follow another
    elsewhere = {name: replace(status, leader=MEMBERS["db-2"]) for name, status in others.items()}
    assert Consensus(MEMBERS, {"db-1": leader, **elsewhere}).with_quorum == ["db-2", "db-3"]


LOST = Before(
    consensus(quorum=False),
    leaders=(),
    positions={name: Position(2, 100, "7") for name in DATABASES},
    states=dict.fromkeys(DATABASES, "running"),
    recorded=dict.fromkeys(DATABASES, "7"),
)


def test_a_lost_quorum_may_be_rebuilt() -> None:
    assert why_not_rebuild(LOST) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"consensus": consensus()}, "there is nothing to rebuild"),
        ({"leaders": ("db-1",)}, "db-1 leads"),
        ({"lost": ("db-3",)}, "db-3 cannot be reached, and its data may be the most advanced"),
        ({"states": {**LOST.states, "db-2": "exited"}}, "does not run on db-2: start it first"),
        ({"states": {**LOST.states, "db-2": "missing"}}, "does not run on db-2: start it first"),
        ({"positions": dict.fromkeys(DATABASES, "cannot be read")}, "no node's data can be read"),
        ({"positions": {**LOST.positions, "db-2": Position(2, 9, "8")}}, "data of different systems"),
        ({"recorded": {**LOST.recorded, "db-2": "8"}}, "data of different systems"),
        (
            {"positions": {**LOST.positions, "db-2": "no pg_control"}},
            "db-2: no pg_control; that data may be the most",
        ),
        ({"started": "20261123T135809Z", "leaders": ("db-1", "db-2")}, "db-1 and db-2 lead both"),
    ],
)
def test_a_rebuild_is_refused(change: dict[str, Any], reason: str) -> None:
    assert reason in (why_not_rebuild(replace(LOST, **change)) or "")


def test_who_goes_on_without_a_host_says_so() -> None:
    assert why_not_rebuild(replace(LOST, lost=("db-3",), without=("db-3",))) is None


GONE = replace(
    LOST,
    lost=("db-1", "db-2"),
    without=("db-1", "db-2"),
    states={"db-3": "running"},
    positions={"db-3": Position(2, 100, "7")},
)
"""db-3 alone is on this side; the others may lead on the other."""


def test_a_host_that_a_proxy_has_up_is_not_gone() -> None:
    dead = replace(GONE, has_up={"p-1": frozenset(), "p-2": frozenset({"db-3"})})
    assert why_not_rebuild(dead) is None
    alive = (
        why_not_rebuild(replace(GONE, has_up={"p-1": frozenset(), "p-2": frozenset({"db-1", "db-3"})})) or ""
    )
    assert alive.startswith("HAProxy on p-2 has db-1 up, so it is alive and may lead")
    assert "switch the host off" in alive


@pytest.mark.parametrize("sender", ["db-1", "db-2", ""])
def test_a_node_that_streams_from_a_leader_out_of_sight_is_no_cluster_without_one(sender: str) -> None:
    why = why_not_rebuild(replace(GONE, streams_from={"db-3": sender})) or ""
    assert why.startswith("db-3 streams from a leader that cannot be seen from here")
    assert "wal_receiver_timeout" in why


def test_a_leader_that_can_be_stopped_is_no_reason_to_refuse() -> None:
    """Its Patroni is silent, so nobody says that it leads; it is stopped like all others."""
    two = replace(LOST, lost=("db-1",), without=("db-1",), states={"db-2": "running", "db-3": "running"})
    assert why_not_rebuild(replace(two, streams_from={"db-3": "db-2"})) is None
    assert why_not_rebuild(replace(LOST, streams_from={"db-3": ""})) is None


def test_a_host_whose_docker_is_silent_and_that_a_proxy_has_up_is_alive() -> None:
    seen = replace(
        LOST,
        consensus=Consensus(MEMBERS, {**LOST.consensus.seen, "db-2": "no answer"}),
        positions={**LOST.positions, "db-2": "cannot be read"},
        states={**LOST.states, "db-2": "unknown"},
        without=("db-2",),
        has_up={"p-1": frozenset({"db-2"})},
    )
    assert "has db-2 up" in (why_not_rebuild(seen) or "")
    assert why_not_rebuild(replace(seen, has_up={"p-1": frozenset({"db-1"})})) is None


def test_what_was_built_anew_already_is_finished_whoever_is_up() -> None:
    left = replace(GONE, started="20261123T135809Z", has_up={"p-1": frozenset({"db-1"})})
    assert "has db-1 up" in (why_not_rebuild(left) or "")
    assert why_not_rebuild(replace(left, leaders=("db-3",), consensus=consensus())) is None


def test_a_node_whose_data_cannot_be_read_is_left_out_by_name_alone() -> None:
    seen = replace(LOST, positions={**LOST.positions, "db-2": "no pg_control"}, without=("db-2",))
    assert why_not_rebuild(seen) is None
    assert seen.left_out == ("db-2",)
    assert why_not_rebuild(replace(seen, without=("db-1",))) is not None


def test_a_node_without_data_is_not_more_advanced() -> None:
    assert why_not_rebuild(replace(LOST, positions={**LOST.positions, "db-2": NO_DATA})) is None


def test_an_empty_host_that_is_named_needs_no_container() -> None:
    seen = replace(
        LOST, positions={**LOST.positions, "db-2": NO_DATA}, states={**LOST.states, "db-2": "missing"}
    )
    assert "does not run on db-2" in (why_not_rebuild(seen) or "")
    assert why_not_rebuild(replace(seen, without=("db-2",))) is None
    assert replace(seen, without=("db-2",)).bare == ("db-2",)


def test_a_host_whose_docker_is_silent_is_left_out_by_name_and_only_where_raft_is_silent_too() -> None:
    seen = replace(
        LOST,
        consensus=Consensus(MEMBERS, {**LOST.consensus.seen, "db-2": "no answer"}),
        positions={**LOST.positions, "db-2": "cannot be read"},
        states={**LOST.states, "db-2": "unknown"},
    )
    assert "Docker on db-2 does not answer, so patroni there" in (why_not_rebuild(seen) or "")
    left_out = replace(seen, without=("db-2",))
    assert why_not_rebuild(left_out) is None
    assert left_out.bare == ("db-2",)
    alive = why_not_rebuild(replace(left_out, consensus=LOST.consensus)) or ""
    assert alive.startswith("Raft on db-2 still answers")


def test_two_leaders_are_no_rebuild_that_goes_on() -> None:
    left = replace(LOST, started="20261123T135809Z", leaders=("db-1", "db-2"), consensus=consensus())
    assert not left.half_done


def test_a_rebuild_that_was_left_half_way_goes_on() -> None:
    """Its containers are stopped, or its first node leads already: neither is a reason to refuse then."""
    left = replace(LOST, started="20261123T135809Z", states=dict.fromkeys(DATABASES, "exited"))
    assert why_not_rebuild(left) is None
    assert not left.half_done
    leading = replace(left, leaders=("db-1",), consensus=consensus())
    assert why_not_rebuild(leading) is None
    assert leading.half_done


def test_a_restarted_container_is_no_reason_to_refuse() -> None:
    assert why_not_rebuild(replace(LOST, states={**LOST.states, "db-1": "restarting"})) is None


def test_alone_differs_in_its_partners_only() -> None:
    text = whole(CONTEXT, "db-1")
    before, after = yaml.safe_load(text), yaml.safe_load(alone(text))
    assert before["raft"].pop("partner_addrs") == [MEMBERS["db-2"], MEMBERS["db-3"]]
    assert after["raft"].pop("partner_addrs") == []
    assert before == after
