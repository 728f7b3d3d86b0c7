"""When a node may be made the leader by hand, and what is lost then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbpg.operations.leaderless import (
    Leaderless,
    refuse_loss,
    what_is_lost,
    what_may_be_lost,
    why_not_fail_over,
)
from kbpg.operations.position import NO_DATA, Position
from kbpg.patroni import NodeStatus
from kbpg.raft import RaftStatus
from kbpg.raft_admin import Consensus

MEMBERS = {f"db-{n}": f"192.0.2.{n}:7000" for n in (1, 2, 3)}
REPLICA = NodeStatus("running", "replica", 4, "4.1.5", "7", False, False, False, ())
GONE = "Patroni does not answer: refused"


def raft(*, quorum: bool = True) -> Consensus:
    status = RaftStatus(
        "192.0.2.2:7000", quorum, 1, 9, 9, {"192.0.2.3:7000": True}, "192.0.2.2:7000", "leader"
    )
    return Consensus(MEMBERS, {"db-1": "refused", "db-2": status, "db-3": status})


SEEN = Leaderless(
    "db-2",
    raft(),
    {"db-1": GONE, "db-2": REPLICA, "db-3": REPLICA},
    (),
    {"db-1": Position(4, 500, "7"), "db-2": Position(4, 500, "7"), "db-3": Position(4, 400, "7")},
)
"""db-1, which led, is gone; its data can be read."""


def refused(seen: Leaderless) -> tuple[str, str]:
    refusal = why_not_fail_over(seen)
    assert refusal is not None
    return refusal.message, refusal.hint or ""


def test_the_most_advanced_replica_may_lead_and_nothing_is_lost() -> None:
    assert why_not_fail_over(SEEN) is None
    assert what_is_lost(SEEN) == []
    assert what_may_be_lost(SEEN, "quorum") == []


def test_not_while_a_leader_leads() -> None:
    leads = replace(SEEN, nodes={**SEEN.nodes, "db-3": replace(REPLICA, role="primary")})
    assert refused(leads) == ("no failover: db-3 leads", "kbpg switchover --to db-2")
    assert refused(replace(leads, host="db-3")) == ("no failover: db-3 leads", "kbpg status")


def test_not_while_a_postgresql_takes_writes_whatever_its_patroni_says() -> None:
    message, hint = refused(replace(SEEN, writable=("db-1",)))
    assert message == "no failover: db-1 leads"
    assert "stop the container patroni there first" in hint


def test_not_while_a_replica_streams_from_a_leader_that_nobody_sees() -> None:
    nodes = {**SEEN.nodes, "db-3": replace(REPLICA, receiving=True)}
    assert refused(replace(SEEN, nodes=nodes))[0] == (
        "no failover: db-3 streams from a leader that cannot be seen from here"
    )


def test_without_a_quorum_the_way_is_another_one() -> None:
    message, hint = refused(replace(SEEN, consensus=raft(quorum=False)))
    assert "no quorum" in message
    assert "kbpg raft rebuild" in hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": "db-1"}, f"no failover to db-1: {GONE}"),
        (
            {"nodes": {**SEEN.nodes, "db-2": replace(REPLICA, state="start failed")}},
            "no failover to db-2: its PostgreSQL is `start failed`",
        ),
        ({"positions": {**SEEN.positions, "db-2": "no pg_control"}}, "no failover to db-2: no pg_control"),
        (
            {"positions": {**SEEN.positions, "db-3": Position(9, 900, "8")}},
            "no failover to db-2: the data on db-3 is of another system",
        ),
    ],
)
def test_an_unfit_node_does_not_lead(change: dict[str, object], message: str) -> None:
    assert refused(replace(SEEN, **change))[0] == message  # type: ignore[arg-type]


def test_a_better_node_that_answers_is_named() -> None:
    assert refused(replace(SEEN, host="db-1"))[1] == "kbpg failover --to db-2"


def test_what_is_lost_is_counted_in_bytes_on_one_timeline_and_named_on_another() -> None:
    behind = replace(SEEN, host="db-3")
    assert what_is_lost(behind) == [
        "db-1 has 100 bytes of WAL that db-3 does not have",
        "db-2 has 100 bytes of WAL that db-3 does not have",
    ]
    refusal = refuse_loss(behind)
    assert refusal.hint == "kbpg failover --to db-2, or start db-1, or go on with --accept-loss"
    newer = replace(SEEN, positions={**SEEN.positions, "db-1": Position(5, 1, "7")})
    (line,) = what_is_lost(newer)
    assert "db-1 is on timeline 5" in line


def test_an_older_timeline_is_no_loss_however_far_it_reaches() -> None:
    older = replace(SEEN, positions={**SEEN.positions, "db-1": Position(3, 9000, "7")})
    assert what_is_lost(older) == []


@pytest.mark.parametrize(("synchronous", "comforted"), [("quorum", True), ("strict", True), ("off", False)])
def test_a_node_that_tells_nothing_may_have_what_others_lack(synchronous: str, comforted: bool) -> None:
    away = replace(SEEN, positions={**SEEN.positions, "db-1": "cannot be reached"})
    (line,) = what_may_be_lost(away, synchronous)
    assert line.startswith("db-1: cannot be reached: what only it has is lost")
    assert ("unless it had none then" in line) is comforted


def test_two_that_tell_nothing_comfort_nobody_and_empty_ones_do_not_count() -> None:
    away = {"db-1": "cannot be reached", "db-3": "cannot be reached"}
    lines = what_may_be_lost(replace(SEEN, positions={**SEEN.positions, **away}), "quorum")
    assert [line.endswith("is lost") for line in lines] == [True, True]
    assert what_may_be_lost(replace(SEEN, positions={**SEEN.positions, "db-1": NO_DATA}), "off") == []
