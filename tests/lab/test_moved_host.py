"""A db host with a new address, and back to its old one, as docs/growing.md says it.

The lab's host keeps the address that Docker gave it for SSH alone (`ssh.host`): everything else that comes to it
there, or from it, is dropped. The new one is in the lab's network, on the same interface, and what the host sends
comes from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_socket import socket_allow_hosts
from tests.conftest import LOOPBACK
from tests.lab.conftest import DB, Lab
from tests.lab.faults import psql, replica
from tests.lab.test_repair import write_row
from tests.lab.watching import watching

pytestmark = [pytest.mark.lab, pytest.mark.faults]

NUMBER = 140
"""The new address's last number: no host of a lab has it, and no ghost of another test."""


@dataclass(frozen=True)
class Move:
    """A host that gets another address: `before` and `after` are the lab by either of its inventories."""

    host: str
    old: str
    new: str
    before: Lab
    after: Lab

    @property
    def network(self) -> str:
        return self.old.rpartition(".")[0] + ".0/24"


@pytest.fixture
def move(converged: Lab) -> Iterator[Move]:
    """A replica that may move; whatever a failed test leaves, the lab is as it was afterwards."""
    lab = converged
    lab.await_whole(60)
    host = replica(lab)
    old = lab.addresses[host]
    new = f"{old.rpartition('.')[0]}.{NUMBER}"
    path = lab.edited(lab.directory / "moved.yaml", lambda settings: moved(settings, host, new))
    socket_allow_hosts([*LOOPBACK, *lab.addresses.values(), new], allow_unix_socket=True)
    found = Move(host, old, new, lab, Lab(lab.directory, path))
    yield found
    if new in lab.sh(host, "ip -4 addr show eth0"):
        lab.sh(host, "docker stop -t 60 patroni", check=False, timeout=90)
        lab.kbpg("raft", "remove-member", f"{new}:7000", "--yes", inventory=path)
        home(found)
    path.unlink()


def moved(settings: dict[str, Any], host: str, new: str) -> None:
    (entry,) = (each for each in settings["db"] if each["name"] == host)
    entry["ssh"] = {"host": entry["address"]}
    entry["address"] = new


def away(move: Move) -> None:
    """Give the host its new address, and leave the old one to SSH.

    To its second address on a network a host speaks from its first one (`ip route show table local`), unless told.
    """
    rest = "! --dport 22"
    move.before.sh(
        move.host,
        f"ip addr add {move.new}/24 dev eth0"
        f" && ip route replace {move.network} dev eth0 scope link src {move.new}"
        f" && ip route replace table local local {move.new} dev eth0 scope host src {move.new}"
        f" && iptables -I INPUT ! -i lo -d {move.old} -p tcp {rest} -j DROP"
        f" && iptables -I OUTPUT ! -o lo -s {move.old} -p tcp {rest.replace('dport', 'sport')} -j DROP",
    )


def home(move: Move) -> None:
    """Give the host its old address back. The route first: it would go with the address that it names."""
    move.before.sh(
        move.host,
        "iptables -F INPUT; iptables -F OUTPUT;"
        f" ip route replace {move.network} dev eth0 scope link src {move.old}"
        f" && ip addr del {move.new}/24 dev eth0",
    )


def members(lab: Lab) -> dict[str, Any]:
    return dict(json.loads(lab.kbpg("raft", "status", "--json", inventory=lab.inventory).out))


def kept(lab: Lab, host: str) -> bool:
    return psql(lab, host, "select n from kb_app.kept", "keybuzz") == "42"


def follow_the_procedure(move: Move, source: Lab, target: Lab) -> None:
    """What docs/growing.md says: stop Patroni, remove the member, and apply the inventory with the new address."""
    gone, come = source.addresses[move.host], target.addresses[move.host]
    source.sh(move.host, "docker stop patroni", timeout=150)
    removed = source.kbpg("raft", "remove-member", f"{gone}:7000", "--yes")
    assert removed.code == 0, removed.everything
    (away if come == move.new else home)(move)
    planned = target.kbpg("plan")
    assert planned.code == 3, planned.everything
    applied = target.kbpg("apply-all", timeout=400)
    assert applied.code == 0, applied.everything
    print(f"\n{move.host} from {gone} to {come}: {applied.seconds:.1f} s")


def assert_well(move: Move, lab: Lab) -> None:
    """The host is a whole member under its address, nobody remembers the other one, and the row is there."""
    lab.await_whole(60)
    assert lab.leader() != move.host
    lab.until(lambda: kept(lab, move.host), 10, f"the row on {move.host}")
    status = members(lab)
    assert status["healthy"], status
    assert {each["address"] for each in status["members"]} == {f"{lab.addresses[h]}:7000" for h in DB}
    senders = psql(lab, lab.leader(), "select client_addr from pg_stat_replication").split()
    assert lab.addresses[move.host] in senders
    lab.until(lambda: lab.kbpg("diagnose").code == 0, 30, "healthy")
    assert lab.kbpg("plan").code == 0


@pytest.mark.timeout(900)
def test_a_db_host_moves_to_a_new_address_and_back(move: Move) -> None:
    write_row(move.before)
    system = move.before.rest(move.host)["database_system_identifier"]
    data = move.before.sh(move.host, "stat -c %i /opt/keybuzz/postgres/data/pgdata")
    both = {host: [move.before.addresses[host]] for host in DB} | {move.host: [move.old, move.new]}
    for source, target in ((move.before, move.after), (move.after, move.before)):
        with watching(both) as watch:
            follow_the_procedure(move, source, target)
        print("away:", ", ".join(map(str, watch.absences)))
        watch.assert_one_at_a_time()
        assert watch.absences[0].host == move.host
        assert_well(move, target)
        assert target.rest(move.host)["database_system_identifier"] == system
    # cloned it was not
    assert move.before.sh(move.host, "stat -c %i /opt/keybuzz/postgres/data/pgdata") == data
