"""How much memory a container may use: given when it starts, and changed while it runs.

Docker does that in place (`docker update`), and nobody notices; so it is no part of what replaces a container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import Facts, ShellFact
from kbpg.hosts.port import Output
from kbpg.inventory import human_size
from kbpg.model import Change, Resource, Want
from kbpg.resources.container import ContainerSpec
from kbpg.resources.docker import LABEL_SPEC, ContainersFact
from kbpg.resources.hardware import UNLIMITED

NONE = "none"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
"""As `docker stats` writes sizes (BytesSize of docker/go-units)."""


def limit_of(memory: int, swap: int) -> str:
    """Return a limit in bytes as text: `Memory` and `MemorySwap` of `HostConfig`, the second with the first in it.

    A kernel that does not count swap makes Docker show -1 for it (verifyPlatformContainerResources in
    daemon/daemon_unix.go): no update would change that, so it is not told from none.
    """
    if not 0 < memory < UNLIMITED:
        return NONE
    return (
        human_size(memory) if swap in (memory, -1) else f"{human_size(memory)}, with swap {human_size(swap)}"
    )


@dataclass(frozen=True)
class MemoryCgroupFact(ShellFact[bool]):
    """Whether the kernel keeps limits of memory, as Docker sees it; elsewhere it drops them with a warning.

    pkg/sysinfo of Docker reads the same file (cgroup2_linux.go), or looks for the same mount (sysinfo_linux.go).
    """

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "memory cgroup"

    @property
    def script(self) -> str:
        """Return the fragment; it starts no process."""
        return (
            "cd /sys/fs/cgroup 2>/dev/null || exit 0; if [ -r cgroup.controllers ]; then "
            'read -r found <cgroup.controllers; case " $found " in *" memory "*) echo yes;; esac; '
            "elif [ -d memory ]; then echo yes; fi"
        )

    def parse(self, output: Output) -> bool:
        """Read the answer."""
        return output.stdout.strip() == "yes"


class MemoryLimit(Resource):
    """A container may use as much memory as its spec says, and no swap beside it.

    Nothing is said where the kernel keeps no limits, or while the container is missing or to be replaced: then it
    is started with its limit.
    """

    def __init__(self, spec: ContainerSpec, containers: ContainersFact) -> None:
        self.id = f"memory:{spec.name}"
        self._spec, self._containers, self._kept = spec, containers, MemoryCgroupFact()
        self.facts = (containers, self._kept)

    def want(self, facts: Facts) -> Want:
        """Return the spec's limit."""
        return {"limit": limit_of(self._spec.memory, self._spec.memory)}

    def have(self, facts: Facts) -> Want:
        """Return the limit that Docker shows."""
        found = facts.get(self._containers).get(self._spec.name)
        if not found or not facts.get(self._kept) or not self._stays(found):
            return self.want(facts)
        return {"limit": limit_of(found["HostConfig"]["Memory"], found["HostConfig"].get("MemorySwap") or 0)}

    def _stays(self, container: Mapping[str, Any]) -> bool:
        labels = container["Config"].get("Labels") or {}
        return bool(labels.get(LABEL_SPEC) == self._spec.digest())

    def remarks(self, facts: Facts) -> list[str]:
        """Return that the limit is not kept, where it is not."""
        if not self._spec.memory or facts.get(self._kept):
            return []
        return ["the kernel of this host keeps no limits of memory (cgroup)"]

    def fix(self, site: Site, change: Change) -> None:
        """Set it, where the container was not just started with it. Raises `NotConverged` where it uses more."""
        facts = site.look({site.place: self.facts})
        if self.have(facts) == self.want(facts):
            return
        name, wanted = self._spec.name, self._spec.memory
        found = facts.get(self._containers)[name]
        if (
            wanted
            and found["State"]["Status"] == "running"
            and not 0 < found["HostConfig"]["Memory"] <= wanted
        ):
            self._fits(site)
        # Docker takes 0 for "as it is" (UpdateContainer in container/container_unix.go), so no limit is one that no
        # host reaches. Both at once: each is refused that does not fit the other one of before.
        limit, swap = (wanted, wanted) if wanted else (UNLIMITED, 2 * UNLIMITED)
        site.host.run(["docker", "update", f"--memory={limit}", f"--memory-swap={swap}", name])

    def _fits(self, site: Site) -> None:
        """Raise `NotConverged` where more is used than the limit will be: the kernel would end the program."""
        name = self._spec.name
        # Without caches, which the kernel gives up by itself
        shown = site.host.run(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", name]).stdout
        used = re.match(r"([0-9.]+)([KMGT]?i?B) /", shown)
        if used is None:
            raise HostError(site.place, f"Docker does not say how much memory {name} uses: {shown.strip()}")
        if float(used[1]) * _UNITS[used[2]] > self._spec.memory:
            raise NotConverged(
                f"{name} uses {used[1]} {used[2]} of memory, more than the limit it would get, "
                f"{human_size(self._spec.memory)}: the kernel would end it",
                hint=f"raise {name}.memory_limit, or wait until connections have ended; after a reload those of "
                "before it take up to haproxy.drain_timeout",
            )
