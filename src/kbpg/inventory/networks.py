"""Networks in CIDR notation, as the inventory names the clients of a firewall."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from kbpg.inventory.show import shown
from kbpg.inventory.types import Text

LOOPBACK = "127.0.0.1"
"""How a host reaches its own programs."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 (the inventory says whether)
"""What listens on it takes every IPv4 address of the host."""

_CHARACTERS = re.compile(r"[0-9A-Fa-f:./]+")


def network(value: str) -> str:
    """Return a network as its canonical text; raises ValueError for what is none, or is everybody."""
    if not _CHARACTERS.fullmatch(value):  # Python also reads zones, fe80::1%eth0, with any text in them
        raise ValueError(_no_network(value))
    try:
        parsed = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(_no_network(value)) from None
    if parsed.prefixlen == 0:
        raise ValueError(f"{shown(value)} is everyone: wanted the networks that are meant")
    given = value.partition("/")[0]
    if ipaddress.ip_address(given) != parsed.network_address:
        raise ValueError(
            f"{shown(value)} has host bits set: wanted the network {parsed}, or one address without /"
        )
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.network_address.ipv4_mapped:
        raise ValueError(f"{shown(value)} stands for IPv4 addresses: wanted them written as IPv4")
    for refused, what in (
        (parsed.is_loopback, "loopback, which is always accepted"),
        (parsed.is_multicast, "multicast: nobody connects from there"),
    ):
        if refused:
            raise ValueError(f"{shown(value)} is {what}")
    return str(parsed)


def _no_network(value: str) -> str:
    if any(c.isalpha() for c in value) and ":" not in value:
        return f"wanted addresses, not a name (rules of the kernel hold no names), got {shown(value)}"
    return f"wanted a network such as 10.20.0.0/16, 2001:db8::/48 or one address, got {shown(value)}"


def _ipv4(value: str) -> str:
    if ":" in value:
        raise ValueError(
            f"PostgreSQL listens on the hosts' IPv4 addresses, nobody connects from {shown(value)}"
        )
    return value


Network = Annotated[Text, AfterValidator(network), WithJsonSchema({"type": "string"})]
IPv4Network = Annotated[Network, AfterValidator(_ipv4)]
