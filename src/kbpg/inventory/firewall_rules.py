"""What must hold where kbpg sets firewall rules: SSH is no port of theirs, and a list of clients is not everyone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from kbpg.inventory.host_rules import DB_PORTS, PROXY_PORTS, SSH_PORT, Found, ssh_ports
from kbpg.inventory.models import Inventory


def ssh_is_no_port(inventory: Inventory) -> Iterator[Found]:
    """A rule must never judge SSH, whichever way it goes: also through an address that is not the host's own."""
    if inventory.prepare.firewall != "managed":
        return
    told = {loc for loc, _ in ssh_ports(inventory)}
    for hosts, keys in ((inventory.db, DB_PORTS), (inventory.proxies, PROXY_PORTS)):
        for key in keys:
            port = getattr(inventory.ports, key)
            taken = [host.name for host in hosts if (inventory.ssh_for(host).port or SSH_PORT) == port]
            if taken and ("ports", key) not in told:
                yield (
                    ("ports", key),
                    f"{port} is also the SSH port of {', '.join(taken)}: with prepare.firewall: managed it would be "
                    "closed to others; wanted another port",
                )


def not_everyone(inventory: Inventory) -> Iterator[Found]:
    """Networks that add up to all addresses are no list of clients, and nft would not take them as one."""
    for version in _whole(inventory.prepare.allowed_clients or ()):
        yield (
            ("prepare", "allowed_clients"),
            f"these networks together are every IPv{version} address: for everyone, leave it out (null)",
        )


def not_all_direct(inventory: Inventory) -> Iterator[Found]:
    """Nor are those of the roles that may connect to the db hosts themselves."""
    listed: list[str] = []
    for index, role in enumerate(inventory.roles):
        listed += role.direct_from
        if role.direct_from and any(_whole(listed)):
            yield (
                ("roles", index, "direct_from"),
                "with those above, these networks are every IPv4 address: wanted those that are meant",
            )
            return


def _whole(networks: Iterable[str]) -> list[int]:
    """Return the versions of IP of which the networks together are every address."""
    listed = [ip_network(text) for text in networks]
    four = collapse_addresses(each for each in listed if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in listed if isinstance(each, IPv6Network))
    return [4 for each in four if each.prefixlen == 0] + [6 for each in six if each.prefixlen == 0]


def clients_without_firewall(inventory: Inventory) -> Iterator[Found]:
    """A list that nothing enforces would be believed."""
    if inventory.prepare.allowed_clients is not None and inventory.prepare.firewall != "managed":
        yield (
            ("prepare", "allowed_clients"),
            "nothing enforces it while prepare.firewall is off: wanted firewall: managed, or no list (null)",
        )
