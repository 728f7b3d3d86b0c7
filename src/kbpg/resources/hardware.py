"""What a host has to offer PostgreSQL: memory, processors, and the size of the file system."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kbpg.facts import Facts, NotKnown, ShellFact
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


@dataclass(frozen=True)
class DiskSizeFact(ShellFact[int]):
    """The size in bytes of the file system that holds `path`, or its nearest parent that exists."""

    path: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"disk size:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment: blocks and their size, as statfs(2) says."""
        return (
            f"p={shlex.quote(self.path)}; "
            'while [ ! -e "$p" ] && [ -n "$p" ]; do p=${p%/*}; done; stat -f -c "%b %S" "${p:-/}"'
        )

    def parse(self, output: Output) -> int:
        """Read the answer; raises `NotKnown` where there is none, or a file system without a size."""
        words = output.stdout.split()
        size = int(words[0]) * int(words[1]) if len(words) == 2 else 0
        if size <= 0:
            raise NotKnown(
                f"the size of the file system of {self.path} is not known: {output.stderr.strip()}"
            )
        return size


def smallest_disk(facts: Facts, hosts: Sequence[str], path: str) -> int | None:
    """Return the size of the smallest file system that holds `path` on `hosts`; None where none is known."""
    found = (facts.known(DiskSizeFact(path), host) for host in hosts)
    return min((size for size in found if size is not None), default=None)


def smallest(facts: Facts, hosts: Sequence[str]) -> Hardware:
    """Return the least memory and the fewest processors of `hosts`: any of them may have to lead."""
    found = [facts.get(HardwareFact(), host) for host in hosts]
    return Hardware(min(h.memory for h in found), min(h.cores for h in found))
