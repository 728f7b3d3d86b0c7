"""Killed, cut off, rebooted: the next run, or the hosts by themselves, finish the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.lab.conftest import DB, HOSTS, Lab, killed_at_end
from tests.lab.faults import psql, replica
from tests.lab.faults_patroni import ask, paused
from tests.lab.load import writing
from tests.lab.test_repair import write_row

pytestmark = pytest.mark.lab

CUT_SSH = "pkill -KILL -f '^sshd-session' || pkill -KILL -f '^sshd: root' || true"
"""Ends the SSH sessions of a host, and nothing else of it."""


SESSIONS = "pgrep -f '^sshd-session: root@'"
"""Processes of SSH sessions that have been let in."""

MORE = [pytest.param(moment, marks=pytest.mark.faults) for moment in (0.6, 1.2, 2.6, 3.5, 4.2, 5.0, 7.2)]


@pytest.mark.parametrize("moment", [1.9, 6.5, 8.0, *MORE])
def test_killed_at_any_moment_the_next_run_converges(bare: Lab, moment: float) -> None:
    with killed_at_end(bare.start("apply-all")) as process:
        time.sleep(moment)  # the moment itself is what is tested
        assert process.poll() is None, "it had ended"
        os.kill(process.pid, signal.SIGKILL)
    path = bare.directory / "credentials" / "postgres.env"
    before = path.read_bytes() if path.exists() else None
    bare.apply()
    assert before in (None, path.read_bytes())
    assert bare.one("haproxy-01", 6432, "select '[1,2,3]'::vector <-> '[1,2,4]'::vector") == 1
    assert bare.kbpg("plan").code == 0


@pytest.mark.parametrize(
    ("step", "host", "container"),
    [("02 patroni", "db-slave-01", "patroni"), ("03 haproxy", "haproxy-01", "haproxy")],
)
def test_ssh_cut_in_the_middle_of_a_step(bare: Lab, step: str, host: str, container: str) -> None:
    with killed_at_end(bare.start("apply-all")) as process:
        there = f"docker inspect {container} >/dev/null 2>&1 && echo yes || true"
        bare.until(lambda: bare.sh(host, there).strip() == "yes", 60, f"{container} on {host}")
        bare.sh(host, CUT_SSH)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert host in err
    assert step in err
    assert "Traceback" not in err
    bare.apply()
    assert bare.one("haproxy-02", 6432, "select 1") == 1
    assert bare.kbpg("plan").code == 0


@pytest.mark.parametrize("moment", ["connected", "restarting"])
def test_ssh_cut_while_a_cluster_with_data_is_changed(cluster: Lab, moment: str) -> None:
    """PostgreSQL restarts node by node, and the connection to one ends: nothing is lost, and the next run goes on."""
    write_row(cluster)
    path = cluster.directory / "interrupted.yaml"
    inventory = cluster.edited(path, lambda s: s.setdefault("postgresql", {}).update(max_connections=350))
    cut = replica(cluster)
    before = cluster.rest(cut)["postmaster_start_time"]
    with writing(cluster, 4) as load:
        load.go_on_for(1)
        with killed_at_end(cluster.start("apply-all", inventory=inventory)) as process:
            reached = {
                "connected": lambda: bool(cluster.sh(cut, f"{SESSIONS} || true").strip()),
                "restarting": lambda: _restarted(cluster, cut, before),
            }[moment]
            cluster.until(reached, 60, f"kbpg is {moment} at {cut}")
            cluster.sh(cut, CUT_SSH)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1, err
        assert cut in err
        assert "the SSH connection was lost" in err
        cluster.apply(inventory)
        load.go_on_for(1)
        seen = load.stop()
    assert (seen.errors, seen.lost) == ((), 0)
    assert {psql(cluster, host, "show max_connections") for host in DB} == {"350"}
    assert psql(cluster, cluster.leader(), "select n from kb_app.kept", "keybuzz") == "42"
    path.unlink()
    cluster.apply()


def _restarted(lab: Lab, host: str, before: str) -> bool:
    """Return whether PostgreSQL there is down, or was started after `before`, as its Patroni says."""
    try:
        return bool(lab.rest(host).get("postmaster_start_time") != before)
    except OSError:  # Patroni itself is away: that is a reload's moment, not a restart of PostgreSQL
        return False


def restart(lab: Lab, *hosts: str) -> None:
    """Restart lab hosts, all at the same moment: `docker restart` with several names takes one after the other."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        restarts = [pool.submit(_docker, "restart", f"kbpg-{host}") for host in hosts]
    for each in restarts:
        each.result()


def _docker(*argv: str) -> None:
    subprocess.run(["docker", *argv], check=True, capture_output=True, timeout=180)


def test_reboots_one_by_one_and_all_at_once(cluster: Lab) -> None:
    write_row(cluster)
    for hosts in (*((host,) for host in HOSTS), HOSTS):
        restart(cluster, *hosts)
        cluster.await_whole(deadline=120)
        _await_row(cluster, f"the row after a reboot of {', '.join(hosts)}")
    # the replicas' views settle within a few of Patroni's loops
    cluster.until(lambda: cluster.kbpg("diagnose").code == 0, 30, "diagnose healthy")
    assert cluster.kbpg("plan").code == 0


@pytest.mark.faults
def test_a_replica_on_another_timeline_of_the_same_number_is_named_and_cloned_anew(cluster: Lab) -> None:
    """What hosts that restart one right after the other can leave behind, made on purpose.

    A replica is promoted; nobody follows it, and another node takes over on a timeline of the same number.
    """
    write_row(cluster)
    host, leader = replica(cluster), cluster.leader()
    (third,) = {*DB} - {host, leader}
    paused(cluster)
    psql(cluster, host, "select pg_promote()")
    psql(
        cluster, host, "select pg_logical_emit_message(false, 'astray', repeat('x', 999)) is null; checkpoint"
    )
    cluster.sh(host, "docker stop -t 30 patroni")
    ask(cluster, leader, "PATCH", "/config", {"pause": None})
    cluster.until(lambda: not cluster.rest(third).get("pause"), 15, "the pause is over")
    ask(cluster, leader, "POST", "/switchover", {"leader": leader, "candidate": third})
    cluster.until(lambda: cluster.rest(third)["role"] in ("primary", "master"), 30, f"{third} leads")
    cluster.sh(host, "docker start patroni")

    def named() -> bool:
        found = json.loads(cluster.kbpg("diagnose", "--json").out)["findings"]
        return any((each["id"], each["host"]) == ("replica-diverged", host) for each in found)

    cluster.until(named, 60, f"diagnose names the timeline of {host}")
    mended = cluster.kbpg("diagnose", "--repair", "--yes")
    assert mended.code == 0, mended.everything
    cluster.await_whole(deadline=30)
    assert psql(cluster, host, "select n from kb_app.kept", "keybuzz") == "42"


def _await_row(lab: Lab, what: str) -> None:
    """Wait for the row through the pooler; when it does not come, say what was met and what runs there."""
    met: list[str] = []

    def there() -> bool:
        try:
            return bool(lab.one("haproxy-01", 6432, "select n from kept") == 42)
        except psycopg.Error as error:
            met.append(str(error).strip())
            return False

    try:
        lab.until(there, 60, what)
    except AssertionError as failure:
        logs = "docker ps -a; for c in pgbouncer haproxy; do docker logs --tail 30 $c 2>&1; done"
        shown = [
            *met[-1:],
            lab.sh("haproxy-01", logs, check=False),
            lab.sh("haproxy-01", "ip -4 addr; ss -tln"),
        ]
        raise AssertionError("\n".join([str(failure), *shown])) from failure
