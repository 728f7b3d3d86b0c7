"""Fault drills on real hosts; what they say is compared with what a second set of clients, the test's own, saw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, HOSTS, KBPG, Lab, killed_at_end
from tests.lab.load import writing

pytestmark = pytest.mark.lab

SHORT = ("postmaster-crash", "leader-poweroff", "switchover", "leader-partition")
"""What `script/test` runs: a crash, a power cut, a switchover and a partition; minutes."""
LONG = (
    "patroni-crash", "patroni-frozen", "replica-poweroff", "proxy-poweroff", "pgbouncer-crash",
    "raft-member-loss", "rolling-restart", "disk-full", "all-hosts-reboot",
)  # fmt: skip
APART = 2.0
"""Seconds by which the longest waits of two sets of clients may differ: each has its own moments to try again."""


def drilled(lab: Lab, *args: str, timeout: float = 400) -> dict[str, Any]:
    ran = lab.kbpg("drill", *args, "--json", timeout=timeout)
    assert ran.code == 0, ran.everything
    return dict(json.loads(ran.out))


def in_order(lab: Lab) -> None:
    """Nothing of a drill is left, and the cluster is as the inventory wants it."""
    databases = "select count(*) from pg_database where datname = 'kbpg_drill'"
    assert lab.one("haproxy-01", 6432, databases, admin=True, dbname="postgres") == 0
    assert not (lab.directory / ".kbpg" / "drill.json").exists()
    rules = lab.everywhere("iptables -S; ls -d /opt/keybuzz/postgres/*drill* 2>/dev/null || true", HOSTS)
    assert "drill" not in json.dumps(rules).lower()
    lab.await_whole(30)
    assert lab.kbpg("plan").code == 0


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.drills) for name in LONG)])
def test_no_acknowledged_row_is_lost(converged: Lab, name: str) -> None:
    lab = converged
    lab.await_whole(60)
    with writing(lab, clients=4) as load:
        load.go_on_for(0.5)
        load.reset()
        document = drilled(lab, name)
        load.go_on_for(0.5, deadline=90)
        seen = load.stop()
    (drill,) = document["drills"]
    figures = drill["figures"]
    print(f"{name}: {json.dumps({**figures, 'events': drill['events'], 'difference': drill['difference']})}")
    print(f"the test's own clients: {seen}")
    assert drill["problems"] == []
    assert (figures["lost"], figures["duplicated"]) == (0, 0)
    assert seen.lost == 0
    assert figures["pooled"]["acknowledged"] > 500
    kept = json.loads((lab.directory / ".kbpg" / "measured.json").read_text())[lab.inventory.name]
    assert kept["system_identifier"] == lab.rest(lab.leader())["database_system_identifier"]
    # The test's clients give up no address for another, so only a cluster's outage is the same for both
    if name not in ("proxy-poweroff", "pgbouncer-crash"):
        assert figures["pooled"]["rto"] == pytest.approx(seen.worst, abs=APART)
    in_order(lab)


def test_a_drill_that_is_killed_is_taken_back_by_the_next_command(converged: Lab) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    with killed_at_end(lab.start("drill", "leader-partition")) as process:
        lab.until(lambda: "KBPG-DRILL" in lab.sh(leader, "iptables -S"), 60, "the leader is cut off")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    told = lab.kbpg("status")
    assert "a drill (leader-partition) was broken off" in told.err
    assert "KBPG-DRILL" in lab.sh(leader, "iptables -S")
    # What ran then ends by itself, and holds the lock until it does
    lab.until(lambda: "was broken off" in lab.kbpg("step", "06").err, 60, "it is said and taken back")
    assert "KBPG-DRILL" not in lab.sh(leader, "iptables -S")
    whole_again(lab)
    in_order(lab)


def test_a_host_that_a_killed_drill_switched_off_is_switched_on(converged: Lab) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    with killed_at_end(lab.start("drill", "leader-poweroff")) as process:
        lab.until(lambda: not running(leader), 60, "the leader's host is off")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    ran = lab.kbpg("apply-all")
    assert f"{leader} is switched on" in ran.err
    assert running(leader)
    whole_again(lab)
    in_order(lab)


def whole_again(lab: Lab) -> None:
    """Wait for it; then the drill's database can be dropped, if there was no leader to do it on before."""
    lab.await_whole(90)
    if (lab.directory / ".kbpg" / "drill.json").exists():
        lab.apply()


def running(host: str) -> bool:
    argv = ["docker", "inspect", "--format", "{{.State.Running}}", f"kbpg-{host}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "true"


def test_a_cluster_that_is_no_lab_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    """The same hosts, by an inventory elsewhere: nobody says that this is a lab, and no host is asked."""
    inventory = tmp_path / "inventory.yaml"
    inventory.write_bytes(lab.inventory.read_bytes())
    journals = lambda: sorted((lab.directory / ".kbpg" / "journal").glob("*"))  # noqa: E731
    before = journals()
    argv = [*KBPG, "-i", str(inventory), "drill", "leader-poweroff"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "is not a lab's, and a drill breaks the cluster" in done.stderr
    assert "--i-mean-it keybuzz" in done.stderr
    assert not (tmp_path / ".kbpg").exists()
    assert journals() == before
    assert {running(host) for host in DB} == {True}


@pytest.mark.drills
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_order(converged: Lab, seed: int) -> None:
    lab = converged
    lab.await_whole(60)
    minutes = os.environ.get("KBPG_DRILL_MINUTES", "10")
    report = lab.directory / f"drills-{seed}"
    document = drilled(
        lab, "random", "--minutes", minutes, "--seed", str(seed), "--report", str(report),
        timeout=float(minutes) * 60 + 600,
    )  # fmt: skip
    print(f"seed {seed}: {[(d['name'], d['figures']['pooled']['rto']) for d in document['drills']]}")
    assert document["passed"]
    assert sum(d["figures"]["lost"] for d in document["drills"]) == 0
    in_order(lab)
