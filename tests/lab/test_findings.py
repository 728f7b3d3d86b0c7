"""Findings made to happen for real: diagnose names it first, with the right exit code, and it can be undone."""

from __future__ import annotations

import json
import statistics
import subprocess
import uuid
from typing import Any

import pytest
from tests.lab import faults as f
from tests.lab.conftest import DB, Lab, Ran
from tests.lab.faults import Fault, back, on, on_leader

pytestmark = [pytest.mark.lab, pytest.mark.faults]

NOTICED, HEALTHY = 25, 60
"""Seconds: a fault is seen (members of Raft that start get 20 s of patience); a cluster is whole again."""
NOTICES = {"raft-deprecated", "pgvector-vulnerable"}

FAULTS = (
    # --- hosts
    Fault(
        "host-unreachable",
        "critical",
        on("haproxy-02", f.cut("INPUT -p tcp --dport 22")),
        back(f.MENDED_CABLE),
    ),
    Fault(
        "ssh-refused",
        "critical",
        on("haproxy-02", "mv /root/.ssh/authorized_keys /root/.ssh/away"),
        back("mv /root/.ssh/away /root/.ssh/authorized_keys"),
    ),
    Fault(
        "docker-down",
        "critical",
        on("haproxy-02", "kill -STOP $(pidof dockerd)"),
        back("kill -CONT $(pidof dockerd)"),
    ),
    Fault("clock-skew", "critical", on("db-slave-02", f.SLOW_CLOCK), back("rm /usr/local/bin/date")),
    Fault(
        "disk-full",
        "warning",
        on("haproxy-02", f.FULL_DISK),
        back("umount /opt/keybuzz && umount /mnt/small"),
    ),
    Fault(
        "port-taken",
        "critical",
        on("haproxy-02", f.TAKEN_PORT),
        back("kill $(cat /run/taken.pid); docker restart -t 1 haproxy"),
    ),
    # --- images and containers
    Fault("container-missing", "critical", on("haproxy-02", "docker rm -f haproxy")),
    Fault("container-stopped", "critical", on("haproxy-01", "docker stop -t 2 pgbouncer")),
    Fault(
        "container-restarting",
        "critical",
        on("haproxy-02", f"echo nonsense >> {f.HAPROXY_CFG}; docker restart -t 1 haproxy; sleep 1"),
    ),
    Fault("container-old", "warning", on("haproxy-02", "docker update --restart no pgbouncer")),
    Fault("container-unmanaged", "warning", f.by_hand),
    Fault(
        "image-missing",
        "warning",
        on("haproxy-02", "docker tag kbpg-haproxy:latest kept:1 && docker rmi kbpg-haproxy:latest"),
        back("docker tag kept:1 kbpg-haproxy:latest && docker rmi kept:1"),
    ),
    Fault(
        "configuration-not-loaded",
        "warning",
        on("haproxy-01", "rm /opt/keybuzz/kbpg/loaded/haproxy"),
    ),
    Fault("data-permissions", "critical", f.permissions),
    # --- Raft
    Fault("raft-ghost", "warning", f.ghost),
    Fault("raft-isolated", "critical", f.isolated, back(f.MENDED_CABLE)),
    Fault("raft-unreachable", "warning", f.two_cut_apart, f.everywhere(f.MENDED_CABLE)),
    Fault("raft-no-quorum", "critical", f.without_quorum, f.everywhere(f.MENDED_CABLE)),
    # --- what is in PostgreSQL
    Fault(
        "role-missing",
        "critical",
        on_leader("alter role kb_app rename to kb_app_away"),
        f.back_on_leader("alter role kb_app_away rename to kb_app"),
    ),
    Fault("role-password", "critical", on_leader("alter role kb_app password 'something else'")),
    Fault(
        "scram-missing",
        "critical",
        on_leader("set password_encryption = 'md5'; create role old_app login password 'of old'"),
        f.back_on_leader("drop role old_app"),
    ),
    Fault("extension-missing", "critical", on_leader("drop extension vector", "keybuzz")),
    Fault("extension-version", "critical", f.older_on_disk, back(f.PUT_BACK)),
    # --- HAProxy
    Fault(
        "haproxy-silent",
        "critical",
        on("haproxy-01", "kill -STOP $(pgrep haproxy)"),
        back("kill -CONT $(pgrep haproxy)"),
    ),
    Fault(
        "haproxy-no-leader",
        "critical",
        on("haproxy-01", f.cut("OUTPUT -p tcp --dport 8008")),
        back(f.MENDED_CABLE),
    ),
    Fault(
        "haproxy-route-wrong",
        "critical",
        on("haproxy-01", f.edited(f.HAPROXY_CFG, "s,OPTIONS /primary,OPTIONS /replica,", f.RELOAD_HAPROXY)),
    ),
    # --- PgBouncer
    Fault(
        "pgbouncer-silent",
        "critical",
        on("haproxy-01", "kill -STOP $(pgrep pgbouncer)"),
        back("kill -CONT $(pgrep pgbouncer)"),
    ),
    Fault(
        "pgbouncer-paused",
        "critical",
        f.paused,
    ),
    Fault(
        "pgbouncer-target",
        "critical",
        f.past_haproxy,
    ),
    Fault("pgbouncer-auth-query", "critical", on_leader("drop function pgbouncer.user_lookup")),
    Fault("pgbouncer-waiting", "warning", f.crowd.make, f.crowd.undo),
    # --- files
    Fault("secrets-readable", "warning", on("haproxy-01", "chmod 0644 /opt/keybuzz/pgbouncer/userlist.txt")),
    Fault("secrets-readable", "warning", f.credentials_open),
    Fault("drift", "warning", on("haproxy-02", "chmod 0700 /opt/keybuzz/haproxy")),
)


