"""What Patroni says, parsed: bodies recorded from 3.3.11 and 4.1.5, and those it sends in trouble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbpg.facts import Facts, Knowledge, NotKnown
from kbpg.patroni import (
    ClusterFact,
    ConfigFact,
    Member,
    NodeFact,
    NodeStatus,
    Replica,
    leader_of,
    streaming_of,
)

VERSIONS = ("3.3.11", "4.1.5")
PORT = 8008
NODE, CLUSTER, CONFIG = NodeFact(PORT), ClusterFact(PORT), ConfigFact(PORT)


def recorded(version: str) -> dict[str, Any]:
    path = Path(__file__).parent / "recorded" / f"patroni-{version}.json"
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("version", "role", "identifier", "timeline", "sync"),
    [
        ("3.3.11", "master", "7711358168570589216", 1, {"db-slave-01": "sync", "db-slave-02": "async"}),
        ("4.1.5", "primary", "7711360892777254943", 3, {"db-slave-01": "quorum", "db-slave-02": "quorum"}),
    ],
)
def test_the_leader_of_both_versions(
    version: str, role: str, identifier: str, timeline: int, sync: dict[str, str]
) -> None:
    status = NODE.parse(200, recorded(version)["leader"])
    assert status.leads
    assert (status.role, status.state, status.version) == (role, "running", version)
    assert (status.system_identifier, status.timeline) == (identifier, timeline)
    assert (status.pending_restart, status.paused, status.receiving) == (False, False, False)
    assert {s.name: s.sync_state for s in status.replicas} == sync
    assert {s.state for s in status.replicas} == {"streaming"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_replica_of_both_versions(version: str) -> None:
    status = NODE.parse(200, recorded(version)["standby"])
    assert not status.leads
    assert (status.role, status.version, status.receiving) == ("replica", version, True)
    assert status.replicas == ()


@pytest.mark.parametrize(("version", "role"), [("3.3.11", "sync_standby"), ("4.1.5", "quorum_standby")])
def test_the_cluster_of_both_versions(version: str, role: str) -> None:
    members = CLUSTER.parse(200, recorded(version)["cluster"])
    assert [(m.name, m.role, m.lag) for m in members[:2]] == [
        ("db-master-01", "leader", None),
        ("db-slave-01", role, 0),
    ]
    assert [m.host for m in members] == ["172.29.77.120", "172.29.77.121", "172.29.77.122"]
    assert {m.timeline for m in members} in ({1}, {3})


@pytest.mark.parametrize(("version", "mode"), [("3.3.11", True), ("4.1.5", "quorum")])
def test_the_configuration_of_both_versions(version: str, mode: object) -> None:
    found = CONFIG.parse(200, recorded(version)["config"])
    assert found["synchronous_mode"] == mode
    assert found["postgresql"]["parameters"]["wal_level"] == "replica"


def test_a_node_that_starts_answers_503_with_a_status() -> None:
    """`get_postgresql_status` of patroni/api.py while PostgreSQL does not answer."""
    body = {"state": "starting", "role": "replica", "patroni": {"version": "4.1.5", "scope": "kb"}}
    assert NODE.parse(503, body) == NodeStatus(
        "starting", "replica", 0, "4.1.5", "", False, False, False, (), "kb"
    )


@pytest.mark.parametrize("role", ["primary", "master"])
@pytest.mark.parametrize("state", ["starting", "stopped", "stopping", "crashed", "restarting"])
def test_a_node_that_does_not_run_does_not_lead(role: str, state: str) -> None:
    assert not NODE.parse(503, {"state": state, "role": role}).leads


def test_pending_restart_and_pause() -> None:
    body = {**recorded("4.1.5")["leader"], "pending_restart": True, "pause": True}
    status = NODE.parse(200, body)
    assert (status.pending_restart, status.paused) == (True, True)


def test_a_lag_that_is_not_known() -> None:
    body = {"members": [{"name": "a", "role": "replica", "state": "stopped", "lag": "unknown"}]}
    assert CLUSTER.parse(200, body) == (Member("a", "replica", "stopped", "", 0, None, False),)


@pytest.mark.parametrize("body", ["404 page not found", None, [], {}, {"members": []}])
def test_what_is_no_status_is_unknown(body: object) -> None:
    with pytest.raises(NotKnown, match="Patroni answered 404 without a status"):
        NODE.parse(404, body)


@pytest.mark.parametrize("fact", [CLUSTER, CONFIG])
@pytest.mark.parametrize(("status", "body"), [(503, {}), (502, {"members": []}), (200, "text"), (200, [])])
def test_what_is_no_answer_is_unknown(fact: Any, status: int, body: object) -> None:
    with pytest.raises(NotKnown, match=f"Patroni answered {status} to {fact.path}"):
        fact.parse(status, body)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["state", "role", "timeline", "patroni", "replication", "pause", "members", "name", "lag"]


@given(body=st.dictionaries(st.sampled_from(NAMES), values, max_size=6), status=st.sampled_from([200, 503]))
def test_no_shape_of_an_answer_is_more_than_unknown(body: dict[str, Any], status: int) -> None:
    """Whatever a parser raises must be what gathering turns into "unexpected answer"."""
    expected = (NotKnown, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
    for fact, kind in ((NODE, NodeStatus), (CLUSTER, tuple), (CONFIG, dict)):
        try:
            assert isinstance(fact.parse(status, body), kind)
        except expected:
            continue


# --- who leads ---------------------------------------------------------------------------------------


def seen(**roles: tuple[str, str]) -> Facts:
    """Return what each host says of itself: role and state."""
    knowledge = Knowledge()
    for host, (role, state) in roles.items():
        knowledge.put(host, {NODE.key: NODE.parse(200, {"role": role, "state": state})})
    return Facts(knowledge, "a")


def test_the_leader_is_who_says_so_of_itself() -> None:
    facts = seen(a=("replica", "running"), b=("primary", "running"), c=("primary", "starting"))
    assert leader_of(facts, NODE, ["a", "b", "c", "silent"]) == "b"
    assert leader_of(seen(a=("master", "running")), NODE, ["a"]) == "a"


def test_nobody_leads() -> None:
    with pytest.raises(NotKnown, match="waits for a leader"):
        leader_of(seen(a=("replica", "running"), b=("primary", "stopped")), NODE, ["a", "b", "silent"])


def test_two_leaders_are_no_leader() -> None:
    with pytest.raises(NotKnown, match="a and b both say that they lead"):
        leader_of(seen(a=("primary", "running"), b=("master", "running")), NODE, ["a", "b"])


def test_only_replicas_that_stream_count() -> None:
    rows = [
        {"application_name": name, "state": state, "sync_state": "async"}
        for name, state in {"b": "streaming", "c": "catchup", "d": "backup"}.items()
    ]
    knowledge = Knowledge()
    knowledge.put(
        "a", {NODE.key: NODE.parse(200, {"state": "running", "role": "primary", "replication": rows})}
    )
    assert streaming_of(Facts(knowledge, "a"), NODE, "a") == {"b": Replica("b", "streaming", "async")}
    with pytest.raises(NotKnown):
        streaming_of(Facts(knowledge, "a"), NODE, "b")
