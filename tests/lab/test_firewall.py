"""`firewall: managed` on real kernels: who reaches which port, drift seen and mended, a reboot, and off again.

A sixth container on the lab's network, which is no host of the inventory, tries every port of every host.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, HOSTS, PROXIES, Lab

from kbpg.lab.images import HOST_IMAGE
from kbpg.lab.layout import NETWORK

pytestmark = [pytest.mark.lab, pytest.mark.faults]

DB_PORTS = (5432, 7000, 8008)
PROXY_PORTS = (5432, 5433, 6432, 8404)
PORTS = {**dict.fromkeys(DB, DB_PORTS), **dict.fromkeys(PROXIES, PROXY_PORTS)}
SSH = 22
PATIENCE = 2
"""Seconds until a connection counts as dropped; one that is let in takes a millisecond."""
TABLE = "nft list table inet kbpg"

Reached = dict[tuple[str, int], str]

# One line a port, all at once: `open`, `refused` or `dropped`. bash speaks TCP itself.
_TRY = r"""
one() {
  said=$(timeout "$3" bash -c "exec 3<>/dev/tcp/$1/$2" 2>&1); status=$?
  case $status in 0) answer=open ;; 124) answer=dropped ;; *) answer=refused ;; esac
  echo "$1 $2 $answer"
}
patience=$1; shift
for each; do one "${each%:*}" "${each#*:}" "$patience" & done
wait
"""


class Stranger:
    """A container on the lab's network that the inventory does not know."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self._lab, self._name, self.address = lab, name, address

    def reaches(self) -> Reached:
        """Try SSH's port and all of kbpg's on every host."""
        return attempt(self._lab, self._name)


def attempt(lab: Lab, container: str) -> Reached:
    names = {address: name for name, address in lab.addresses.items()}
    targets = [f"{lab.addresses[host]}:{port}" for host in HOSTS for port in (SSH, *PORTS[host])]
    argv = ["docker", "exec", container, "bash", "-c", _TRY, "try", str(PATIENCE), *targets]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert len(found) == len(targets), done.stdout + done.stderr
    return {(names[address], int(port)): answer for address, port, answer in found}


@pytest.fixture
def stranger(lab: Lab) -> Iterator[Stranger]:
    name = f"kbpg-stranger-{uuid.uuid4().hex[:8]}"
    argv = ["docker", "run", "--detach", "--rm", "--name", name, "--network", NETWORK]
    subprocess.run(
        [*argv, "--entrypoint", "sleep", HOST_IMAGE, "infinity"], capture_output=True, timeout=60, check=True
    )
    try:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        asked = ["docker", "inspect", "--format", form, name]
        address = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        assert address not in lab.addresses.values()
        yield Stranger(lab, name, address)
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, timeout=60, check=False)


def managed(lab: Lab, clients: list[str] | None) -> Path:
    """Write the lab's inventory with a firewall, and return its path."""

    def change(settings: dict[str, Any]) -> None:
        settings.setdefault("prepare", {}).update(firewall="managed", allowed_clients=clients)

    return lab.edited(lab.directory / "firewalled.yaml", change)


@pytest.fixture
def cluster(converged: Lab) -> Iterator[Lab]:
    """A cluster without a firewall, before and after."""
    yield converged
    converged.apply()
    left = converged.everywhere(f"{TABLE} 2>&1; ls /opt/keybuzz/kbpg/firewall.nft 2>&1; true")
    assert all(text.count("No such file or directory") == 2 for text in left.values()), left


def expected(*, proxies: str) -> Reached:
    """Return the table of docs/firewall.md as a stranger sees it: db hosts closed, proxies as given, SSH open."""
    found: Reached = {(host, SSH): "open" for host in HOSTS}
    found |= {(host, port): "dropped" for host in DB for port in DB_PORTS}
    return found | {(host, port): proxies for host in PROXIES for port in PROXY_PORTS}


def test_the_documented_table(cluster: Lab, stranger: Stranger) -> None:
    everything = {(host, port): "open" for host in HOSTS for port in (SSH, *PORTS[host])}
    assert stranger.reaches() == everything
    nobody = managed(cluster, [])
    before = cluster.started()
    cluster.apply(nobody)
    assert cluster.kbpg("plan", inventory=nobody).code == 0
    assert stranger.reaches() == expected(proxies="dropped")
    # Nothing was restarted for it, the cluster is whole, and the hosts themselves reach what they need
    assert cluster.started() == before
    validated = cluster.kbpg("validate", inventory=nobody, timeout=400)
    assert validated.code == 0, validated.everything
    for proxy in PROXIES:
        mine = attempt(cluster, f"kbpg-{proxy}")
        assert {key for key, answer in mine.items() if answer == "dropped"} == {(host, 7000) for host in DB}
    for host in DB:
        assert set(attempt(cluster, f"kbpg-{host}").values()) == {"open"}

    cluster.apply(managed(cluster, [f"{stranger.address}/32"]))
    assert stranger.reaches() == expected(proxies="open")
    cluster.apply(managed(cluster, None))
    assert stranger.reaches() == expected(proxies="open")

    cluster.apply()
    assert stranger.reaches() == everything
    assert cluster.kbpg("plan").code == 0


