"""Which names and addresses each host's certificate must be good for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbpg.inventory import Inventory

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
LOCAL = ("localhost", "127.0.0.1")
"""What a host's own programs call it by: health checks, Patroni, PgBouncer to HAProxy."""


@dataclass(frozen=True)
class Names:
    """DNS names (lower case, no dot at the end) and IP addresses, each once, in the order of the inventory."""

    dns: tuple[str, ...]
    addresses: tuple[IpAddress, ...]

    def texts(self) -> tuple[str, ...]:
        """Return all of them as text."""
        return (*self.dns, *map(str, self.addresses))

    @classmethod
    def of(cls, texts: Iterable[str]) -> Names:
        """Return what `texts` are: an IP address where one can be read as such, else a DNS name."""
        dns: dict[str, None] = {}
        addresses: dict[IpAddress, None] = {}
        for text in texts:
            try:
                addresses[ipaddress.ip_address(text)] = None
            except ValueError:
                dns[text.lower().rstrip(".")] = None
        return cls(tuple(dns), tuple(addresses))


def names_of(inventory: Inventory) -> dict[str, Names]:
    """Return the names that each host's certificate must be good for, by the host's name.

    A client connects to a proxy or to the load balancer and, HAProxy passing TLS through, sees PostgreSQL's own
    certificate: a db host's is good for every name that a client may have used. Of the proxies, a client sees the
    certificate of the one that it connected to.
    """
    balancer = inventory.cluster.load_balancer
    shared = [balancer] if balancer else []
    doors = [text for proxy in inventory.proxies for text in (proxy.name, proxy.address)]
    found = {host.name: Names.of((host.name, host.address, *LOCAL, *doors, *shared)) for host in inventory.db}
    for proxy in inventory.proxies:
        found[proxy.name] = Names.of((proxy.name, proxy.address, *LOCAL, *shared))
    return found
