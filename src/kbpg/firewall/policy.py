"""Who may connect to which port of a host, from the inventory alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from kbpg.inventory import Host, Inventory
from kbpg.render import render

Network = IPv4Network | IPv6Network

UNIT = "kbpg-firewall.service"
"""What loads the rules when a host with systemd boots."""


@dataclass(frozen=True)
class Guarded:
    """A TCP port, what listens there, and the networks that may connect to it; None: everyone may."""

    port: int
    what: str
    sources: tuple[Network, ...] | None

    @property
    def title(self) -> str:
        """Return how the port is called."""
        return f"{self.port} {self.what}"

    @property
    def families(self) -> list[tuple[str, list[str]]]:
        """Return `ip` and `ip6`, as nft calls them, each with its sources; a family without any is left out."""
        found = self.sources or ()
        each = (("ip", _texts(found, 4)), ("ip6", _texts(found, 6)))
        return [(family, texts) for family, texts in each if texts]


def _texts(networks: Iterable[Network], version: int) -> list[str]:
    return [shown(each) for each in networks if each.version == version]


def shown(network: Network) -> str:
    """Return a network as text, a single address without its length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def merged(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the same addresses in one form, in order and without overlaps, which nft refuses.

    As few networks as possible, but for up to four neighbouring IPv4 addresses: people look for those of hosts.
    """
    found = list(networks)
    four = collapse_addresses(each for each in found if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in found if isinstance(each, IPv6Network))
    singles = (
        part for each in four for part in (each.subnets(new_prefix=32) if each.prefixlen >= 30 else (each,))
    )
    return (*singles, *six)


def guarded(inventory: Inventory, host: Host) -> tuple[Guarded, ...]:
    """Return the ports of `host` and who may connect to each.

    The hosts' own addresses are in every set they need: kbpg's tunnels end on the host itself, and its packets to
    its own address have that address as their source (and come by the loopback interface, always accepted).
    """
    ports = inventory.ports
    databases = [ip_network(each.address) for each in inventory.db]
    everywhere = [ip_network(each.address) for each in inventory.hosts]
    if host.role == "db":
        direct = [ip_network(each) for role in inventory.roles for each in role.direct_from]
        return (
            Guarded(ports.raft, "Raft", merged(databases)),
            Guarded(ports.patroni, "Patroni's REST API", merged(everywhere)),
            Guarded(ports.postgresql, "PostgreSQL", merged([*everywhere, *direct])),
        )
    listed = inventory.prepare.allowed_clients
    scrapers = clients = None
    if listed is not None:
        scrapers = merged([*everywhere, *map(ip_network, listed)])
        clients = merged([*scrapers, *_load_balancer(inventory)])
    return (
        Guarded(ports.primary, "HAProxy to the leader", clients),
        Guarded(ports.replicas, "HAProxy to the replicas", clients),
        Guarded(ports.pgbouncer, "PgBouncer", clients),
        Guarded(ports.stats, "HAProxy's statistics", scrapers),
    )


def _load_balancer(inventory: Inventory) -> list[Network]:
    """Return its address, where the inventory has one; a name is for its programs' networks in allowed_clients."""
    try:
        return [ip_network(inventory.cluster.load_balancer or "")]
    except ValueError:
        return []


def rules_path(inventory: Inventory) -> str:
    """Return where a host keeps the rules for its next boot."""
    return f"{inventory.cluster.base_dir}/kbpg/firewall.nft"


def rules_file(inventory: Inventory, host: Host) -> bytes:
    """Return what `nft -f` reads: it replaces kbpg's own table in one transaction, and touches no other."""
    return render("firewall/firewall.nft.j2", guarded=guarded(inventory, host)).encode()


def unit_file(inventory: Inventory) -> bytes:
    """Return the systemd unit that loads the file at boot."""
    return render(f"firewall/{UNIT}.j2", path=rules_path(inventory)).encode()
