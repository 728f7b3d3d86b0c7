"""What a host has to offer PostgreSQL: memory and processors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbpg.facts import Facts, ShellFact
from kbpg.hosts.port import Output

UNLIMITED = 1 << 60
"""Bytes: control groups spell "no limit" as max, or as a number near 2**63."""


@dataclass(frozen=True)
class Hardware:
    """Memory in bytes (the control group's limit where there is one) and processors."""

    memory: int
    cores: int


@dataclass(frozen=True)
class HardwareFact(ShellFact[Hardware]):
    """Memory and processors that this host may use."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "hardware"

    @property
    def script(self) -> str:
        """Return the fragment: total kB, limits of control groups v2 and v1, processors."""
        groups = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
        return f"awk '/^MemTotal/ {{print $2 * 1024}}' /proc/meminfo; nproc; cat {groups} 2>/dev/null; true"

    def parse(self, output: Output) -> Hardware:
        """Read the answer."""
        total, cores, *limits = output.stdout.split()
        numbers = [int(limit) for limit in limits if limit.isdigit() and int(limit) < UNLIMITED]
        return Hardware(min([int(float(total)), *numbers]), int(cores))


def smallest(facts: Facts, hosts: Sequence[str]) -> Hardware:
    """Return the least memory and the fewest processors of `hosts`: any of them may have to lead."""
    found = [facts.get(HardwareFact(), host) for host in hosts]
    return Hardware(min(h.memory for h in found), min(h.cores for h in found))
