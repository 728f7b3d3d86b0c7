"""What breaks clusters, caused for real: one `diagnose --repair --yes` mends it, and no row is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.lab.conftest import DB, Lab, Ran

pytestmark = [pytest.mark.lab, pytest.mark.faults]

PGDATA = "/opt/keybuzz/postgres/data/pgdata"
ZERO_WAL = (
    f"cd {PGDATA}/pg_wal && for s in $(ls | grep -E '^[0-9A-F]{{24}}$'); do"
    " dd if=/dev/zero of=$s bs=1M count=16 conv=notrunc 2>/dev/null; done"
)
"""Overwrites every segment: no checkpoint record is left, as after a disk that lost its writes."""


@pytest.fixture
def cluster(lab: Lab) -> Lab:
    """A whole cluster; a replica that an earlier test left broken is cloned anew by hand, or apply-all would wait."""
    sick = lab.kbpg("diagnose").code != 0
    for host in DB if sick else ():
        if _fails(lab, host) and _leads(lab, host):
            lab.sh(host, f"docker stop -t 30 patroni; rm -rf {PGDATA}; docker start patroni", check=False)
    lab.apply()
    return lab


def replica(lab: Lab) -> str:
    return next(host for host in reversed(DB) if host != lab.leader())


def write_row(lab: Lab) -> None:
    with lab.connect("haproxy-01", 6432) as connection:
        connection.execute("drop table if exists kept; create table kept (n int primary key)")
        connection.execute("insert into kept values (42)")


def repaired(lab: Lab, *args: str) -> dict[str, Any]:
    """Run one repair and return its JSON; the cluster is healthy afterwards and the row is there, on every node."""
    ran = lab.kbpg("diagnose", "--repair", "--yes", "--json", *args, timeout=400)
    assert ran.code == 0, ran.everything
    document: dict[str, Any] = json.loads(ran.out)
    assert document["healthy"], ran.everything
    assert_kept(lab)
    assert lab.kbpg("plan").code == 0
    return document


def psql(lab: Lab, host: str, query: str, database: str = "keybuzz") -> str:
    """Ask a node's own PostgreSQL over its socket; nobody but the nodes may connect to it from outside."""
    how = f"docker exec -u 999 patroni psql -U kb_admin -d {database} -Atc"
    return lab.sh(host, f'{how} "{query}"', check=False).strip()


def assert_kept(lab: Lab) -> None:
    lab.await_whole(deadline=10)
    for host in DB:
        lab.until(
            lambda host=host: psql(lab, host, "select distinct n from kb_app.kept") == "42",
            10,
            f"the row on {host}",
        )


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {f"{each['host']}: {each['finding']}": each["verdict"] for each in document["repairs"]}


# --- the mission's failures ------------------------------------------------------------------------------


def test_image_and_container_gone(cluster: Lab) -> None:
    write_row(cluster)
    host = replica(cluster)
    cluster.sh(host, "docker rm -f patroni && docker rmi -f patroni-pg16-raft:latest")
    document = repaired(cluster)
    assert verdicts(document) == {f"{host}: image-missing": "mended"}
    assert cluster.sh(host, "docker inspect --format '{{.State.Status}}' patroni").strip() == "running"


@pytest.mark.parametrize(
    "damage",
    [f"chmod 0777 {PGDATA}", f"chown 0:0 {PGDATA}", f"chown -R 0:0 {PGDATA} && chmod 0755 {PGDATA}"],
)
def test_wrong_owner_or_mode_of_a_replicas_data(cluster: Lab, damage: str) -> None:
    write_row(cluster)
    host = replica(cluster)
    cluster.sh(host, f"docker stop -t 30 patroni && {damage} && docker start patroni")
    cluster.until(lambda: _fails(cluster, host), 30, "PostgreSQL refuses to start")
    assert verdicts(repaired(cluster)) == {f"{host}: data-permissions": "mended"}
    assert cluster.sh(host, f"stat -c '%u:%g %a' {PGDATA}").strip() == "999:999 700"


def _fails(lab: Lab, host: str) -> bool:
    try:
        return bool(lab.rest(host)["state"] not in ("running", "streaming"))
    except OSError:
        return True


def _has_found_out(lab: Lab, host: str) -> bool:
    """Whether Patroni, started just now, answers or has ended; until then a diagnosis says that it is on its way."""
    try:
        return lab.rest(host) is not None
    except OSError:
        count = "docker inspect --format '{{.RestartCount}} {{.State.Status}}' patroni"
        return lab.sh(host, count).split() != ["0", "running"]


