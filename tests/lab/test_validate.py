"""`kbpg validate` on the real cluster: everything passes, nothing is left, and faults are named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from tests.lab.conftest import DB, Lab, Ran

pytestmark = pytest.mark.lab


def outcomes(ran: Ran) -> dict[str, dict[str, Any]]:
    """Return the checks of a `--json` run by id."""
    return {check["id"]: check for check in json.loads(ran.out)["checks"]}


def tables(lab: Lab) -> int:
    """Return how many tables of validate's there are."""
    query = "select count(*) from pg_class where relname like 'kbpg_validate%'"
    return int(lab.one("haproxy-01", 5432, query, admin=True))


def test_everything_passes_and_nothing_is_left(cluster: Lab, tmp_path: Path) -> None:
    cluster.await_whole(deadline=30)
    before = cluster.started()
    ran = cluster.kbpg("validate", "--json", "--report", str(tmp_path))
    assert ran.code == 0, ran.everything
    checks = outcomes(ran)
    assert {check["outcome"] for check in checks.values()} == {"passed"}
    assert len(checks) >= 28
    assert tables(cluster) == 0
    assert cluster.started() == before
    leader = cluster.leader()
    replicas = [name for name in DB if name != leader]
    measured = checks["replicated"]["milliseconds"]
    assert {f"visible on {n}, written through {p}" for n in replicas for p in (5432, 6432)} == set(measured)
    assert all(0 < ms < 5000 for ms in measured.values())
    assert any("Index Scan using kbpg_validate_" in line for line in checks["vector"]["evidence"])
    assert len(checks["cancel"]["milliseconds"]) == 4  # each proxy's query, from each proxy
    assert all("25006" in line for line in checks["read-only"]["evidence"])
    assert len(checks["wrong-password"]["evidence"]) == 8
    secrets = [value for name, value in cluster.credentials.items() if name.endswith("PASS")]
    assert len(secrets) == 2
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644
        assert not [secret for secret in secrets if secret in path.read_text()]
    suites = Tree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 - kbpg's own
    assert suites.get("tests") == str(len(checks))
    assert suites.get("failures") == suites.get("skipped") == "0"


def test_many_runs_find_nothing_wrong(cluster: Lab) -> None:
    cluster.await_whole(deadline=30)
    for _ in range(3):
        ran = cluster.kbpg("validate")
        assert ran.code == 0, ran.everything


@pytest.mark.figures
def test_it_takes_seconds(cluster: Lab) -> None:
    cluster.await_whole(deadline=30)
    seconds = sorted(cluster.kbpg("validate").seconds for _ in range(5))
    assert seconds[2] < 15, seconds


@contextmanager
def broken(lab: Lab, *faults: tuple[str, str]) -> Iterator[None]:
    """Stop containers of hosts, and start them again."""
    try:
        for host, name in faults:
            lab.sh(host, f"docker stop -t 20 {name}")
        yield
    finally:
        for host, name in faults:
            lab.sh(host, f"docker start {name}")
        lab.await_whole(deadline=60)


def test_a_replica_and_a_proxy_that_are_down_are_named(cluster: Lab, tmp_path: Path) -> None:
    cluster.await_whole(deadline=30)
    replica = next(name for name in DB if name != cluster.leader())
    with broken(cluster, (replica, "patroni"), ("haproxy-02", "haproxy")):
        ran = cluster.kbpg("validate", "--json", "--report", str(tmp_path))
    assert ran.code == 1, ran.everything
    checks = outcomes(ran)
    assert checks["leader"]["outcome"] == "passed"
    assert checks["rest"]["summary"].startswith(f"{replica}: ")
    assert checks["haproxy"]["summary"] == "haproxy-02: container haproxy is exited"
    for ident in ("nodes", "streaming", "raft", "haproxy-port", "replicated"):
        assert checks[ident]["outcome"] == "failed", checks[ident]
    # What still works is said to work: the other HAProxy stands in for PgBouncer's own
    for ident in ("connect-app-pooled", "write-pooled", "vector", "cancel", "removed"):
        assert checks[ident]["outcome"] == "passed", checks[ident]
    assert tables(cluster) == 0
    findings = {(f["host"], f["id"]) for f in json.loads(ran.out)["findings"]}
    assert {(replica, "container-stopped"), ("haproxy-02", "container-stopped")} <= findings
    assert "What is wrong, and what mends it" in (tmp_path / "report.html").read_text()


def test_a_weak_method_is_found(cluster: Lab) -> None:
    """A rule for MD5 that somebody adds on a replica, and a role with an MD5 password."""
    replica = next(name for name in DB if name != cluster.leader())
    hba = "/var/lib/postgresql/data/pgdata/pg_hba.conf"
    rule = "host all somebody 192.0.2.9/32 md5"
    psql = "docker exec -u 999 patroni psql -U kb_admin -d postgres -qAtc"
    leader = cluster.leader()
    try:
        cluster.sh(replica, f"docker exec -u 999 patroni sh -c \"echo '{rule}' >>{hba}\"")
        cluster.sh(
            leader, f"{psql} \"set password_encryption='md5'; create role somebody login password 'x1'\""
        )
        check = outcomes(cluster.kbpg("validate", "--json"))["strong-only"]
    finally:
        cluster.sh(leader, f'{psql} "drop role if exists somebody"')
        cluster.sh(replica, f"docker exec -u 999 patroni sed -i '/somebody/d' {hba}")
    assert check["outcome"] == "failed"
    said = "\n".join(check["evidence"])
    assert f"{replica}: pg_hba.conf lets somebody in by md5 from 192.0.2.9" in said
    assert "role somebody has no SCRAM password" in said


def test_an_abandoned_table_is_removed_and_others_are_not(cluster: Lab) -> None:
    old, young, foreign = ("kbpg_validate_0123456789ab", "kbpg_validate_ba9876543210", "kbpg_validated")
    with cluster.connect("haproxy-01", 5432) as connection:
        for name, age in ((old, "2 hours"), (young, "1 minute"), (foreign, "2 days")):
            connection.execute(f"create table kb_app.{name} (id int)".encode())
            made = connection.execute(f"select (now() - interval '{age}')::text".encode()).fetchone()
            assert made is not None
            connection.execute(f"comment on table kb_app.{name} is '{made[0]}'".encode())
        try:
            assert cluster.kbpg("validate").code == 0
            query = b"select relname from pg_class where relkind = 'r' and relname like 'kbpg_validate%'"
            assert {row[0] for row in connection.execute(query)} == {young, foreign}
        finally:
            for name in (old, young, foreign):
                connection.execute(f"drop table if exists kb_app.{name}".encode())


@pytest.mark.parametrize("moment", [0.8, 1.6])
def test_an_interrupted_run_leaves_no_table(cluster: Lab, moment: float) -> None:
    import signal
    import time

    process = cluster.start("validate")
    time.sleep(moment)  # no condition: whatever it is doing then
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    gone: Callable[[], bool] = lambda: tables(cluster) == 0  # noqa: E731
    cluster.until(gone, 10, "the table is gone")
