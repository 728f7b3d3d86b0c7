"""The checks of the preflight, each a pure function of what was read; `CHECKS` lists them all."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from kbpg.inventory import Role, human_size
from kbpg.layout import USER
from kbpg.resources.directory import DirectoryFact
from kbpg.resources.hardware import HardwareFact
from kbpg.resources.preflight.born import fixed, survivors
from kbpg.resources.preflight.clock import ClockFact, skew
from kbpg.resources.preflight.data import born, data, data_fact, identity
from kbpg.resources.preflight.disk import IN_MEMORY, DiskFact
from kbpg.resources.preflight.firewall import firewall
from kbpg.resources.preflight.ports import PortsFact, collisions
from kbpg.resources.preflight.subject import Needs, Problem, Subject
from kbpg.resources.preflight.system import SystemFact, version

OLDEST_DOCKER = (20, 10)
"""The oldest Docker that kbpg was tried with."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the base images are published for, by the kernel's name of it."""
MINIMUM_MEMORY = 448 << 20
"""Bytes of a machine sold with 512 MB, after its kernel took its part."""
MEMORY_TOLERANCE = 1 / 16
"""What kernel and firmware take of a machine's memory: `postgresql.memory: 8GB` is fine on one sold with 8 GB."""
MINIMUM_INODES = 20_000
"""An installation makes about 2,000 files; a database makes one per table and index, and more per GB."""


RUNNING_DISK = 256 << 20
"""Bytes that must be free once the cluster is born: minimum_disk is for an installation, and a disk that its data
has filled since must not keep kbpg from mending the cluster."""


def ports_fact(needs: Needs) -> PortsFact:
    """Return the question for the listeners on the ports that a host needs."""
    return PortsFact(tuple(sorted({need.port for need in needs.ports})))


def system(subject: Subject) -> Problem | None:
    """Packages can be installed on Debian and Ubuntu; elsewhere Docker has to be there."""
    seen = subject.see(SystemFact())
    if seen.debian or seen.docker != "missing":
        return None
    return Problem(
        f"{seen.name}, without Docker: wanted Debian or Ubuntu, or Docker installed",
        "install Docker on the host by its own means, then run kbpg again",
    )


def architecture(subject: Subject) -> Problem | None:
    """The images are built once, for one architecture."""
    mine = subject.see(SystemFact()).machine
    first = subject.all(SystemFact()).get(subject.inventory.first_db.name)
    if mine not in ARCHITECTURES:
        return Problem(f"{mine}: wanted {' or '.join(ARCHITECTURES)}", "use another host")
    if first and first.machine in ARCHITECTURES and first.machine != mine:
        return Problem(
            f"{mine}, but {subject.inventory.first_db.name} is {first.machine}: wanted one architecture everywhere",
            "images are built once for all hosts, and data files cannot move between architectures",
        )
    return None


def docker(subject: Subject) -> Problem | None:
    """Docker answers and is recent enough, or may be installed."""
    seen = subject.see(SystemFact())
    if seen.docker == "missing":
        if subject.inventory.prepare.install_docker or not seen.debian:
            return None  # step 01 installs it, or `system` says so
        return Problem(
            "not installed: wanted Docker, and prepare.install_docker is false",
            "set prepare.install_docker: true, or run `apt-get install docker.io` on the host",
        )
    if seen.docker == "silent":
        return Problem(
            f"installed, but does not answer: {seen.docker_error or 'no version'}",
            "on the host: `systemctl status docker`, then `journalctl -u docker -n 50`",
        )
    if version(seen.docker) < OLDEST_DOCKER:
        return Problem(f"version {seen.docker}: wanted 20.10 or newer", "upgrade Docker on the host")
    return None


def time_service(subject: Subject) -> Problem | None:
    """Something keeps the clock right, or may be installed (`prepare.clock: managed`)."""
    seen = subject.see(SystemFact())
    if subject.inventory.prepare.clock != "managed" or seen.time_service or seen.debian:
        return None
    return Problem(
        f"none runs, and kbpg cannot install one on {seen.name}: wanted chrony, ntpd or systemd-timesyncd",
        "install and start chrony on the host, or set prepare.clock: report",
    )


def clock(subject: Subject) -> Problem | None:
    """The hosts' clocks agree."""
    subject.see(ClockFact())
    limit = subject.inventory.prepare.max_clock_skew
    away = skew(subject.host.name, subject.all(ClockFact()), limit)
    if away is None:
        return None
    return Problem(
        f"{abs(away):.3f} s {'ahead of' if away > 0 else 'behind'} the other hosts: wanted at most {limit:g} s",
        "on the host: `chronyc tracking`, `chronyc makestep`; Raft's leases depend on the clock",
    )


def memory(subject: Subject) -> Problem | None:
    """There is enough memory, and what the inventory promises PostgreSQL is there."""
    have = subject.see(HardwareFact()).memory
    if have < MINIMUM_MEMORY:
        return Problem(
            f"{rounded(have)}: wanted at least 512 MB", "use a larger host, or lift its cgroup limit"
        )
    wanted = subject.inventory.postgresql.memory or 0
    if subject.host.role == "db" and have < wanted * (1 - MEMORY_TOLERANCE):
        return Problem(
            f"{rounded(have)}: wanted {rounded(wanted)}, as postgresql.memory says",
            "lower postgresql.memory, or leave it out: then the host's memory decides",
        )
    return None


