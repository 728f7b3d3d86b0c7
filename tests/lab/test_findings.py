"""Findings made to happen for real: diagnose names it first, with the right exit code, and it can be undone."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import uuid
from typing import Any

import pytest
from tests.lab import faults as f
from tests.lab import faults_patroni as p
from tests.lab import faults_table as table
from tests.lab.conftest import DB, Lab, Ran
from tests.lab.faults import Fault, back, on, on_leader

pytestmark = [pytest.mark.lab, pytest.mark.faults]

NOTICED, HEALTHY = 45, 60
"""Seconds: a fault is seen (two followers of Raft that say nothing to each other notice a dead connection by TCP's
keepalive, after 16 + 5 × 3 s: pysyncobj/config.py); a cluster is whole again."""
NOTICES = {"raft-deprecated", "pgvector-vulnerable"}

FAULTS = (
    # --- hosts
    Fault(
        "host-unreachable",
        "critical",
        "packets to the host's port 22 dropped",
        on("haproxy-02", f.cut("INPUT -p tcp --dport 22")),
        back(f.MENDED_CABLE),
    ),
    Fault(
        "ssh-refused",
        "critical",
        "root's authorized_keys moved away",
        on("haproxy-02", "mv /root/.ssh/authorized_keys /root/.ssh/away"),
        back("mv /root/.ssh/away /root/.ssh/authorized_keys"),
    ),
    Fault(
        "docker-down",
        "critical",
        "dockerd stopped with SIGSTOP",
        on("haproxy-02", "kill -STOP $(pidof dockerd)"),
        back("kill -CONT $(pidof dockerd)"),
    ),
    Fault(
        "docker-down",
        "critical",
        "dockerd ended on a host whose systemd is a stand-in",
        p.docker_ended,
        after=p.without_systemctl,
    ),
    Fault(
        "clock-skew",
        "critical",
        "faked: the host's `date` answers 5 s late",
        on("db-slave-02", f.SLOW_CLOCK),
        back("rm /usr/local/bin/date"),
    ),
    Fault(
        "disk-full",
        "warning",
        "/opt/keybuzz on a file system of 16 MB with 15 MB taken",
        on("haproxy-02", f.FULL_DISK),
        back("umount /opt/keybuzz && umount /mnt/small"),
    ),
    Fault(
        "port-taken",
        "critical",
        "an sshd listens on HAProxy's port 5432",
        on("haproxy-02", f.TAKEN_PORT),
        back("kill $(cat /run/taken.pid); docker restart -t 1 haproxy"),
    ),
    Fault(
        "memory-parameters",
        "warning",
        "ALTER SYSTEM SET shared_buffers to two thirds of the memory on a replica, and a restart",
        p.too_much_memory,
    ),
    Fault(
        "data-foreign",
        "critical",
        "another system identifier in a replica's cluster.json",
        p.another_identity,
        p.own_identity,
    ),
    # --- images and containers
    Fault(
        "data-shared",
        "critical",
        "another container with a replica's data directory",
        p.stranger,
        back("docker rm -f stranger"),
    ),
    Fault(
        "container-missing",
        "critical",
        "docker rm -f haproxy",
        on("haproxy-02", "docker rm -f haproxy"),
    ),
    Fault(
        "container-stopped",
        "critical",
        "docker stop pgbouncer",
        on("haproxy-01", "docker stop -t 2 pgbouncer"),
    ),
    Fault(
        "container-restarting",
        "critical",
        "nonsense in haproxy.cfg, and a restart",
        on("haproxy-02", f"echo nonsense >> {f.HAPROXY_CFG}; docker restart -t 1 haproxy; sleep 1"),
    ),
    Fault(
        "container-old",
        "warning",
        "docker update --restart no pgbouncer",
        on("haproxy-02", "docker update --restart no pgbouncer"),
    ),
    Fault(
        "container-unmanaged",
        "warning",
        "HAProxy started by hand with docker run",
        f.by_hand,
    ),
    Fault(
        "image-missing",
        "warning",
        "the image's tag removed",
        on("haproxy-02", "docker tag kbpg-haproxy:latest kept:1 && docker rmi kbpg-haproxy:latest"),
        back("docker tag kept:1 kbpg-haproxy:latest && docker rmi kept:1"),
    ),
    Fault(
        "configuration-not-loaded",
        "warning",
        "the marker of the last reload removed",
        on("haproxy-01", "rm /opt/keybuzz/kbpg/loaded/haproxy"),
    ),
    Fault(
        "data-permissions",
        "critical",
        "a replica's data directory with mode 0777, and a restart",
        f.permissions,
    ),
    # --- Raft
    Fault(
        "raft-ghost",
        "warning",
        "a member added where nobody listens",
        f.ghost,
    ),
    Fault(
        "raft-isolated",
        "critical",
        "Raft's packets of a replica dropped",
        f.isolated,
        back(f.MENDED_CABLE),
    ),
    Fault(
        "raft-isolated",
        "critical",
        "Raft's packets of a replica dropped, then a switchover between the others",
        p.stale_view,
        back(f.MENDED_CABLE),
        explains="a node sees another leader",
    ),
    Fault(
        "raft-unreachable",
        "warning",
        "Raft's packets between the two followers dropped",
        f.two_cut_apart,
        f.everywhere(f.MENDED_CABLE),
    ),
    Fault(
        "raft-no-quorum",
        "critical",
        "Raft's packets of two nodes dropped",
        f.without_quorum,
        f.everywhere(f.MENDED_CABLE),
    ),
    Fault(
        "raft-password",
        "critical",
        "another Raft password in a replica's secrets.yml, and a restart",
        p.raft_password,
    ),
    Fault(
        "raft-silent",
        "critical",
        "packets from a replica to its own port 7000 dropped",
        p.deaf_raft,
        back(f.MENDED_CABLE),
    ),
    # --- Patroni and replication
    Fault(
        "patroni-silent",
        "critical",
        "a replica's Patroni stopped with SIGSTOP",
        p.stopped_patroni,
        back(p.patroni("CONT")),
    ),
    Fault(
        "postgres-down",
        "critical",
        "Patroni paused, a replica's PostgreSQL stopped with pg_ctl",
        p.postgres_down,
    ),
    Fault(
        "postgres-silent",
        "critical",
        "a line that rejects the superuser put first in a replica's pg_hba.conf, and a reload",
        p.kept_out,
        p.let_in,
    ),
    Fault(
        "two-leaders",
        "critical",
        "Patroni paused, a replica promoted with pg_promote()",
        p.second_primary,
        p.resumed,
    ),
    Fault(
        "no-leader",
        "critical",
        "Patroni paused, the leader's PostgreSQL stopped with pg_ctl",
        p.no_leader,
    ),
    Fault(
        "patroni-paused",
        "warning",
        "PATCH /config: pause",
        p.configured(p.PAUSED),
    ),
    Fault(
        "pending-restart",
        "warning",
        "shared_buffers changed, a replica restarted, and changed back",
        p.pending_restart,
    ),
    Fault(
        "replica-password",
        "critical",
        "another replication password in a replica's secrets.yml, and a restart",
        p.replication_password,
    ),
    Fault(
        "replica-not-streaming",
        "critical",
        "packets from a replica to the leader's port 5432 dropped",
        p.no_way_to_the_leader,
        back(f.MENDED_CABLE),
    ),
    Fault(
        "replica-wal-removed",
        "critical",
        "a replica stopped, its slot dropped, the log it needs removed by checkpoints",
        p.wal_removed,
    ),
    Fault(
        "replica-diverged",
        "critical",
        "a replica promoted while paused; the log that pg_rewind needs removed",
        p.diverged,
    ),
    Fault(
        "replica-slot-missing",
        "critical",
        "a replica's slot dropped, all of max_replication_slots taken by others, which Patroni ignores",
        p.slots_taken,
        p.slots_freed,
    ),
    Fault(
        "replica-lag",
        "warning",
        "a replica's startup process stopped with SIGSTOP, 40 MB of log written",
        p.lagging,
        back(p.startup_process("CONT")),
    ),
    # No pg_wal_replay_pause(): Patroni ends it within one of its loops
    Fault(
        "slot-unused",
        "warning",
        "a slot of nobody's, which Patroni was told to ignore",
        p.slot_of_nobody,
        p.no_slot_of_nobody,
    ),
    Fault(
        "synchronous-missing",
        "critical",
        "PATCH /config: synchronous_mode off",
        p.configured({"synchronous_mode": False}),
    ),
    # --- what is in PostgreSQL
    Fault(
        "database-missing",
        "critical",
        "the database renamed",
        p.database_away,
        after=p.database_back,
    ),
    Fault(
        "role-missing",
        "critical",
        "the role renamed",
        on_leader("alter role kb_app rename to kb_app_away"),
        f.back_on_leader("alter role kb_app_away rename to kb_app"),
    ),
    Fault(
        "role-password",
        "critical",
        "ALTER ROLE kb_app PASSWORD",
        on_leader("alter role kb_app password 'something else'"),
    ),
    Fault(
        "scram-missing",
        "critical",
        "a role made with password_encryption = md5",
        on_leader("set password_encryption = 'md5'; create role old_app login password 'of old'"),
        f.back_on_leader("drop role old_app"),
    ),
    Fault(
        "unsafe-setting",
        "critical",
        "ALTER SYSTEM SET fsync = off on the leader",
        p.altered("fsync", "off"),
    ),
    Fault(
        "setting-overridden",
        "warning",
        "ALTER SYSTEM SET work_mem on the leader",
        p.altered("work_mem", "'64 MB'"),
    ),
    Fault(
        "extension-missing",
        "critical",
        "DROP EXTENSION vector",
        on_leader("drop extension vector", "keybuzz"),
    ),
    Fault(
        "extension-version",
        "critical",
        "0.8.1's script removed from a replica's container",
        f.older_on_disk,
        back(f.PUT_BACK),
    ),
    Fault(
        "extension-differs",
        "critical",
        "a newer version's script in a replica's container",
        p.newer_on_disk,
        p.older_again,
    ),
    Fault(
        "pgvector-vulnerable",
        "warning",
        "PATCH /config: max_parallel_maintenance_workers = 2",
        p.configured(p.parameters(max_parallel_maintenance_workers=2)),
    ),
    # --- HAProxy
    Fault(
        "haproxy-silent",
        "critical",
        "HAProxy stopped with SIGSTOP",
        on("haproxy-01", "kill -STOP $(pgrep haproxy)"),
        back("kill -CONT $(pgrep haproxy)"),
    ),
    Fault(
        "haproxy-no-leader",
        "critical",
        "packets to Patroni's port 8008 dropped",
        on("haproxy-01", f.cut("OUTPUT -p tcp --dport 8008")),
        back(f.MENDED_CABLE),
    ),
    Fault(
        "haproxy-route-wrong",
        "critical",
        "haproxy.cfg asks /replica for writers, and a reload",
        on("haproxy-01", f.edited(f.HAPROXY_CFG, "s,OPTIONS /primary,OPTIONS /replica,", f.RELOAD_HAPROXY)),
    ),
    Fault(
        "haproxy-unusable",
        "critical",
        "packets from a proxy to the leader's port 5432 dropped",
        p.no_way_from_the_proxy,
        back(f.MENDED_CABLE),
    ),
    Fault(
        "haproxy-replica-down",
        "warning",
        "packets from a proxy to a replica's port 8008 dropped",
        p.no_way_to_a_replica,
        back(f.MENDED_CABLE),
    ),
    # --- PgBouncer
    Fault(
        "pgbouncer-silent",
        "critical",
        "PgBouncer stopped with SIGSTOP",
        on("haproxy-01", "kill -STOP $(pgrep pgbouncer)"),
        back("kill -CONT $(pgrep pgbouncer)"),
    ),
    Fault(
        "pgbouncer-paused",
        "critical",
        "PAUSE on its console",
        f.paused,
    ),
    Fault(
        "pgbouncer-target",
        "critical",
        "pgbouncer.ini names a node, and a reload",
        f.past_haproxy,
    ),
    Fault(
        "pgbouncer-auth-query",
        "critical",
        "DROP FUNCTION pgbouncer.user_lookup",
        on_leader("drop function pgbouncer.user_lookup"),
    ),
    Fault(
        "pgbouncer-unusable",
        "critical",
        "HAProxy led writers to a replica and was mended by hand; PgBouncer keeps its connections",
        p.stale_connections,
    ),
    Fault(
        "pgbouncer-waiting",
        "warning",
        "13 clients with long queries for a pool of 10",
        f.crowd.make,
        f.crowd.undo,
    ),
    # --- files
    Fault(
        "certificate-expires",
        "warning",
        "a proxy's server.crt replaced by one that expires in ten days",
        f.soon_expired,
        back(f.CERTIFICATE_BACK),
    ),
    Fault(
        "secrets-readable",
        "warning",
        "PgBouncer's userlist.txt with mode 0644",
        on("haproxy-01", "chmod 0644 /opt/keybuzz/pgbouncer/userlist.txt"),
    ),
    Fault(
        "secrets-readable",
        "warning",
        "the credentials file with mode 0644",
        f.credentials_open,
    ),
    Fault(
        "drift",
        "warning",
        "HAProxy's directory with mode 0700",
        on("haproxy-02", "chmod 0700 /opt/keybuzz/haproxy"),
    ),
)


def diagnose(lab: Lab, *args: str) -> tuple[Ran, dict[str, Any]]:
    ran = lab.kbpg("diagnose", "--json", *args)
    assert ran.out, ran.err
    assert_no_secret(lab, ran)
    return ran, dict(json.loads(ran.out))


def assert_no_secret(lab: Lab, ran: Ran) -> None:
    """Search what kbpg printed for every password of the credentials file, and for verifiers."""
    text = (lab.directory / "credentials" / "postgres.env").read_text()
    values = re.findall(r"^\w*PASS\w*='?([^'\n]+)'?$", text, re.MULTILINE)
    assert len(values) >= 2, "no password in the credentials file"
    assert not [value for value in values if value in ran.everything]
    assert "SCRAM-SHA-256$" not in ran.everything.replace("SCRAM-SHA-256$4096:***", "")


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
        p.as_found(lab)
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
    host = ""
    try:
        host = fault.make(lab)
        first, seconds = assert_named(lab, fault, host)
        mended = "by hand" if fault.undo else repaired(lab, fault)
    finally:
        for undo in (fault.undo, fault.after):
            if undo and host:
                undo(lab, host)
    await_healthy(lab)
    assert_kept(lab, row)
    table.record(lab, fault, first, seconds, mended)


def repaired(lab: Lab, fault: Fault) -> str:
    """Let one command mend it; return in words what it did."""
    ran = lab.kbpg("diagnose", "--repair", "--yes", "--json")
    assert_no_secret(lab, ran)
    assert ran.out, ran.err
    document = json.loads(ran.out)
    print(f"repair: exit {ran.code}, {ran.seconds:.1f} s")
    for each in document["repairs"]:
        print(f"  {each['host']}: {each['finding']}: {each['verdict']}: {each['said'] or each['error']}")
    assert ran.code == 0, ran.everything
    assert document["repairs"], ran.everything
    assert {each["verdict"] for each in document["repairs"]} == {"mended"}, ran.everything
    return f"`--repair`, {ran.seconds:.0f} s"


def assert_named(lab: Lab, fault: Fault, host: str) -> tuple[dict[str, Any], float]:
    """Wait until diagnose says this first; return the finding, and after how many seconds it was there."""
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
    print(f"  all: {last[1]}")
    if first["repair"]:
        print(f"  kbpg will {first['repair']['will']}; risk: {first['repair']['risk']}")
    assert first["remedy"]
    assert first["why"]
    assert not fault.explains or f"{host}: {fault.explains}" in first["explains"], first["explains"]
    return first, seconds


@pytest.mark.parametrize("damage", [f.EMPTY, f.ZEROS], ids=["empty", "zeros"])
def test_a_damaged_raft_log_is_replaced_by_its_partners(healthy: Lab, row: str, damage: str) -> None:
    lab = healthy
    fault = Fault("raft-log-damaged", "critical", "a replica's Raft log damaged", f.raft_log(damage))
    host = fault.make(lab)
    data = f"stat -c '%i %W' {f.PGDATA} {f.PGDATA}/PG_VERSION"
    before = lab.sh(host, data)
    raft = f.RAFT_LOG.rpartition("/")[0]
    try:
        first, _ = assert_named(lab, fault, host)
        assert first["remedy"].endswith(f"diagnose --repair --host {host}")
        assert first["repair"]["action"] == "renew-raft-log"
        repaired(lab, fault)
    finally:
        # What a repair that failed has left; one that went well leaves this too
        kept = lab.sh(host, f"ls -d {raft}.before-*; true").split()
        if not kept:
            lab.sh(host, f"docker stop -t 30 patroni; rm -f {raft}/*; docker start patroni")
    await_healthy(lab)
    assert_kept(lab, row)
    assert len(kept) == 1
    assert re.fullmatch(rf"{raft}\.before-\d{{8}}T\d{{6}}Z", kept[0])
    assert lab.sh(host, f"ls {kept[0]}").strip()
    assert lab.sh(host, f"stat -c '%u:%g %a' {raft}").strip() == "999:999 700"
    assert lab.sh(host, data) == before
    lab.sh(host, f"rm -rf {kept[0]}")


def test_two_damaged_raft_logs_are_left_to_the_rebuild(healthy: Lab, row: str) -> None:
    """Who had the quorum's log is not for a repair to guess; the leader's data is what the rebuild goes by."""
    lab, leader = healthy, healthy.leader()
    both = [host for host in DB if host != leader]
    for host in both:
        f.raft_log(f.EMPTY, host)(lab)

    def named() -> bool:
        found = [each for each in diagnose(lab)[1]["findings"] if each["id"] == "raft-log-damaged"]
        return {each["host"]: each["remedy"].endswith("raft rebuild") for each in found} == dict.fromkeys(
            both, True
        )

    try:
        lab.until(named, NOTICED, "two damaged logs, and no quorum")
        ran = lab.kbpg("diagnose", "--repair", "--yes", "--json")
        assert not [each for each in json.loads(ran.out)["repairs"] if each["finding"] == "raft-log-damaged"]
    finally:
        rebuilt = lab.kbpg("raft", "rebuild", "--yes", timeout=400)
    assert rebuilt.code == 0, rebuilt.everything
    await_healthy(lab)
    assert_kept(lab, row)
    lab.everywhere(f"rm -rf {f.RAFT_LOG.rpartition('/')[0]}.before-*", DB)


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


def test_a_docker_that_hangs_is_left_to_a_person(healthy: Lab) -> None:
    """A restart would end its containers; where there is no systemd, kbpg does not know how to start it either."""
    host = "haproxy-02"
    for systemd, reason in ((False, "not run by systemd"), (True, "runs and does not answer")):
        if systemd:
            p.with_systemctl(healthy, host)
        healthy.sh(host, "kill -STOP $(pidof dockerd)")
        try:
            ran = healthy.kbpg("diagnose", "--repair", "--yes", "--json")
        finally:
            healthy.sh(host, "kill -CONT $(pidof dockerd)")
            if systemd:
                p.without_systemctl(healthy, host)
        (attempt,) = json.loads(ran.out)["repairs"]
        assert (attempt["finding"], attempt["verdict"]) == ("docker-down", "refused")
        assert reason in attempt["error"][0]
        assert ran.code == 1
    await_healthy(healthy)


def test_two_primaries_are_left_to_a_person(healthy: Lab, row: str) -> None:
    """The end of the pause would let Patroni rewind one of them, and what only that has written would be lost."""
    second = f.replica(healthy)
    p.second_primary(healthy)
    try:
        ran = healthy.kbpg("diagnose", "--repair", "--yes", "--json")
        assert ran.code == 1, ran.everything
        assert json.loads(ran.out)["repairs"] == []
        assert all(healthy.rest(host).get("pause") for host in DB)
        assert f.psql(healthy, second, "select count(*) from of_the_second") == "0"
    finally:
        p.resumed(healthy)
    await_healthy(healthy)
    assert_kept(healthy, row)


def test_two_faults_at_once(healthy: Lab, row: str) -> None:
    host = f.replica(healthy)
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
