"""The status screen: whole screens of standings that clusters really get into, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.console import plain
from kbpg.status.screen import HEIGHT, WIDTH, document, lines
from kbpg.status.standing import Standing, Verdict
from kbpg.status.values import Endpoints, Member, Pool, Prediction, Proxy, Raft, behind

# Noon wherever the test runs
NOON = datetime(2026, 11, 23, 12, 0, 0).astimezone()
LOST = "no answer from 10.0.0.122:22 within 2.5 s"


def leader(name: str = "db-master-01", address: str = "10.0.0.120", **more: Any) -> Member:
    known = {"timeline": 3, "postgresql": "16.11", "patroni": "4.1.5", "answers": True, "read_only": False}
    return Member(name, address, "leader", "running", **{**known, **more})


def replica(number: int, **more: Any) -> Member:
    known = {
        "timeline": 3,
        "lag_bytes": 0,
        "lag_seconds": 0.0,
        "sync": True,
        "postgresql": "16.11",
        "patroni": "4.1.5",
        "answers": True,
        "read_only": True,
    }
    name, address = f"db-slave-{number:02d}", f"10.0.0.{120 + number}"
    return Member(name, address, "replica", "streaming", **{**known, **more})


def proxy(number: int, **more: Any) -> Proxy:
    pools = (
        Pool("keybuzz", "kb_app", 12, 0, 3, 5, 0.0),
        Pool("postgres", "pgbouncer_auth", 0, 0, 0, 1, 0.0),
    )
    readers = ("db-slave-01", "db-slave-02")
    known = {
        "routes_to": ("db-master-01",),
        "reads_from": readers,
        "paused": False,
        "pools": pools,
        "pgbouncer_version": "1.24.1",
    }
    return Proxy(f"haproxy-{number:02d}", f"10.0.0.1{number}", True, True, **{**known, **more})


def unreachable(member: Member) -> Member:
    return Member(member.name, member.address, "unknown", "unreachable", problem=LOST)


HEALTHY = Standing(
    "keybuzz",
    NOON,
    "db-master-01",
    None,
    (leader(), replica(1), replica(2)),
    (proxy(1), proxy(2)),
    Raft("db-master-01", True, 4, 3, 3),
    rpo_zero=True,
    paused=False,
    endpoints=Endpoints(("10.0.0.11", "10.0.0.12"), 6432, 5432, 5433),
    predicted=(
        Prediction("postgresql-crash", "PostgreSQL crashes on the leader", 0.55, 5.25),
        Prediction("leader-power-cut", "the leader's host loses power", 18.55, 25.75),
        Prediction("leader-network-cut", "the leader's host is cut off the network", 18.55, 25.75),
        Prediction("switchover", "planned switchover", 1.55, 10.25),
    ),
)
GONE = replace(
    HEALTHY,
    leader=None,
    problem="no node says that it leads",
    members=(
        unreachable(leader()),
        replica(1, lag_bytes=None, lag_seconds=None, sync=None),
        replace(replica(2, lag_bytes=None, lag_seconds=None, sync=None), state="running"),
    ),
    proxies=(proxy(1, routes_to=()), proxy(2, routes_to=())),
    raft=Raft("db-slave-01", True, 5, 3, 2, ("db-master-01",)),
    rpo_zero=None,
)
HOST_LOST = replace(
    HEALTHY,
    members=(leader(), replica(1), unreachable(replica(2))),
    raft=Raft("db-master-01", True, 4, 3, 2, ("db-slave-02",)),
)
LAGGING = replace(
    HEALTHY,
    members=(
        leader(),
        replica(1),
        replica(2, sync=False, lag_bytes=50 * 1024**2, lag_seconds=73.4, replay_paused=False),
    ),
)
POOL_PAUSED = replace(HEALTHY, proxies=(proxy(1, paused=True), proxy(2)))
TWO = replace(
    HEALTHY,
    leader=None,
    problem="db-master-01 and db-slave-01 say that they lead",
    members=(leader(), leader("db-slave-01", "10.0.0.121", timeline=4), replica(2)),
    proxies=(proxy(1), proxy(2, routes_to=("db-master-01", "db-slave-01"))),
    rpo_zero=None,
)
PAUSED = replace(HEALTHY, paused=True)
ALONE = replace(
    HEALTHY,
    members=(leader(), unreachable(replica(1)), unreachable(replica(2))),
    proxies=(
        Proxy("haproxy-01", "10.0.0.11", None, None, problem=LOST),
        proxy(2, paused=True, pools=(Pool("keybuzz", "kb_app", 3, 40, 3, 0, 12.5),)),
    ),
    raft=Raft(None, False, 4, 3, 1, ("db-slave-01", "db-slave-02"), ("db-master-01",)),
    rpo_zero=False,
)
PROMOTING = replace(HEALTHY, members=(leader(read_only=True), replica(1), replica(2)))
BARE = Standing(
    "keybuzz",
    NOON,
    None,
    "Patroni answers on no host",
    tuple(unreachable(member) for member in HEALTHY.members),
    tuple(Proxy(each.name, each.address, None, None, problem=LOST) for each in HEALTHY.proxies),
)
UPGRADING = replace(
    HEALTHY,
    members=(leader(), replica(1), replica(2, postgresql="16.14", patroni="4.1.6", pending_restart=True)),
)
ALL = {
    "healthy": (HEALTHY, Verdict.HEALTHY),
    "leader-gone": (GONE, Verdict.DOWN),
    "one-host-unreachable": (HOST_LOST, Verdict.DEGRADED),
    "replica-lagging": (LAGGING, Verdict.DEGRADED),
    "pgbouncer-paused": (POOL_PAUSED, Verdict.DEGRADED),
    "two-leaders": (TWO, Verdict.DOWN),
    "patroni-paused": (PAUSED, Verdict.DEGRADED),
    "leader-alone": (ALONE, Verdict.DEGRADED),
    "still-read-only": (PROMOTING, Verdict.DOWN),
    "nothing-answers": (BARE, Verdict.DOWN),
    "mixed-versions": (UPGRADING, Verdict.HEALTHY),
}


@pytest.mark.parametrize("name", ALL)
def test_a_screen(name: str, snapshot: SnapshotAssertion) -> None:
    standing, verdict = ALL[name]
    assert standing.verdict is verdict
    assert plain(lines(standing)) == snapshot


@pytest.mark.parametrize("name", ALL)
def test_a_screen_fits(name: str) -> None:
    shown = lines(ALL[name][0])
    assert len(shown) <= HEIGHT
    assert max(len(line.text) for line in shown) <= WIDTH


def test_long_names_and_addresses_fit_too() -> None:
    members = tuple(
        replace(m, name=f"{m.name}-{'x' * 40}", address="fd00:1234:5678:9abc:def0:1234:5678:9abc")
        for m in HOST_LOST.members
    )
    standing = replace(HOST_LOST, members=members, leader=members[0].name)
    shown = lines(standing)
    assert standing.serves
    assert max(len(line.text) for line in shown) <= WIDTH
    assert any("streaming" in line.text for line in shown)


def test_the_first_line_says_how_it_stands_in_words() -> None:
    first = {name: lines(standing)[0].text for name, (standing, _) in ALL.items()}
    assert first["healthy"] == "healthy: db-master-01 leads, 2 of 2 replicas stream, RPO 0"
    assert first["leader-gone"] == "down: no leader; db-master-01 unreachable"
    assert first["two-leaders"].startswith("down: two leaders, db-master-01 and db-slave-01 say")
    assert first["pgbouncer-paused"].endswith("; PgBouncer on haproxy-01 is paused")


def test_more_problems_than_there_is_room_for_are_counted() -> None:
    members = tuple(unreachable(replace(replica(1), name=f"db-{n:02d}")) for n in range(40))
    shown = [line.text for line in lines(replace(HEALTHY, members=(leader(), *members)))]
    assert sum("unreachable: no answer" in text for text in shown) == 1
    assert "and 40 more" in shown  # commits wait, too: nobody streams
    assert shown[-1].startswith("hint: kbpg diagnose")


@pytest.mark.parametrize(
    ("member", "lags"),
    [
        (replica(2, lag_bytes=16 * 1024**2), False),
        (replica(2, lag_bytes=16 * 1024**2 + 1), True),
        (replica(2, lag_bytes=8192, lag_seconds=9.9), False),
        (replica(2, lag_bytes=8192, lag_seconds=10.1), True),
        (replica(2, lag_bytes=0, lag_seconds=500.0), False),
        (replica(2, lag_bytes=None, lag_seconds=None), False),
    ],
)
def test_when_a_replica_lags(member: Member, lags: bool) -> None:
    standing = replace(HEALTHY, members=(leader(), replica(1), member))
    assert [problem.title for problem in standing.problems] == (["db-slave-02 lags"] if lags else [])


@pytest.mark.parametrize(
    ("lag_bytes", "lag_seconds", "text"),
    [
        (None, None, "-"),
        (0, 0.0, "0 B, 0 ms"),
        (1023, 0.0126, "1023 B, 13 ms"),
        (1024, None, "1.0 kB"),
        (5 * 1024**3, 59.94, "5.0 GB, 59.9 s"),
        (3 * 1024**4, 60.0, "3.0 TB, 1 min"),
    ],
)
def test_how_far_behind(lag_bytes: int | None, lag_seconds: float | None, text: str) -> None:
    assert behind(replica(1, lag_bytes=lag_bytes, lag_seconds=lag_seconds)) == text


def test_an_asynchronous_cluster_is_healthy_and_says_what_it_may_lose() -> None:
    standing = replace(HEALTHY, synchronous=False, rpo_zero=False)
    assert standing.verdict is Verdict.HEALTHY
    assert standing.summary == "db-master-01 leads, 2 of 2 replicas stream, RPO not 0"


def test_commits_that_wait_for_nobody_and_for_somebody_who_is_not_there() -> None:
    alone = replace(HEALTHY, members=(leader(), replica(1, sync=False), replica(2, sync=False)))
    assert [problem.title for problem in alone.problems] == ["commits wait"]
    unsafe = replace(alone, rpo_zero=False)
    assert [problem.title for problem in unsafe.problems] == ["RPO is not 0"]


def test_a_leader_that_lets_kbpg_ask_nothing_still_serves() -> None:
    refusing = leader(read_only=None, postgresql=None, refused="password authentication failed")
    standing = replace(HEALTHY, members=(refusing, *HEALTHY.members[1:]))
    assert standing.serves
    assert [problem.title for problem in standing.problems] == ["PostgreSQL on db-master-01 refuses kbpg"]


def test_a_leader_whose_postgresql_is_silent_does_not_serve() -> None:
    standing = replace(HEALTHY, members=(leader(answers=False), *HEALTHY.members[1:]))
    assert standing.verdict is Verdict.DOWN
    assert "leads but does not serve, its PostgreSQL does not answer" in lines(standing)[0].text


def test_the_document_is_plain_json_with_the_documented_keys() -> None:
    found = json.loads(json.dumps(document(POOL_PAUSED)))
    assert (found["status"], found["serves"], found["leader"]) == ("degraded", True, "db-master-01")
    assert found["problems"] == [
        {
            "title": "PgBouncer on haproxy-01 is paused",
            "detail": "clients wait until RESUME on its console",
        }
    ]
    assert found["members"][1]["lag_seconds"] == 0.0
    assert found["proxies"][0]["pools"][0]["clients_active"] == 12
    assert datetime.fromisoformat(found["at"]) == NOON


@pytest.mark.parametrize(
    ("reads", "fallback", "line"),
    [
        ((("db-slave-01", "db-slave-02"),) * 2, "primary", "db-slave-01, db-slave-02"),
        (
            (("db-slave-01", "db-slave-02"), ("db-slave-01",)),
            "primary",
            "db-slave-01, db-slave-02; haproxy-02: db-slave-01",
        ),
        (((), ()), "primary", "the leader, no replica is fit to"),
        (((), ()), "none", "nobody"),
        ((("db-slave-01",), None), "none", "db-slave-01"),
    ],
)
def test_the_screen_says_who_serves_reads(
    reads: tuple[tuple[str, ...] | None, ...], fallback: str, line: str
) -> None:
    proxies = tuple(proxy(number, reads_from=nodes) for number, nodes in enumerate(reads, 1))
    endpoints = Endpoints(("10.0.0.11",), 6432, 5432, 5433, "keybuzz_ro", fallback)
    shown = [each.text for each in lines(replace(HEALTHY, proxies=proxies, endpoints=endpoints))]
    assert [text for text in shown if text.startswith("reads")] == [f"reads      {line}"]
