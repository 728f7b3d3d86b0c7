"""Ghosts in the consensus, and a consensus that lost its quorum for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, HOSTS, PROXIES, Lab, killed_at_end
from tests.lab.faults import MENDED_CABLE, cut, replica
from tests.lab.faults import RAFT as RAFT_PACKETS
from tests.lab.test_repair import assert_kept, role, verdicts, write_row

pytestmark = [pytest.mark.lab, pytest.mark.faults]

RAFT = "/opt/keybuzz/postgres/raft"
NOTE = "/opt/keybuzz/kbpg/raft-rebuild.json"
ADMIN = (
    "docker exec -i -u 999 patroni python3 - <<'END'\n"
    "import yaml\n"
    "from pysyncobj.utility import TcpUtility\n"
    "password = yaml.safe_load(open('/etc/patroni/secrets.yml'))['raft']['password']\n"
    "address = yaml.safe_load(open('/etc/patroni/patroni.yml'))['raft']['self_addr']\n"
    "try:\n"
    "    print(TcpUtility(password, 3).executeCommand(address, {command!r}))\n"
    "except Exception as error:\n"
    "    print('no answer:', error)\n"
    "END"
)
"""pysyncobj's own tool, inside the container, so that the password is in no argument."""


def tell(lab: Lab, host: str, *command: str) -> str:
    return lab.sh(host, ADMIN.format(command=list(command)))


def ghost(lab: Lab, number: int) -> str:
    """Return an address of the lab's network that no host has."""
    return f"{lab.addresses[DB[0]].rpartition('.')[0]}.{number}:7000"


def status(lab: Lab) -> dict[str, Any]:
    return dict(json.loads(lab.kbpg("raft", "status", "--json").out))


def sweep(lab: Lab) -> None:
    lab.everywhere(f"rm -rf {RAFT}.before-*", DB)


def test_status_shows_all_members_side_by_side(cluster: Lab) -> None:
    ran = cluster.kbpg("raft", "status")
    assert ran.code == 0, ran.everything
    assert all(f"{cluster.addresses[host]}:7000" in ran.out for host in DB)
    found = status(cluster)
    assert found["healthy"]
    assert found["quorum"]
    assert len({member["leader"] for member in found["members"]}) == 1


def test_a_ghost_is_seen_and_removed(cluster: Lab) -> None:
    write_row(cluster)
    gone = ghost(cluster, 199)
    assert "SUCCESS" in tell(cluster, DB[1], "add", gone)
    cluster.until(lambda: gone in status(cluster)["ghosts"], 10, "a ghost")
    assert cluster.kbpg("raft", "status").code == 1
    ran = cluster.kbpg("raft", "remove-member", gone, "--yes")
    assert ran.code == 0, ran.everything
    assert gone not in "".join(tell(cluster, host, "members") for host in DB)
    assert cluster.kbpg("raft", "status").code == 0
    assert_kept(cluster)


def test_diagnose_removes_a_ghost(cluster: Lab) -> None:
    assert "SUCCESS" in tell(cluster, DB[1], "add", ghost(cluster, 198))
    ran = cluster.kbpg("diagnose", "--repair", "--yes", "--json")
    assert ran.code == 0, ran.everything
    assert verdicts(json.loads(ran.out)) == {"cluster: raft-ghost": "mended"}


def test_a_living_member_is_not_removed(cluster: Lab) -> None:
    ran = cluster.kbpg("raft", "remove-member", f"{cluster.addresses[DB[2]]}:7000", "--yes")
    assert ran.code == 1
    assert "a member of the inventory that answers" in ran.err
    assert cluster.kbpg("raft", "status").code == 0


def test_a_quorum_is_not_rebuilt(cluster: Lab) -> None:
    before = cluster.started()
    ran = cluster.kbpg("raft", "rebuild", "--yes")
    assert ran.code == 1
    assert "there is nothing to rebuild" in ran.err
    assert cluster.started() == before


def test_raft_wiped_on_two_of_three_heals_by_itself_while_one_remembers(cluster: Lab) -> None:
    """The member that still has the log is elected by the two that have none."""
    write_row(cluster)
    wipe(cluster, DB[0], DB[2])
    cluster.until(lambda: cluster.kbpg("raft", "status").code == 0, 60, "a whole consensus")
    assert_kept(cluster)


