"""What must hold between the hosts: how many, all different, each reachable."""

from __future__ import annotations

from collections.abc import Iterator

from kbpg.inventory.checks import split_jump
from kbpg.inventory.document import Loc
from kbpg.inventory.hosts import Host
from kbpg.inventory.models import Inventory
from kbpg.pki.model import TAKEN

Found = tuple[Loc, str]
"""Where a rule is broken, and how."""

DB_PORTS = ("postgresql", "patroni", "raft")
PROXY_PORTS = ("primary", "replicas", "stats", "pgbouncer")

SSH_PORT = 22
"""Unless the inventory says otherwise; what ~/.ssh/config says is looked at when a connection is made."""


def db_count(inventory: Inventory) -> Iterator[Found]:
    count = len(inventory.db)
    if count < 3:
        yield (
            ("db",),
            f"wanted at least three hosts, got {count}: a quorum that survives one host needs three",
        )
    elif count % 2 == 0:
        yield (
            ("db",),
            f"wanted an odd number of hosts, got {count}: {count} survive no more failures than {count - 1}",
        )


def proxy_count(inventory: Inventory) -> Iterator[Found]:
    if not inventory.proxies:
        yield ("proxies",), "wanted at least one host"


def _placed(inventory: Inventory) -> list[tuple[Loc, str, str]]:
    lists = (("db", inventory.db), ("proxies", inventory.proxies))
    return [((name, i), host.name, host.address) for name, hosts in lists for i, host in enumerate(hosts)]


def unique_hosts(inventory: Inventory) -> Iterator[Found]:
    names: dict[str, Loc] = {}
    addresses: dict[str, Loc] = {}
    for loc, name, address in _placed(inventory):
        for seen, key, value in ((names, "name", name), (addresses, "address", address)):
            first = seen.setdefault(value, loc)
            if first != loc:
                yield (*loc, key), f'"{value}" is also the {key} of {first[0]}[{first[1]}]'


def names_of_files(inventory: Inventory) -> Iterator[Found]:
    for loc, name, _ in _placed(inventory):
        if name in TAKEN:
            yield (*loc, "name"), f'"{name}" is reserved: {name}.crt and {name}.key are not those of a host'


def unique_ssh(inventory: Inventory) -> Iterator[Found]:
    seen: dict[tuple[str, int, str | None], Host] = {}
    for (loc, name, address), host in zip(_placed(inventory), inventory.hosts, strict=True):
        ssh = inventory.ssh_for(host)
        server, port = ssh.host or address, ssh.port or SSH_PORT
        first = seen.setdefault((server, port, ssh.jump), host)
        if first is not host and first.address != address and first.name != name:
            place = (*loc, "ssh", "host") if ssh.host else (*loc, "address")
            yield place, f"SSH to {server} port {port} already reaches {first.name}"


def load_balancer_is_no_host(inventory: Inventory) -> Iterator[Found]:
    for _, name, address in _placed(inventory):
        if inventory.cluster.load_balancer == address:
            yield (
                ("cluster", "load_balancer"),
                f'"{address}" is the address of {name}: wanted one outside the cluster, or null',
            )


def ssh_ports(inventory: Inventory) -> Iterator[Found]:
    for hosts, keys in ((inventory.db, DB_PORTS), (inventory.proxies, PROXY_PORTS)):
        for key in keys:
            port = getattr(inventory.ports, key)
            taken = [host.name for host in hosts if _ssh_port(inventory, host) == port]
            if taken:
                yield ("ports", key), f"{port} is also the SSH port of {', '.join(taken)}"


def _ssh_port(inventory: Inventory, host: Host) -> int | None:
    """Return the port SSH listens on at the host's address, None where SSH goes another way."""
    ssh = inventory.ssh_for(host)
    return (ssh.port or SSH_PORT) if (ssh.host or host.address) == host.address else None


def no_jump_to_itself(inventory: Inventory) -> Iterator[Found]:
    for (loc, name, address), host in zip(_placed(inventory), inventory.hosts, strict=True):
        ssh = inventory.ssh_for(host)
        if ssh.jump:
            _, server, port = split_jump(ssh.jump)
            if (server, port or SSH_PORT) == (ssh.host or address, ssh.port or SSH_PORT):
                place: Loc = (*loc, "ssh", "jump") if host.ssh.jump else ("ssh", "jump")
                yield place, f"{name} cannot be reached through itself"
