"""`kbpg status` against the real cluster: what it says is compared with PostgreSQL, Patroni and Docker."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

import pytest

from .conftest import DB, PROXIES, Lab, killed_at_end

pytestmark = pytest.mark.lab

QUICK = 2.0
"""Seconds for a healthy cluster (issue 3)."""
BOUNDED = 8.0
"""Seconds for one with hosts or ports that hang: 2.5 for logins, 2 for answers, the rest for a busy machine."""


def status(lab: Lab) -> dict[str, Any]:
    ran = lab.kbpg("status", "--json")
    return dict(json.loads(ran.out))


def awaited(lab: Lab, condition: Callable[[dict[str, Any]], bool], deadline: float, what: str) -> None:
    lab.until(lambda: condition(status(lab)), deadline, what)


def sql(lab: Lab, host: str, query: str) -> str:
    return lab.sh(host, f'docker exec -u 999 patroni psql -U kb_admin -d postgres -Atc "{query}"').strip()


@contextmanager
def undone(lab: Lab, host: str, script: str, back: str) -> Iterator[None]:
    """Run `script` on a host, and `back` at the end, whatever happens."""
    lab.sh(host, script)
    try:
        yield
    finally:
        lab.sh(host, back)


def test_a_healthy_cluster(cluster: Lab) -> None:
    cluster.await_whole(30)
    runs = [cluster.kbpg("status") for _ in range(2)]
    leader = cluster.leader()
    for ran in runs:
        assert ran.code == 0, ran.everything
        lines = ran.out.splitlines()
        assert lines[0] == f"healthy: {leader} leads, 2 of 2 replicas stream, RPO 0"
        assert len(lines) <= 30
        assert max(map(len, lines)) <= 100


@pytest.mark.figures
def test_a_healthy_cluster_in_time(cluster: Lab) -> None:
    cluster.await_whole(30)
    seconds = sorted(cluster.kbpg("status").seconds for _ in range(5))
    assert seconds[2] <= QUICK, seconds


def test_what_it_says_is_so(cluster: Lab) -> None:
    cluster.await_whole(30)
    found, leader = status(cluster), cluster.leader()
    version = sql(cluster, leader, "show server_version")
    assert (found["status"], found["serves"], found["leader"]) == ("healthy", True, leader)
    for member in found["members"]:
        says = cluster.rest(member["name"])
        assert member["timeline"] == says["timeline"]
        assert member["patroni"] == says["patroni"]["version"]
        assert member["postgresql"] == version.split()[0]
        assert member["role"] == ("leader" if member["name"] == leader else "replica")
        assert (member["sync"] is True) == (member["name"] != leader)
    assert [proxy["routes_to"] for proxy in found["proxies"]] == [[leader]] * len(PROXIES)
    assert (found["raft"]["members"], found["raft"]["connected"], found["raft"]["quorum"]) == (3, 3, True)
    assert found["rpo_zero"] is True


def test_lag_is_seen_while_replay_hangs(cluster: Lab) -> None:
    cluster.await_whole(30)
    leader = cluster.leader()
    replica = next(name for name in DB if name != leader)

    def behind(found: dict[str, Any]) -> bool:
        member = next(each for each in found["members"] if each["name"] == replica)
        return (member["lag_bytes"] or 0) >= 100_000 and (member["lag_seconds"] or 0) > 10

    def lags(found: dict[str, Any]) -> bool:
        return behind(found) and f"{replica} lags" in [problem["title"] for problem in found["problems"]]

    # A replay that was only paused is resumed by Patroni in its next round
    with undone(
        cluster, replica, "pkill -STOP -f '[s]tartup recovering'", "pkill -CONT -f '[s]tartup recovering'"
    ):
        sql(cluster, leader, "select pg_logical_emit_message(true, 'kbpg', repeat('x', 100000))")
        awaited(cluster, lags, 30, "the lag of a replica that replays nothing")
        assert status(cluster)["serves"]
    awaited(cluster, lambda found: found["status"] == "healthy", 20, "healthy again")


def test_clients_of_a_pool_are_counted_and_a_pause_is_seen(cluster: Lab) -> None:
    proxy = PROXIES[0]
    with cluster.connect(proxy, 6432) as connection, connection.transaction():
        connection.execute("select 1")
        pools = next(each for each in status(cluster)["proxies"] if each["name"] == proxy)["pools"]
        user = cluster.credentials["POSTGRES_APP_USER"]
        (mine,) = [p for p in pools if (p["user"], p["database"]) == (user, "keybuzz")]
        assert (mine["clients_active"], mine["servers_active"]) == (1, 1)
    # What PgBouncer does on these signals: its manual, "Signals"
    with undone(
        cluster,
        proxy,
        "docker exec pgbouncer sh -c 'kill -USR1 1'",
        "docker exec pgbouncer sh -c 'kill -USR2 1'",
    ):
        ran = cluster.kbpg("status")
        assert ran.code == 0
        assert ran.out.splitlines()[0].endswith(f"; PgBouncer on {proxy} is paused")
    awaited(cluster, lambda found: found["status"] == "healthy", 10, "healthy after the resume")


def test_a_stopped_haproxy(cluster: Lab) -> None:
    proxy = PROXIES[1]
    with undone(cluster, proxy, "docker stop -t 2 haproxy", "docker start haproxy"):
        ran = cluster.kbpg("status")
        assert ran.code == 0
        assert f"HAProxy on {proxy} is down" in ran.out.splitlines()[0]
    awaited(cluster, lambda found: found["status"] == "healthy", 20, "healthy after the start")


def test_programs_that_hang_hold_up_nobody(cluster: Lab) -> None:
    cluster.await_whole(30)
    replica = next(name for name in DB if name != cluster.leader())
    frozen = [(replica, "patroni"), (PROXIES[0], "haproxy"), (PROXIES[0], "pgbouncer")]
    for host, name in frozen:
        cluster.sh(host, f"docker pause {name}")
    try:
        ran = cluster.kbpg("status")
    finally:
        for host, name in frozen:
            cluster.sh(host, f"docker unpause {name}")
    assert ran.code == 0, ran.everything
    assert ran.seconds <= BOUNDED
    for said in (f"{replica} does not answer", f"HAProxy on {PROXIES[0]}", f"PgBouncer on {PROXIES[0]}"):
        assert said in ran.out
    cluster.await_whole(60)


def test_a_host_behind_a_cut_cable(cluster: Lab) -> None:
    cluster.await_whole(30)
    replica = next(name for name in DB if name != cluster.leader())
    drop = "iptables -I INPUT -i eth0 -j DROP; iptables -I OUTPUT -o eth0 -j DROP"
    back = "iptables -D INPUT -i eth0 -j DROP; iptables -D OUTPUT -o eth0 -j DROP"
    with undone(cluster, replica, drop, back):
        ran = cluster.kbpg("status")
    assert ran.code == 0, ran.everything
    assert ran.seconds <= BOUNDED
    assert f"{replica} unreachable" in ran.out.splitlines()[0]
    cluster.await_whole(60)


def test_without_a_leader(cluster: Lab) -> None:
    try:
        cluster.everywhere("docker stop -t 30 patroni", DB)
        ran = cluster.kbpg("status")
    finally:
        cluster.everywhere("docker start patroni", DB)
    assert ran.code == 1, ran.everything
    assert ran.out.startswith("down: no leader, Patroni answers on no host")
    assert ran.seconds <= BOUNDED
    cluster.await_whole(90)


class Watch:
    """A running `status --watch --json`, whose documents are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._documents: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._documents.put(json.loads(line))

    def until(self, condition: Callable[[dict[str, Any]], bool], deadline: float, what: str) -> None:
        ends, last = time.monotonic() + deadline, None
        while time.monotonic() < ends:
            try:
                last = self._documents.get(timeout=max(0.1, ends - time.monotonic()))
            except Empty:
                break
            if condition(last):
                return
        pytest.fail(f"not within {deadline:g} s: {what}; last: {last and last['summary']}")


def test_a_watch_outlives_the_reboot_of_a_host(cluster: Lab) -> None:
    cluster.await_whole(30)
    replica = next(name for name in DB if name != cluster.leader())

    def state(found: dict[str, Any]) -> str:
        return str(next(each["state"] for each in found["members"] if each["name"] == replica))

    with killed_at_end(cluster.start("status", "--watch=1", "--json")) as process:
        watch = Watch(process)
        watch.until(lambda found: found["status"] == "healthy", 10, "healthy before the reboot")
        subprocess.run(["docker", "restart", "-t", "1", f"kbpg-{replica}"], check=True, capture_output=True)
        watch.until(lambda found: state(found) in ("unreachable", "no answer"), 30, "the host is away")
        watch.until(lambda found: state(found) == "streaming", 90, "the host is back")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