def wipe(lab: Lab, *hosts: str) -> None:
    lab.everywhere(f"docker kill patroni; rm -rf {RAFT}/*; docker start patroni", hosts)


def lose_quorum(lab: Lab) -> None:
    """Let three ghosts outvote the members, then wipe Raft on two of three: no restart brings a quorum back."""
    for number in (197, 198, 199):
        tell(lab, DB[1], "add", ghost(lab, number))
    wipe(lab, DB[0], DB[2])
    lab.until(lambda: not status(lab)["quorum"], 30, "a lost quorum")
    lab.until(lambda: not any(role(lab, host) in ("primary", "master") for host in DB), 60, "no leader")


def test_a_quorum_lost_for_good_is_rebuilt(cluster: Lab) -> None:
    write_row(cluster)
    lose_quorum(cluster)
    ran = cluster.kbpg("raft", "rebuild", "--yes", timeout=400)
    assert ran.code == 0, ran.everything
    assert "the most advanced" in ran.err
    assert_kept(cluster)
    assert status(cluster)["healthy"]
    diagnosed = cluster.kbpg("diagnose")
    assert diagnosed.code == 0, diagnosed.everything
    assert cluster.kbpg("plan").code == 0
    # All at once, from what is on disk: the members remember each other
    cluster.everywhere("docker restart -t 30 patroni", DB)
    cluster.await_whole(deadline=90)
    cluster.until(lambda: cluster.kbpg("raft", "status").code == 0, 30, "a whole consensus")
    assert_kept(cluster)
    sweep(cluster)


@pytest.mark.parametrize(
    "there",
    [
        f"test -e {NOTE}",
        f"ls -d {RAFT}.before-* >/dev/null 2>&1",
        "grep -q 'partner_addrs: \\[\\]' /opt/keybuzz/patroni/patroni.yml",
    ],
    ids=["noted", "moved aside", "alone"],
)
def test_a_rebuild_killed_on_its_way_is_finished_by_the_next(cluster: Lab, there: str) -> None:
    write_row(cluster)
    sweep(cluster)
    lose_quorum(cluster)
    anywhere = f"{there} && echo yes || true"
    with killed_at_end(cluster.start("raft", "rebuild", "--yes")) as process:
        cluster.until(lambda: "yes" in "".join(cluster.everywhere(anywhere, DB).values()), 90, there)
        os.kill(process.pid, signal.SIGKILL)
    diagnosed = cluster.kbpg("diagnose", "--json")
    found = [each for each in json.loads(diagnosed.out)["findings"] if each["severity"] == "critical"]
    remedies = {each["id"]: each["remedy"] for each in found}
    assert remedies["raft-rebuild-unfinished"].endswith("raft rebuild"), diagnosed.out
    # Patroni, while it still runs, is what says this; everything else follows from the rebuild
    assert set(remedies) <= {"raft-rebuild-unfinished", "postgres-down"}, diagnosed.out
    assert cluster.kbpg("apply-all").code == 1
    # A command that was running then ends by itself, and holds the lock until it does
    cluster.until(lambda: _rebuilt(cluster), 200, "rebuilt")
    assert_kept(cluster)
    # followers that were started at the same time reach each other at their next attempt, after 5 s
    cluster.until(lambda: bool(status(cluster)["healthy"]), 20, "all members agree")
    assert cluster.kbpg("plan").code == 0
    assert "yes" not in "".join(cluster.everywhere(f"test -e {NOTE} && echo yes || true", DB).values())
    sweep(cluster)


def _rebuilt(lab: Lab) -> bool:
    ran = lab.kbpg("raft", "rebuild", "--yes", timeout=300)
    assert ran.code == 0 or "still runs there" in ran.err, ran.everything
    return ran.code == 0