def crash_without_wal(lab: Lab) -> str:
    """Kill the leader's container and lose its WAL; another node leads, and it comes back as a broken replica."""
    host = lab.leader()
    lab.sh(host, "docker kill patroni")
    lab.until(lambda: _leads(lab, host), 60, "another leader")
    lab.sh(host, f"{ZERO_WAL}; docker start patroni")
    says = (
        "docker logs --tail 200 patroni 2>&1 | grep -c 'could not locate a valid checkpoint record' || true"
    )
    lab.until(lambda: int(lab.sh(host, says)) > 0, 60, "no valid checkpoint record")
    return host


def _leads(lab: Lab, but: str) -> bool:
    """Return whether another node than `but` leads."""
    return any(role(lab, host) in ("primary", "master") for host in DB if host != but)


def role(lab: Lab, host: str) -> str:
    try:
        return str(lab.rest(host)["role"])
    except OSError:
        return "silent"


def test_no_valid_checkpoint_record(cluster: Lab) -> None:
    write_row(cluster)
    host = crash_without_wal(cluster)
    assert verdicts(repaired(cluster)) == {f"{host}: replica-no-checkpoint": "mended"}


def test_damaged_pg_control(cluster: Lab) -> None:
    """Not even the identifier is left: the host's own record says whose data it is, and one command clones it."""
    write_row(cluster)
    host = replica(cluster)
    control = f"{PGDATA}/global/pg_control"
    zero = f"dd if=/dev/zero of={control} bs=8192 count=1 conv=notrunc"
    cluster.sh(host, f"docker stop -t 30 patroni && {zero} && docker start patroni")
    cluster.until(lambda: _has_found_out(cluster, host), 30, "PostgreSQL does not start")
    ran = cluster.kbpg("diagnose", "--json")
    assert ran.code == 1, ran.everything
    (finding,) = [each for each in json.loads(ran.out)["findings"] if each["host"] == host]
    assert (finding["id"], finding["severity"]) == ("data-unreadable", "critical"), ran.out
    assert finding["remedy"].endswith(f"reinit {host}"), ran.out
    assert finding["repair"]["action"] == "reinitialize", ran.out
    assert verdicts(repaired(cluster)) == {f"{host}: data-unreadable": "mended"}
    identifiers = {cluster.sh(each, f"od -An -tu8 -N8 {control}").strip() for each in DB}
    assert len(identifiers) == 1
    assert identifiers != {"0"}
    cluster.sh(host, f"rm -rf {PGDATA}.broken-*")


def test_database_dropped(cluster: Lab) -> None:
    """The application's database is made anew, empty; what is in other databases is not touched."""
    leader = cluster.leader()
    psql(cluster, leader, "create table if not exists elsewhere (n int primary key)", "postgres")
    psql(cluster, leader, "insert into elsewhere values (7) on conflict do nothing", "postgres")
    psql(cluster, leader, "drop database keybuzz with (force)", "postgres")
    ran = cluster.kbpg("diagnose", "--repair", "--yes", "--json")
    assert ran.code == 0, ran.everything
    assert verdicts(json.loads(ran.out)) == {"cluster: database-missing": "mended"}
    assert cluster.one("haproxy-01", 6432, "select '[1,2,3]'::vector <-> '[1,2,4]'::vector") == 1
    assert psql(cluster, leader, "select n from elsewhere", "postgres") == "7"
    assert cluster.kbpg("plan").code == 0
    psql(cluster, leader, "drop table elsewhere", "postgres")


# --- more that is safe -----------------------------------------------------------------------------------


def stopped(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, "docker stop -t 30 patroni")
    return f"{host}: container-stopped"


def pooler_paused(lab: Lab) -> str:
    script = (
        "docker exec -i pgbouncer sh -c 'true' && "
        'p=$(sed -n \'s/^"pgbouncer_auth" "\\(.*\\)"$/\\1/p\' /opt/keybuzz/pgbouncer/userlist.txt); echo "$p"'
    )
    password = lab.sh("haproxy-01", script).strip()
    import psycopg

    with psycopg.connect(
        host=lab.addresses["haproxy-01"],
        port=6432,
        dbname="pgbouncer",
        user="pgbouncer_auth",
        password=password,
        autocommit=True,
        prepare_threshold=None,
    ) as console:
        console.execute("PAUSE")
    return "haproxy-01: pgbouncer-paused"


def two_at_once(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, f"docker stop -t 30 patroni && chmod 0777 {PGDATA} && docker start patroni")
    lab.sh("haproxy-02", "docker stop haproxy")
    return "haproxy-02: container-stopped"


