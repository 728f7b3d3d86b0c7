"""Which hosts a lab has and where they are; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

from kbpg.errors import UsageError

Role = Literal["db", "proxy", "extra"]

NETWORK = "kbpg-lab"
PREFIX = "kbpg-"
LABEL = "kbpg.lab"
DIRECTORY_LABEL = "kbpg.lab.directory"
ROLE_LABEL = "kbpg.lab.role"

# The last numbers of the mission's addresses.
HOSTS: tuple[tuple[str, Role, int], ...] = (
    ("db-master-01", "db", 120),
    ("db-slave-01", "db", 121),
    ("db-slave-02", "db", 122),
    ("haproxy-01", "proxy", 11),
    ("haproxy-02", "proxy", 12),
)
FIRST_EXTRA = 200
DEFAULT_SUBNETS = tuple(
    IPv4Network(text)
    for text in ("172.29.77.0/24", "172.30.77.0/24", "172.28.77.0/24", "192.168.177.0/24", "10.177.77.0/24")
)
# The default inventory's network: real servers may be there.
FORBIDDEN = IPv4Network("10.0.0.0/24")


@dataclass(frozen=True)
class LabHost:
    """One lab host: a container on this machine that plays a server."""

    name: str
    role: Role
    address: str

    @property
    def container(self) -> str:
        """The container's name on this machine."""
        return PREFIX + self.name


def lab_id(directory: Path) -> str:
    """Return the value of the label on everything that belongs to the lab of `directory`."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]


def hosts(subnet: IPv4Network, extra: Iterable[str] = (), taken: Collection[str] = ()) -> list[LabHost]:
    """Return the five hosts of `subnet`, then one for each name of `extra`.

    `taken` holds addresses that extra hosts of an earlier `up` already have.
    """
    placed = [LabHost(name, role, str(subnet.network_address + number)) for name, role, number in HOSTS]
    free = (str(subnet.network_address + number) for number in range(FIRST_EXTRA, 255))
    for name in extra:
        address = next((a for a in free if a not in taken), None)
        if address is None:
            raise UsageError(f"no free address for the extra host {name}")
        placed.append(LabHost(name, "extra", address))
    return placed


def choose_subnet(wanted: IPv4Network | None, taken: Collection[IPv4Network]) -> IPv4Network:
    """Return the subnet for a new lab: `wanted`, or the first default that overlaps nothing in `taken`.

    Raises UsageError when `wanted` cannot be used, or when nothing is free.
    """
    if wanted is None:
        for candidate in DEFAULT_SUBNETS:
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
        raise UsageError("all of the lab's default subnets are in use here", hint="give one with --subnet")
    if wanted.prefixlen != 24 or not wanted.is_private:
        raise UsageError(f"the lab's subnet must be a private /24: {wanted}")
    if wanted.overlaps(FORBIDDEN):
        raise UsageError(f"{FORBIDDEN} is the default inventory's network; the lab stays away from it")
    for other in taken:
        if wanted.overlaps(other):
            raise UsageError(f"{wanted} overlaps {other}, which is in use on this machine")
    return wanted


def parse_subnet(text: str) -> IPv4Network:
    """Return `text` as a network; raises UsageError."""
    try:
        return IPv4Network(text)
    except ValueError as exc:
        raise UsageError(f"not a subnet: {text}", hint="write it as 172.29.77.0/24") from exc


def in_order(addresses: Iterable[str]) -> list[str]:
    """Return addresses sorted by number."""
    return [str(address) for address in sorted(map(IPv4Address, addresses))]