def test_a_host_that_cannot_be_reached_stops_a_rebuild(cluster: Lab, tmp_path: Path) -> None:
    write_row(cluster)
    lose_quorum(cluster)
    subprocess.run(["docker", "pause", f"kbpg-{DB[2]}"], check=True, capture_output=True, timeout=30)
    try:
        ran = cluster.kbpg("raft", "rebuild", "--yes", timeout=120)
    finally:
        subprocess.run(["docker", "unpause", f"kbpg-{DB[2]}"], check=True, capture_output=True, timeout=30)
    assert ran.code == 1
    assert f"{DB[2]} cannot be reached, and its data may be the most advanced" in ran.err
    done = cluster.kbpg("raft", "rebuild", "--yes", timeout=400)
    assert done.code == 0, done.everything
    assert_kept(cluster)
    sweep(cluster)


def test_a_rebuild_is_refused_while_those_given_up_are_seen_alive(cluster: Lab) -> None:
    """This machine and one replica on one side of a cut; the others lead on, as a proxy or that replica shows."""
    write_row(cluster)
    alone = replica(cluster)
    others = tuple(host for host in DB if host != alone)
    given_up = [word for host in others for word in ("--without", host)]
    from_here = cut("INPUT -p tcp --dport 22")
    before = cluster.started()
    try:
        cluster.everywhere(from_here, others)
        cluster.sh(alone, cut(*RAFT_PACKETS))
        seen = cluster.kbpg("raft", "rebuild", "--yes", *given_up, timeout=200)
        cluster.everywhere(from_here, PROXIES)
        alike = cluster.kbpg("raft", "rebuild", "--yes", *given_up, timeout=200)
    finally:
        cluster.everywhere(MENDED_CABLE, HOSTS)
    assert seen.code == 1, seen.everything
    assert f"HAProxy on {' and '.join(PROXIES)} has {others[0]} up, so it is alive" in seen.err
    assert alike.code == 1, alike.everything
    assert f"no proxy can be asked whether {', '.join(others)} is up" in alike.err
    assert f"{alone} streams from a leader that cannot be seen from here" in alike.err
    assert cluster.started() == before
    cluster.await_whole(deadline=60)
    cluster.until(lambda: bool(status(cluster)["healthy"]), 30, "all members agree")
    assert_kept(cluster)


def test_a_rebuild_goes_on_without_a_host_that_is_gone(cluster: Lab) -> None:
    """The lost host remembers the ghosts: when it is back, its Raft directory goes first, as kbpg says."""
    write_row(cluster)
    lose_quorum(cluster)
    lost = DB[1]
    # as if it booted without its network: its member must not speak before its directory is removed
    cluster.sh(lost, "docker update --restart no patroni")
    subprocess.run(["docker", "stop", "-t", "2", f"kbpg-{lost}"], check=True, capture_output=True, timeout=60)
    try:
        said: list[str] = []

        def rebuilt() -> bool:
            ran = cluster.kbpg("raft", "rebuild", "--yes", "--without", lost, timeout=400)
            said.append(ran.err)
            # It led, and is a replica now whom others follow: for a minute they take it for one that is there
            assert ran.code == 0 or "streams from a leader that cannot be seen from here" in ran.err, (
                ran.everything
            )
            return ran.code == 0

        cluster.until(rebuilt, 100, "rebuilt")
        assert f"before {lost} comes back: rm -rf {RAFT} there" in said[-1]
        assert cluster.one("haproxy-01", 6432, "select n from kept") == 42
        diagnosed = json.loads(cluster.kbpg("diagnose", "--json").out)
        assert {each["host"] for each in diagnosed["findings"] if each["severity"] == "critical"} == {lost}
    finally:
        subprocess.run(["docker", "start", f"kbpg-{lost}"], check=True, capture_output=True, timeout=60)
    cluster.until(
        lambda: bool(cluster.sh(lost, "docker version >/dev/null && echo up", check=False)), 60, "Docker"
    )
    cluster.sh(lost, f"rm -rf {RAFT}/*; docker update --restart unless-stopped patroni; docker start patroni")
    cluster.await_whole(deadline=90)
    cluster.until(lambda: bool(status(cluster)["healthy"]), 30, "all members agree")
    assert_kept(cluster)
    cluster.until(lambda: cluster.kbpg("diagnose").code == 0, 30, "healthy")
    sweep(cluster)
