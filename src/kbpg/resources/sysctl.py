"""Kernel settings: read from /proc/sys, set there, and kept in a file for the next boot."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.facts import Facts, ShellFact
from kbpg.hosts.port import Output
from kbpg.model import Change, Resource, State, Want

PATH = "/etc/sysctl.d/60-kbpg.conf"


@dataclass(frozen=True)
class Setting:
    """A kernel setting and its value; `at_least`: a larger one is left as it is."""

    name: str
    value: int
    at_least: bool = False

    def wanted(self, have: int) -> int:
        """Return the value to have where `have` is."""
        return max(have, self.value) if self.at_least else self.value


# vm.overcommit_memory stays as it is. PostgreSQL's documentation recommends 2 for dedicated machines, but with
# it Docker's own programs, which reserve far more than they use, fail to start on hosts with little memory.
NETWORK = (
    # Queues of connections not accepted yet; HAProxy, PgBouncer and PostgreSQL ask for up to this many.
    Setting("net.core.somaxconn", 4096, at_least=True),
    # A peer that vanished without a word is noticed after 120 s, not after 2 hours. The programs set shorter
    # times for their own sockets; this is for those that set none.
    Setting("net.ipv4.tcp_keepalive_time", 60),
    Setting("net.ipv4.tcp_keepalive_intvl", 10),
    Setting("net.ipv4.tcp_keepalive_probes", 6),
    # An attempt to connect is given up after 4 to 15 s (by the kernel's version), not after two minutes. Its packets
    # are ever further apart: a walreceiver that began one at the start of a cut of one minute would try for the next
    # time up to a minute after the cut. libpq's connect_timeout does not bound it (libpqwalreceiver.c).
    Setting("net.ipv4.tcp_syn_retries", 3),
    Setting("fs.file-max", 1_000_000, at_least=True),
)
"""What every host gets."""
DATABASE = (
    # Anonymous memory is swapped only to avoid running out: a swapped-out shared_buffers is worse than no cache.
    Setting("vm.swappiness", 1),
    *NETWORK,
)
"""What a db host gets."""


@dataclass(frozen=True)
class SysctlFact(ShellFact[Mapping[str, int]]):
    """The values of `names`; what the kernel (or the network namespace) does not have is left out."""

    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"sysctl:{','.join(self.names)}"

    @property
    def script(self) -> str:
        """Return the fragment: `vm/swappiness:60`, one a line. (A shell's `read` gets one digit of /proc/sys.)"""
        paths = " ".join(shlex.quote(name.replace(".", "/")) for name in self.names)
        return f"cd /proc/sys && {{ grep -H . {paths} 2>/dev/null; true; }}"

    def parse(self, output: Output) -> Mapping[str, int]:
        """Read the answer."""
        lines = (line.partition(":") for line in output.stdout.splitlines())
        return {path.replace("/", "."): int(value) for path, _, value in lines}


def fact(settings: Sequence[Setting]) -> SysctlFact:
    """Return the question for the values of `settings`."""
    return SysctlFact(tuple(setting.name for setting in settings))


def content(settings: Sequence[Setting], have: Mapping[str, int]) -> bytes:
    """Return the file for the next boot: the wanted values of what the kernel has."""
    lines = [f"{each.name} = {each.wanted(have[each.name])}" for each in settings if each.name in have]
    return "\n".join(
        ["# Written by kbpg; changes made here are undone by its next run.", *lines, ""]
    ).encode()


class Sysctls(Resource):
    """The running kernel has these settings."""

    id = "sysctl"

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = {setting.name: setting for setting in settings}
        self._fact = fact(settings)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return the wanted value of every setting that the kernel has."""
        return {name: self._settings[name].wanted(value) for name, value in self._have(facts).items()}

    def have(self, facts: Facts) -> Want:
        """Return the values now."""
        return dict(self._have(facts))

    def _have(self, facts: Facts) -> Mapping[str, int]:
        return facts.get(self._fact)

    def fix(self, site: Site, change: Change) -> None:
        """Set those that differ, by the kernel's own files: `sysctl` need not be installed."""
        wanted: State = change.want if isinstance(change.want, Mapping) else {}
        for name in change.names():
            path = "/proc/sys/" + name.replace(".", "/")
            site.host.run(["tee", path], stdin=f"{wanted[name]}\n".encode())