def disk(subject: Subject) -> Problem | None:
    """There is room, on something that lasts."""
    return next((p for path in subject.needs.directories if (p := _disk(subject, path))), None)


def _disk(subject: Subject, path: str) -> Problem | None:
    seen, wanted = subject.see(DiskFact(path)), subject.inventory.prepare.minimum_disk
    ways = "free some, or lower prepare.minimum_disk"
    if born(subject) and wanted > RUNNING_DISK:
        wanted, ways = RUNNING_DISK, "free some, or use a larger disk"
    if seen.broken:
        return Problem(
            f"{seen.broken} is no directory, nor a link to one: wanted a directory for {path}",
            f"on the host: `ls -la {seen.broken}`, then mount or remove what is wrong",
        )
    if seen.read_only:
        return Problem(f"{seen.at} is mounted read-only", "on the host: `dmesg | tail`, `mount`")
    if seen.free < wanted:
        return Problem(
            f"{rounded(seen.free)} free at {seen.at}: wanted {rounded(wanted)}",
            f"on the host: `df -h {seen.at}`; {ways}",
        )
    if seen.inodes is not None and seen.inodes < MINIMUM_INODES:
        return Problem(
            f"{seen.inodes} inodes free at {seen.at}: wanted {MINIMUM_INODES}",
            f"on the host: `df -i {seen.at}`; remove small files, or use a larger file system",
        )
    if (
        seen.kind in IN_MEMORY
        and subject.host.role == "db"
        and not subject.see(data_fact(subject.inventory)).present
    ):
        return Problem(
            f"{seen.at} is a {seen.kind}: wanted a file system that is still there after a reboot",
            "mount a disk there, or choose another cluster.base_dir",
        )
    return None


def mounts(subject: Subject) -> Problem | None:
    """The directories to mount are there: Docker would make what is missing, for root, on the host's own disk."""
    lost = [path for path in subject.needs.mounts if subject.see(DirectoryFact(path)) is None]
    if not lost:
        return None
    first = shlex.quote(lost[0])
    return Problem(
        f"{', '.join(lost)} is not there: wanted it, for postgresql.mounts",
        f"mount it, or make it: install -d -o {USER} -g {USER} -m 0700 {first}",
    )


def address(subject: Subject) -> Problem | None:
    """The programs can bind the address that the inventory gives the host."""
    own, wanted = subject.see(ports_fact(subject.needs)).addresses, subject.host.address
    if not own or wanted in own:
        return None
    listed = ", ".join(sorted(own - {"127.0.0.1"})) or "only 127.0.0.1"
    return Problem(
        f"{wanted} is not on any interface: wanted one of the host's own addresses ({listed})",
        f"correct the address of {subject.host.name} in the inventory; an address that only SSH uses is ssh.host",
    )


def ports(subject: Subject) -> Problem | None:
    """The ports are free, or kbpg's own containers hold them."""
    containers = subject.facts.known(subject.needs.containers, subject.host.name) or {}
    taken = collisions(subject.needs.ports, subject.see(ports_fact(subject.needs)), containers)
    if not taken:
        return None
    return Problem(
        f"{taken[0]}: wanted it free" if len(taken) == 1 else f"{len(taken)} are taken: wanted them free",
        "stop that program on the host, or choose another port under `ports:`",
        tuple(taken if len(taken) > 1 else ()),
    )


def open_files(subject: Subject) -> Problem | None:
    """A container may open as many files as its program needs; HAProxy restarts for ever with fewer."""
    limit = subject.see(SystemFact()).open_files
    short = {name: need for name, need in subject.needs.open_files.items() if need > limit}
    if not short:
        return None
    wanted = ", ".join(f"{need} for {name}" for name, need in short.items())
    return Problem(
        f"a container gets {limit} at most: wanted {wanted}",
        "raise LimitNOFILE of docker.service (and fs.nr_open), or lower the connections in the inventory",
    )


def rounded(size: int) -> str:
    """Return bytes as people say them: exact where the inventory would spell it so, else to one decimal."""
    exact = human_size(size)
    if size and not exact.isdigit() and len(exact) <= 6:
        return exact
    for unit, power in (("TB", 40), ("GB", 30), ("MB", 20)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Check:
    """A named check, and the roles it applies to."""

    name: str
    roles: tuple[Role, ...]
    judge: Callable[[Subject], Problem | None]


_ALL: tuple[Role, ...] = ("db", "proxy")

CHECKS = (
    Check("system", _ALL, system),
    Check("architecture", _ALL, architecture),
    Check("docker", _ALL, docker),
    Check("time service", _ALL, time_service),
    Check("firewall", _ALL, firewall),
    Check("clock", _ALL, clock),
    Check("memory", _ALL, memory),
    Check("disk", _ALL, disk),
    Check("mounts", ("db",), mounts),
    Check("address", _ALL, address),
    Check("ports", _ALL, ports),
    Check("open files", ("proxy",), open_files),
    Check("data", ("db",), data),
    Check("identity", ("db",), identity),
    Check("survivors", ("db",), survivors),
    Check("fixed settings", ("db",), fixed),
)