def diagnose(lab: Lab, *args: str) -> tuple[Ran, dict[str, Any]]:
    ran = lab.kbpg("diagnose", "--json", *args)
    assert ran.out, ran.err
    return ran, dict(json.loads(ran.out))


def serious(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return id, host and severity of everything above a notice, worst first."""
    return [
        (each["id"], each["host"], each["severity"])
        for each in document["findings"]
        if each["severity"] != "notice"
    ]


def await_healthy(lab: Lab, deadline: float = HEALTHY) -> None:
    last: list[Any] = []

    def healthy() -> bool:
        ran, document = diagnose(lab)
        last[:] = [ran.code, serious(document)]
        return ran.code == 0 and not last[1]

    try:
        lab.until(healthy, deadline, "healthy")
    except AssertionError as late:
        raise AssertionError(f"{late}: {last}") from None


@pytest.fixture
def healthy(lab: Lab) -> Lab:
    """A cluster in which diagnose finds nothing above a notice."""
    try:
        await_healthy(lab, deadline=5)
    except AssertionError:
        lab.apply()
        await_healthy(lab)
    return lab


@pytest.fixture
def row(healthy: Lab) -> str:
    """A row that is written before, and must be there after."""
    written = uuid.uuid4().hex
    f.psql(
        healthy,
        healthy.leader(),
        f"create table if not exists findings (id text); insert into findings values ('{written}')",  # noqa: S608
        "keybuzz",
    )
    return written


def assert_kept(lab: Lab, row: str) -> None:
    query = f"select id from findings where id = '{row}'"  # noqa: S608

    def everywhere() -> bool:
        return [f.psql(lab, host, query, "keybuzz") for host in DB] == [row] * len(DB)

    lab.until(everywhere, 10, "the row on every node")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_named_first_and_undone(healthy: Lab, row: str, fault: Fault) -> None:
    lab = healthy
    host = fault.make(lab)
    try:
        assert_named(lab, fault, host)
    finally:
        if fault.undo:
            fault.undo(lab, host)
    if fault.undo is None:
        ran = lab.kbpg("diagnose", "--repair", "--yes", "--json")
        print(f"repair: exit {ran.code}, {ran.seconds:.1f} s")
        assert any(r["verdict"] == "mended" for r in json.loads(ran.out)["repairs"]), ran.everything
    await_healthy(lab)
    assert_kept(lab, row)


def assert_named(lab: Lab, fault: Fault, host: str) -> None:
    last: list[Any] = []

    def named() -> bool:
        ran, document = diagnose(lab)
        last[:] = [ran.code, serious(document), document["findings"][:1]]
        found = serious(document)
        return ran.code == fault.code and found[:1] == [(fault.id, host, fault.severity)]

    try:
        seconds = lab.until(named, NOTICED, f"{fault.id} of {host} first")
    except AssertionError as late:
        raise AssertionError(f"{late}: {last}") from None
    first = last[2][0]
    print(f"\n{fault.id}: after {seconds:.1f} s: {first['host']}: {first['seen']}\n  mend: {first['remedy']}")
    assert first["remedy"]
    assert first["why"]


def test_an_inventory_that_asks_for_more_than_hosts_have(healthy: Lab) -> None:
    """Too few open files for the wanted connections, less memory than promised: seen before it is applied."""

    def more(settings: dict[str, Any]) -> None:
        settings["haproxy"] = {"max_connections": 20000}
        settings["postgresql"]["memory"] = "100GB"

    wanted = healthy.edited(healthy.directory / "more.yaml", more)
    try:
        ran = healthy.kbpg("diagnose", "--json", inventory=wanted)
    finally:
        wanted.unlink()
    found = serious(json.loads(ran.out))
    assert ran.code == 1, ran.everything
    assert found[0] == ("nofile-low", "haproxy-01", "critical")
    assert ("memory-promised", "db-master-01", "warning") in found


def test_two_faults_at_once(healthy: Lab, row: str) -> None:
    host = f.standby(healthy)
    healthy.sh("haproxy-01", "docker stop -t 1 haproxy")
    f.permissions(healthy)

    def both() -> bool:
        ran, document = diagnose(healthy)
        found = [finding for finding in serious(document) if finding[2] == "critical"]
        return ran.code == 1 and found == [
            ("container-stopped", "haproxy-01", "critical"),
            ("data-permissions", host, "critical"),
        ]

    healthy.until(both, NOTICED, "both causes, and nothing that follows from them")
    ran = healthy.kbpg("diagnose", "--repair", "--yes")
    assert ran.code == 0, ran.everything
    await_healthy(healthy)
    assert_kept(healthy, row)


def power(host: str, what: str) -> None:
    """Cut a host's power (`kill`), or give it back (`start`)."""
    subprocess.run(["docker", what, f"kbpg-{host}"], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("off", ["haproxy-02", "db-slave-02"])
def test_a_host_without_power_does_not_hide_the_others(healthy: Lab, row: str, off: str) -> None:
    healthy.sh("haproxy-01", "docker stop -t 1 pgbouncer")
    power(off, "kill")
    try:
        ran, document = diagnose(healthy)
    finally:
        power(off, "start")
    print(f"\n{off} off: {ran.seconds:.1f} s, {serious(document)}")
    assert ran.code == 1
    assert ran.seconds <= 10
    found = {finding[:2] for finding in serious(document)}
    assert {("host-unreachable", off), ("container-stopped", "haproxy-01")} <= found
    assert healthy.kbpg("diagnose", "--repair", "--yes").out
    await_healthy(healthy)
    assert_kept(healthy, row)


def test_a_healthy_cluster_is_healthy_twenty_times(healthy: Lab) -> None:
    seconds = []
    for _ in range(20):
        ran, document = diagnose(healthy)
        seconds.append(ran.seconds)
        assert ran.code == 0, ran.everything
        assert {each["id"] for each in document["findings"]} == NOTICES
        assert not document["unreachable"]
    shown = f"min {min(seconds):.2f}, median {statistics.median(seconds):.2f}, max {max(seconds):.2f} s"
    print(f"\ndiagnose, healthy, 20 runs: {shown}")
    assert statistics.median(seconds) <= 3, shown
