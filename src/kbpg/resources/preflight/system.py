"""What a host is: its distribution, architecture, Docker, time service and limits."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kbpg.facts import ShellFact
from kbpg.hosts.port import Output

TIME_SERVICES = frozenset({"chronyd", "ntpd", "systemd-timesyn", "ntpsec", "ptp4l", "phc2sys"})
"""Processes that discipline the clock, as /proc/PID/comm spells them (15 characters)."""
CAP_SYS_RESOURCE = 24
"""linux/capability.h: who has it may raise hard limits, up to fs.nr_open for open files."""


@dataclass(frozen=True)
class System:
    """`docker`: "missing", "silent" (no answer from the daemon) or its version; `open_files`: what a container may
    get at most."""

    id: str
    like: str
    name: str
    machine: str
    apt: bool
    docker: str
    docker_error: str
    time_service: str
    open_files: int

    @property
    def debian(self) -> bool:
        """Return whether this is Debian, Ubuntu or a relative, with apt: where packages can be installed."""
        family = {self.id, *self.like.split()}
        return self.apt and bool(family & {"debian", "ubuntu"})


@dataclass(frozen=True)
class SystemFact(ShellFact[System]):
    """What the host is."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "system"

    @property
    def script(self) -> str:
        """Return the fragment: `name=value` lines; one pass over /proc without starting a process."""
        services = "|".join(sorted(TIME_SERVICES))
        return (
            "if [ -r /etc/os-release ]; then . /etc/os-release; fi; "
            'echo "id=$ID"; echo "like=$ID_LIKE"; echo "name=$PRETTY_NAME"; echo "machine=$(uname -m)"; '
            "command -v apt-get >/dev/null && echo apt=yes; "
            "if command -v docker >/dev/null; then "
            "v=$(docker version --format '{{.Server.Version}}' 2>&1) && echo \"docker=$v\" || "
            '{ echo docker=silent; echo "docker_error=$(printf %s "$v" | tail -n 1)"; }; fi; '
            "d=; for p in /proc/[0-9]*; do { read -r c <$p/comm; } 2>/dev/null || continue; "
            f'case $c in {services}) echo "time_service=$c";; '
            'dockerd) [ "$d" ] || d=$p;; esac; done; '
            # The daemon that this host's Docker talks to, should there be several
            "{ read -r pid </run/docker.pid || :; } 2>/dev/null; "
            '[ "$pid" ] && [ -r /proc/$pid/limits ] && d=/proc/$pid; d=${d:-/proc/self}; '
            'while read -r a b c soft hard _; do [ "$a$b$c" = Maxopenfiles ] && echo "hard=$hard"; done <$d/limits; '
            'while read -r a value _; do [ "$a" = CapEff: ] && echo "capabilities=$value"; done <$d/status; '
            # dash's `read` reads single bytes, of which /proc/sys gives the first alone
            'echo "nr_open=$(cat /proc/sys/fs/nr_open)"'
        )

    def parse(self, output: Output) -> System:
        """Read the answer."""
        said = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
        return System(
            id=said.get("id", ""),
            like=said.get("like", ""),
            name=said.get("name") or said.get("id") or "an unknown system",
            machine=said["machine"],
            apt="apt" in said,
            docker=said.get("docker", "missing") or "silent",
            docker_error=said.get("docker_error", ""),
            time_service=said.get("time_service", ""),
            open_files=_open_files(said),
        )


def _open_files(said: dict[str, str]) -> int:
    hard, most = said["hard"], int(said["nr_open"])
    if int(said["capabilities"], 16) >> CAP_SYS_RESOURCE & 1 or not hard.isdigit():
        return most
    return min(int(hard), most)


def version(text: str) -> tuple[int, int]:
    """Return the first two numbers of Docker's version, such as 26.1.5+dfsg1; zeros where there are none."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
