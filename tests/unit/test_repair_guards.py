"""When data may be replaced, and when a node may be taken away: the rules, one fact changed at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kbpg.operations.guards import (
    RESERVE,
    Standing,
    needed,
    why_no_room,
    why_not_away,
    why_not_replace,
)
from kbpg.raft import RaftStatus

GB = 1 << 30
FIT = Standing(
    host="db-2",
    leaders=("db-1",),
    writable=True,
    quorum=True,
    leader_identifier="7",
    identifier="7",
    recorded="7",
    reaches_leader=True,
    size=GB,
    leader_size=GB,
    free=4 * GB,
)


def test_a_replica_of_a_healthy_leader_may_be_cloned_anew() -> None:
    assert why_not_replace(FIT) is None


def test_data_that_cannot_be_read_is_judged_by_the_hosts_record() -> None:
    assert why_not_replace(replace(FIT, identifier="")) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"leaders": ()}, "no healthy leader exists"),
        ({"leaders": ("db-1", "db-3")}, "both lead"),
        ({"leaders": ("db-2",)}, "the leader's data is never touched"),
        ({"leads": True}, "the leader's data is never touched"),
        ({"writable": False}, "does not take writes"),
        ({"quorum": False}, "without a quorum"),
        ({"leader_identifier": ""}, "identifier of db-1 cannot be read"),
        ({"recorded": ""}, "no record"),
        ({"recorded": "8"}, "the record on db-2 names the system 8, but db-1 leads 7"),
        ({"identifier": "8"}, "the data on db-2 is of the system 8, but db-1 leads 7"),
        ({"foreign": "PostgreSQL 15 data"}, "PostgreSQL 15 data"),
        ({"reaches_leader": False}, "does not reach PostgreSQL on db-1"),
    ],
)
def test_one_wrong_fact_is_a_refusal_with_its_reason(change: dict[str, Any], reason: str) -> None:
    assert reason in (why_not_replace(replace(FIT, **change)) or "")


def test_data_moved_aside_needs_room_for_both() -> None:
    tight = replace(FIT, free=needed(GB) - 1)
    assert why_no_room(tight, keep=True) == (
        f"a clone needs {needed(GB) >> 20} MB on db-2 beside the data that is there, "
        f"and {(needed(GB) - 1) >> 20} MB are free"
    )
    assert why_no_room(tight, keep=False) is None
    assert why_no_room(replace(tight, free=needed(GB)), keep=True) is None


def test_an_unknown_size_is_no_permission() -> None:
    assert "cannot be read" in (why_no_room(replace(FIT, leader_size=0), keep=False) or "")


def test_a_clone_needs_more_than_the_leaders_size() -> None:
    assert needed(10 * GB) == 11 * GB + RESERVE


def raft(name: str, **connected: bool) -> RaftStatus:
    partners = {f"192.0.2.{number[-1]}:7000": up for number, up in connected.items()}
    return RaftStatus("192.0.2.1:7000", True, 1, 1, 1, partners, f"192.0.2.{name[-1]}:7000", "follower")


AWAY = ("db-2", "192.0.2.2:7000", ("db-1",))


def test_a_replica_may_go_while_the_others_have_a_quorum() -> None:
    assert why_not_away(*AWAY, {"db-1": raft("db-1", n2=True, n3=True)}) is None


def test_a_replica_that_is_away_already_may_be_started_again() -> None:
    assert why_not_away(*AWAY, {"db-1": raft("db-1", n2=False, n3=True)}) is None


def test_of_five_two_may_be_away() -> None:
    assert why_not_away(*AWAY, {"db-1": raft("db-1", n2=True, n3=False, n4=True, n5=True)}) is None


@pytest.mark.parametrize(
    ("leaders", "statuses", "reason"),
    [
        (("db-2",), {"db-1": raft("db-1", n2=True, n3=True)}, "hand over first"),
        ((), {"db-1": raft("db-1", n2=True, n3=True)}, "no node leads"),
        (("db-1",), {}, "Raft on db-1 does not answer"),
        (("db-1",), {"db-1": raft("db-1", n2=True, n3=False)}, "would lose its quorum"),
        # Five members, two of them ghosts: three are needed, so nobody may go
        (("db-1",), {"db-1": raft("db-1", n2=True, n3=True, n8=False, n9=False)}, "would lose its quorum"),
    ],
)
def test_a_node_stays_where_the_others_need_it(
    leaders: tuple[str, ...], statuses: dict[str, RaftStatus], reason: str
) -> None:
    assert reason in (why_not_away("db-2", "192.0.2.2:7000", leaders, statuses) or "")
