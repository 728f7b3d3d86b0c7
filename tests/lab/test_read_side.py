"""The read side: 5433 and keybuzz_ro spread reads over replicas, leave a lagging one out, fall back as set."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.lab.conftest import DB, PROXIES, Lab
from tests.lab.faults_patroni import startup_process

pytestmark = pytest.mark.lab

LAG = 64 * 1024
"""Bytes that a replica may be behind in these tests: a small table's worth of log."""
NOTICED = 20.0
"""Seconds until HAProxy has seen a lag: Patroni publishes the leader's position every loop_wait (2 s), then two
failed checks; and until it has seen that there is none again."""


@pytest.fixture(scope="module")
def reading(lab: Lab) -> Iterator[Lab]:
    """A cluster with a small lag limit."""
    path = lab.directory / "read-side.yaml"
    lab.edited(path, lambda s: s.setdefault("haproxy", {}).update(replica_max_lag=LAG))
    lab.apply(path)
    lab.await_whole(deadline=30)
    try:
        yield lab
    finally:
        path.unlink(missing_ok=True)
        lab.apply()


def replicas(lab: Lab) -> list[str]:
    leader = lab.leader()
    return [name for name in DB if name != leader]


def serve(lab: Lab, proxy: str) -> set[str]:
    """Return which nodes serve port 5433; nobody where a session was cut: a server was marked down just then."""
    try:
        return set(served(lab, proxy))
    except psycopg.OperationalError:
        return set()


def served(lab: Lab, proxy: str, count: int = 8) -> list[str]:
    """Return which nodes serve so many sessions to port 5433, open at the same time."""
    names = {address: name for name, address in lab.addresses.items()}
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(lab.connect(proxy, 5433)) for _ in range(count)]
        return [names[_one(s, "select host(inet_server_addr())")] for s in sessions]


def pooled(lab: Lab, proxy: str, count: int = 8) -> list[str]:
    """Return which nodes serve so many transactions on keybuzz_ro, open at the same time."""
    names = {address: name for name, address in lab.addresses.items()}
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(lab.connect(proxy, 6432, dbname="keybuzz_ro")) for _ in range(count)]
        for session in sessions:
            session.execute("begin")
        return [names[_one(s, "select host(inet_server_addr())")] for s in sessions]


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def refuses_a_write(connection: psycopg.Connection[Any]) -> str | None:
    try:
        connection.execute("create table never (n int)")
    except psycopg.Error as error:
        return error.sqlstate
    return "took it"


@contextlib.contextmanager
def behind(lab: Lab, *hosts: str) -> Iterator[None]:
    """Let these replicas stop replaying, and the leader write more than `LAG`."""
    with contextlib.ExitStack() as stack:
        for host in hosts:
            # Patroni ends a pause of the replay by itself, but not a process that is stopped
            lab.sh(host, startup_process("STOP"))
            stack.callback(lab.sh, host, startup_process("CONT"))
        with lab.connect("haproxy-01", 5432) as connection:
            connection.execute("create table if not exists kb_app.lag as select 1 as n")
            stack.callback(_drop, lab)
            connection.execute("insert into kb_app.lag select generate_series(1, 20000)")
        yield


def _drop(lab: Lab) -> None:
    with lab.connect("haproxy-01", 5432) as connection:
        connection.execute("drop table kb_app.lag")


def test_reads_are_spread_over_both_replicas_and_never_write(reading: Lab) -> None:
    for proxy in PROXIES:
        reading.until(lambda p=proxy: serve(reading, p) == set(replicas(reading)), 10, "both replicas")  # type: ignore[misc]
        for who in (served(reading, proxy), pooled(reading, proxy)):
            # Others may be connected: what counts is that neither replica has all the work
            assert all(who.count(name) >= 2 for name in replicas(reading)), who
        with (
            reading.connect(proxy, 5433) as direct,
            reading.connect(proxy, 6432, dbname="keybuzz_ro") as reader,
        ):
            assert refuses_a_write(direct) == "25006"
            assert refuses_a_write(reader) == "25006"


def test_a_lagging_replica_is_left_out_until_it_has_caught_up(reading: Lab) -> None:
    late, other = replicas(reading)
    with behind(reading, late):
        took = reading.until(lambda: serve(reading, "haproxy-01") == {other}, NOTICED, f"{late} left out")
        assert set(pooled(reading, "haproxy-01")) == {other}
        document = json.loads(reading.kbpg("status", "--json", inventory=_path(reading)).out)
        assert {p["name"]: p["reads_from"] for p in document["proxies"]}["haproxy-01"] == [other]
    # PgBouncer still has connections to the other one, so the first sessions may all go to this one
    back = reading.until(lambda: late in serve(reading, "haproxy-01"), NOTICED, f"{late} in again")
    print(f"left out after {took:.1f} s, in again {back:.1f} s after it replays")


def test_without_a_replica_the_leader_serves_reads_and_still_refuses_writes(reading: Lab) -> None:
    leader = reading.leader()
    with behind(reading, *replicas(reading)):
        took = reading.until(lambda: serve(reading, "haproxy-02") == {leader}, NOTICED, "the leader")
        with reading.connect("haproxy-02", 6432, dbname="keybuzz_ro") as reader:
            reading.until(
                lambda: _one(reader, "select pg_is_in_recovery()") is False, 5, "PgBouncer at the leader"
            )
            assert refuses_a_write(reader) == "25006"
        printed = reading.kbpg("uri", "--read-only", "--show-password", inventory=_path(reading)).out.strip()
        with psycopg.connect(printed, autocommit=True) as direct:
            assert _one(direct, "select pg_is_in_recovery()") is False
            assert refuses_a_write(direct) == "25006"
        found = reading.kbpg("diagnose", "--json", inventory=_path(reading))
        seen = [f["seen"] for f in json.loads(found.out)["findings"] if f["id"] == "haproxy-replica-down"]
        assert found.code == 3 or seen == []  # what makes them lag may be what is told
        assert "the leader, no replica is fit to" in reading.kbpg("status", inventory=_path(reading)).out
    back = reading.until(
        lambda: serve(reading, "haproxy-02") == set(replicas(reading)), NOTICED, "the replicas again"
    )
    print(f"the leader serves after {took:.1f} s, the replicas again {back:.1f} s after they replay")


def test_without_a_fallback_readers_are_refused(reading: Lab, tmp_path: Path) -> None:
    path = reading.directory / "read-side-none.yaml"
    reading.edited(
        path,
        lambda s: s.setdefault("haproxy", {}).update(replica_max_lag=LAG, read_fallback="none"),
    )
    try:
        reading.apply(path)
        with behind(reading, *replicas(reading)):
            reading.until(lambda: _refused(reading), NOTICED, "refused")
        reading.until(
            lambda: not _refused(reading) and serve(reading, "haproxy-01") == set(replicas(reading)),
            NOTICED,
            "the replicas again",
        )
    finally:
        path.unlink()
        reading.apply(_path(reading))


def _refused(lab: Lab) -> bool:
    try:
        with lab.connect("haproxy-01", 5433):
            return False
    except psycopg.OperationalError as error:
        return "server closed the connection" in str(error)


def _path(lab: Lab) -> Path:
    return lab.directory / "read-side.yaml"