def test_rules_changed_by_hand_are_named_and_mended(cluster: Lab, stranger: Stranger) -> None:
    inventory = managed(cluster, [])
    cluster.apply(inventory)
    one_rule = (
        "handle=$(nft -a list table inet kbpg | awk '/tcp dport 7000 .*drop/ { print $NF }');"
        ' nft delete rule inet kbpg input handle "$handle"'
    )
    by_hand = (
        ("db-slave-01", "nft delete table inet kbpg", {"firewall"}),
        ("db-slave-01", one_rule, {"firewall"}),
        ("db-slave-01", "nft insert rule inet kbpg input tcp dport 7000 accept", {"firewall"}),
        ("haproxy-01", "nft add rule inet kbpg input tcp dport 9999 drop", {"firewall"}),
        ("haproxy-01", "nft add table inet kbpg '{ flags dormant; }'", {"firewall"}),
        ("haproxy-02", "echo >>/opt/keybuzz/kbpg/firewall.nft", {"file:/opt/keybuzz/kbpg/firewall.nft"}),
    )
    for host, script, named in by_hand:
        cluster.sh(host, script)
        plan = cluster.kbpg("plan", "--json", inventory=inventory)
        assert plan.code == 3, (script, plan.everything)
        assert cluster.changed(plan) == {(host, each) for each in named}, script
        diagnosed = cluster.kbpg("diagnose", inventory=inventory)
        assert diagnosed.code == 3, (script, diagnosed.everything)
        assert "drift" in diagnosed.out
        cluster.apply(inventory)
        assert cluster.kbpg("plan", inventory=inventory).code == 0, script
    assert stranger.reaches() == expected(proxies="dropped")


def test_the_rules_are_there_again_after_a_reboot(cluster: Lab, stranger: Stranger) -> None:
    inventory, leader = managed(cluster, []), cluster.leader()
    cluster.apply(inventory)  # from here on Patroni does not answer this machine any more
    host = next(host for host in DB if host != leader)
    subprocess.run(["docker", "restart", f"kbpg-{host}"], capture_output=True, timeout=120, check=True)
    cluster.until(lambda: cluster.kbpg("diagnose", inventory=inventory).code == 0, 120, "healthy again")
    assert cluster.kbpg("plan", inventory=inventory).code == 0
    assert stranger.reaches() == expected(proxies="dropped")


def test_other_tables_are_left_alone(cluster: Lab) -> None:
    host = "haproxy-02"
    rule = "add table inet somebody; add chain inet somebody c; add rule inet somebody c tcp dport 1 accept"
    cluster.sh(host, f"nft '{rule}'")
    try:
        before = cluster.sh(host, "nft list table inet somebody")
        cluster.apply(managed(cluster, []))
        cluster.apply()
        assert cluster.sh(host, "nft list table inet somebody") == before
    finally:
        cluster.sh(host, "nft delete table inet somebody")


def test_rules_that_are_not_confirmed_go_by_themselves(cluster: Lab) -> None:
    """The guard alone, as kbpg arms it, with nobody to confirm."""
    from kbpg.firewall.fact import GUARD
    from kbpg.resources.firewall import _LOAD

    inventory = managed(cluster, [])
    cluster.apply(inventory)
    host = "db-slave-02"
    argv = ["docker", "exec", "-i", f"kbpg-{host}", "sh", "-c", _LOAD, "kbpg-firewall", GUARD, "test", "3"]
    rules = cluster.sh(host, "cat /opt/keybuzz/kbpg/firewall.nft")
    subprocess.run(argv, input=rules.encode(), capture_output=True, timeout=60, check=True)
    assert "dport 7000" in cluster.sh(host, TABLE)
    # Whether it comes before or after the guard: these rules are not to be relied on
    assert cluster.kbpg("plan", inventory=inventory).code == 3
    cluster.until(
        lambda: not cluster.sh(host, f"{TABLE} 2>/dev/null", check=False), 15, "the guard removed the table"
    )
    plan = cluster.kbpg("plan", "--json", inventory=inventory)
    assert cluster.changed(plan) == {(host, "firewall")}
    assert any("7000 Raft" in line for change in json.loads(plan.out)["changes"] for line in change["lines"])
    cluster.apply(inventory)
    assert cluster.kbpg("plan", inventory=inventory).code == 0