@pytest.mark.parametrize("damage", [stopped, pooler_paused, two_at_once])
def test_mended_in_one_command(cluster: Lab, damage: Callable[[Lab], str]) -> None:
    write_row(cluster)
    finding = damage(cluster)
    assert verdicts(repaired(cluster))[finding] == "mended"


# --- what is refused -------------------------------------------------------------------------------------


def in_session(lab: Lab, script: str) -> Ran:
    """Run a few lines against kbpg's own operations, as a defect of its own would."""
    import subprocess
    import sys
    import time

    head = (
        "from pathlib import Path\n"
        "from kbpg.errors import KbpgError\n"
        "from kbpg.operations.place import site_of\n"
        "from kbpg.operations.reinit import reinitialize, restart_patroni, set_aside\n"
        "from kbpg.options import Options\n"
        "from kbpg.session import open_session\n"
        f"options = Options(chosen=Path({str(lab.inventory)!r}))\n"
        "with open_session(options, doing='test', lock=True, partial=True) as s:\n"
        "    site = site_of(s.context, s.hosts, s.controller, print)\n"
        "    try:\n"
        f"        {script}\n"
        "    except KbpgError as error:\n"
        "        print(type(error).__name__, *error.lines(), sep='\\n')\n"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", head], capture_output=True, text=True, timeout=200, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


@pytest.mark.parametrize("operation", ["reinitialize", "set_aside", "restart_patroni"])
def test_a_leader_is_never_touched(cluster: Lab, operation: str) -> None:
    write_row(cluster)
    leader, before = cluster.leader(), cluster.started()
    ran = in_session(cluster, f"{operation}(site, {leader!r})")
    assert ran.out.startswith("Refused\n"), ran.everything
    assert f"{leader} leads" in ran.out
    assert cluster.started() == before
    assert cluster.leader() == leader
    assert_kept(cluster)


def test_a_replica_that_streams_is_replaced_when_reinit_says_so(cluster: Lab) -> None:
    """Patroni answers before it begins: what streams at the first look is the old data."""
    write_row(cluster)
    host = replica(cluster)
    cluster.sh(host, f"touch {PGDATA}/of_the_old_copy")
    ran = cluster.kbpg("reinit", host, "--yes")
    assert ran.code == 0, ran.everything
    assert "of_the_old_copy" not in cluster.sh(host, f"ls {PGDATA}")
    assert_kept(cluster)


def test_a_broken_replica_is_left_alone_without_a_leader(cluster: Lab) -> None:
    """Its data may be the best there is: nothing is removed, and the reason is said."""
    write_row(cluster)
    broken = crash_without_wal(cluster)
    others = [host for host in DB if host != broken]
    for host in others:
        cluster.sh(host, "docker stop -t 30 patroni")
    for operation in ("reinitialize", "set_aside"):
        ran = in_session(cluster, f"{operation}(site, {broken!r})")
        assert ran.out.startswith("Refused\n"), ran.everything
        assert "no healthy leader exists" in ran.out
    assert "PG_VERSION" in cluster.sh(broken, f"ls {PGDATA}")
    assert "broken-" not in cluster.sh(broken, "ls /opt/keybuzz/postgres/data")
    # With the others back there is a leader, and one command mends all of it
    document = repaired(cluster)
    assert verdicts(document)[f"{broken}: replica-no-checkpoint"] == "mended"


def test_data_moved_aside_is_kept_and_the_replica_cloned(cluster: Lab) -> None:
    write_row(cluster)
    host = replica(cluster)
    ran = in_session(cluster, f"print(set_aside(site, {host!r}))")
    assert "rm -rf" in ran.out, ran.everything
    kept = cluster.sh(host, "ls -d /opt/keybuzz/postgres/data/pgdata.broken-*").split()
    assert len(kept) == 1
    assert "PG_VERSION" in cluster.sh(host, f"ls {kept[0]}")
    assert_kept(cluster)
    cluster.sh(host, f"rm -rf {kept[0]}")


def test_without_yes_and_without_a_terminal_nothing_is_done(cluster: Lab) -> None:
    host = replica(cluster)
    cluster.sh(host, "docker stop -t 30 patroni")
    ran = cluster.kbpg("diagnose", "--repair")
    assert ran.code == 1
    assert f"will start patroni on {host} as it is" in ran.err
    assert "--yes goes ahead without asking" in ran.out
    assert cluster.sh(host, "docker inspect --format '{{.State.Status}}' patroni").strip() == "exited"
    repaired_ran = cluster.kbpg("diagnose", "--repair", "--yes")
    assert repaired_ran.code == 0, repaired_ran.everything
