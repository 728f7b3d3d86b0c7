"""Hosts: reachable, with a Docker that answers, clocks that agree, ports of their own, room and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kbpg.errors import AccessDenied, HostKeyError
from kbpg.facts import NotKnown
from kbpg.health.check import HOST_FAULT, Check, Seen
from kbpg.health.checks.overrides import overridden, reset
from kbpg.health.checks.storage import replaceable
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import Host, human_size
from kbpg.resources.hardware import HardwareFact
from kbpg.resources.preflight import checks as preflight
from kbpg.resources.preflight.ports import Ports, collisions
from kbpg.resources.preflight.subject import Subject
from kbpg.resources.preflight.system import SystemFact
from kbpg.steps.s01_prepare import needs

TIGHT, FULL = 0.10, 0.03
"""Shares of a file system that are free: below the first a warning, below the second PostgreSQL is about to stop."""
MB = 1 << 20
OF_DOCKER = "without room for Docker's files no container can be replaced, and what programs say is not kept"
OF_MOUNTS = "what cannot be archived there stays on the leader's own disk, until that is full"


def unreachable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the hosts without a connection, but those that refused kbpg itself."""
    for name, error in snapshot.unreachable.items():
        if not isinstance(error, AccessDenied | HostKeyError):
            hint = (f"hint: {error.hint}",) if error.hint else ()
            yield Seen(name, error.reason, (*error.detail, *hint), snapshot.on_host(name, "true"))
    for host in snapshot.hosts:
        if silent := snapshot.silent(host.name):
            yield Seen(
                host.name, f"connected, but then: {silent}", remedy=snapshot.on_host(host.name, "true")
            )


def refused(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the hosts that answer but do not let kbpg in, or that kbpg does not trust."""
    for name, error in snapshot.unreachable.items():
        if isinstance(error, AccessDenied | HostKeyError):
            hint = (f"hint: {error.hint}",) if error.hint else ()
            yield Seen(name, error.reason, (*error.detail, *hint), snapshot.on_host(name, "true"))


def docker(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the hosts whose Docker is missing or silent."""
    for host in snapshot.hosts:
        why = snapshot.why_not(snapshot.containers_fact(host.name), host.name)
        system = snapshot.facts.known(SystemFact(), host.name)
        if not why.startswith(("Docker", "no answer within")) or snapshot.silent(host.name):
            continue
        if why == "Docker is not installed":
            yield Seen(host.name, why, remedy=f"{{kbpg}} step 01 --limit {host.name}", repair=_apply_01(host))
            continue
        said = (system.docker_error,) if system and system.docker_error else ()
        yield Seen(
            host.name,
            why,
            said,
            snapshot.on_host(host.name, "systemctl restart docker"),
            repair=Repair(
                Action.START_DOCKER,
                host.name,
                f"start the Docker daemon of {host.name}; its containers start with it",
            ),
        )


def _apply_01(host: Host) -> Repair:
    return Repair(Action.APPLY_STEP, host.name, f"install Docker on {host.name}", parameters={"step": "01"})


def judged(name: str) -> Callable[[Snapshot], Iterable[Seen]]:
    """Return the check that puts the preflight's of this name to every host of the roles that it is for."""
    chosen = next(check for check in preflight.CHECKS if check.name == name)

    def examine(snapshot: Snapshot) -> Iterable[Seen]:
        for host in snapshot.hosts:
            if host.role not in chosen.roles:
                continue
            subject = Subject(
                snapshot.inventory, host, needs(snapshot.context, host), snapshot.facts, snapshot.context
            )
            try:
                problem = chosen.judge(subject)
            except (NotKnown, LookupError):
                continue
            if problem:
                # What no run of kbpg mends: a person decides, and the hint says between what
                remedy = snapshot.on_host(host.name, "chronyc makestep") if name == "clock" else problem.hint
                yield Seen(host.name, problem.text, problem.detail, remedy)

    return examine


def foreign(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the data that is not this cluster's, or not for sure; `data-unreadable` tells of what is only damaged."""
    return (seen for seen in judged("data")(snapshot) if not replaceable(snapshot, seen.host))


def ports(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield, for each container, the ports that somebody else holds."""
    for host in snapshot.hosts:
        need = needs(snapshot.context, host)
        listeners = snapshot.facts.known(preflight.ports_fact(need), host.name)
        containers = snapshot.containers(host.name)
        for part in need.containers.names if listeners and containers is not None else ():
            mine = [each for each in need.ports if each.container == part]
            taken = collisions(mine, listeners or Ports(), containers or {})
            if taken:
                port = taken[0].split(" ", 1)[0]
                remedy = snapshot.on_host(host.name, f"ss -ltnp sport = :{port}")
                yield Seen(host.name, taken[0], tuple(taken[1:]), remedy, part=part)


def disk(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield file systems with little room left: the data's, Docker's, and those of `postgresql.mounts`."""
    base, mounts = snapshot.inventory.cluster.base_dir, snapshot.inventory.postgresql.mounts
    for host in snapshot.hosts:
        asked = snapshot.ask.usage_of(snapshot.context, host.name)
        for usage in snapshot.facts.known(asked, host.name) or ():
            if usage.size <= 0 or usage.free / usage.size >= TIGHT:
                continue
            share, ours = usage.free / usage.size, usage.path == base
            yield Seen(
                host.name,
                f"{usage.free // MB} MB of {usage.size // MB} MB free ({share:.0%}) at {usage.path}",
                remedy=snapshot.on_host(host.name, "du -xhd 3", usage.path),
                why="" if ours else OF_MOUNTS if usage.path in mounts else OF_DOCKER,
                severity=Severity.CRITICAL if ours and share < FULL else Severity.WARNING,
                subject="" if ours else usage.path,
            )


def memory(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield db hosts whose memory is less than what PostgreSQL was told it may use."""
    name = "shared_buffers"
    for host in snapshot.db:
        hardware = snapshot.facts.known(HardwareFact(), host)
        buffers, unit, _ = snapshot.settings(host).get(name, ("", "", False))
        if not hardware or not buffers.isdigit() or unit != "8kB":
            continue
        used = int(buffers) * 8192
        if used > hardware.memory * 0.6:
            yield Seen(
                host,
                f"shared_buffers is {human_size(used // MB * MB)}, and the host has "
                f"{hardware.memory // MB} MB of memory",
                **(reset(snapshot, host, name) if name in overridden(snapshot, host) else {}),
            )


CHECKS = (
    Check(
        "host-unreachable",
        "host unreachable",
        Severity.CRITICAL,
        "nothing that runs there can be seen or mended; if the host is down, so is its part of the cluster",
        "ping {host}",
        unreachable,
        explained_by=(),
    ),
    Check(
        "ssh-refused",
        "the host does not let kbpg in",
        Severity.CRITICAL,
        "the host is up, but kbpg can neither look at it nor mend it",
        "ssh {host}",
        refused,
        explained_by=(),
    ),
    Check(
        "docker-down",
        "Docker does not answer",
        Severity.CRITICAL,
        "all parts of the cluster on this host are containers, and without the daemon nothing restarts them",
        "systemctl restart docker",
        docker,
        explained_by=("host-unreachable", "ssh-refused"),
    ),
    Check(
        "clock-skew",
        "clocks disagree",
        Severity.CRITICAL,
        "Raft's leases depend on every node's own clock: who may lead can be wrong by as much",
        "chronyc makestep",
        judged("clock"),
    ),
    Check(
        "disk-full",
        "the disk is nearly full",
        Severity.WARNING,
        "PostgreSQL stops when it cannot write its log, and a replica without room falls behind for good; Docker's "
        "own disk and those of postgresql.mounts are looked at too",
        "df -h",
        disk,
    ),
    Check(
        "port-taken",
        "a port is taken by another process",
        Severity.CRITICAL,
        "the container that needs the port cannot serve there",
        "ss -ltnp",
        ports,
    ),
    Check(
        "nofile-low",
        "too few open files",
        Severity.CRITICAL,
        "a HAProxy that cannot raise its limit restarts for ever, and a PgBouncer refuses clients",
        "raise LimitNOFILE of docker.service, or lower the connections in the inventory",
        judged("open files"),
    ),
    Check(
        "address-missing",
        "the host does not have its address",
        Severity.CRITICAL,
        "the programs bind the address that the inventory gives the host, and the other nodes look for it there",
        "correct the host's address in the inventory",
        judged("address"),
    ),
    Check(
        "memory-promised",
        "less memory than the inventory promises",
        Severity.WARNING,
        "PostgreSQL is tuned for memory that is not there: the kernel may kill it under load",
        "lower postgresql.memory in the inventory, or leave it out",
        judged("memory"),
    ),
    Check(
        "memory-parameters",
        "memory parameters larger than the host",
        Severity.WARNING,
        "PostgreSQL may not start again, or be killed by the kernel under load",
        "{kbpg} step 02",
        memory,
    ),
    Check(
        "data-foreign",
        "data of another cluster",
        Severity.CRITICAL,
        "PostgreSQL data that is not this cluster's stands where this cluster's belongs; kbpg does not touch it",
        "find out whose data it is, and move it away",
        foreign,
        explained_by=(*HOST_FAULT, "cluster-unmanaged"),
    ),
    Check(
        "identity-differs",
        "system identifiers differ between hosts",
        Severity.CRITICAL,
        "the data directories belong to different clusters: one cannot be a replica of the other",
        "find out which host has the right data",
        judged("identity"),
        explained_by=("host-unreachable", "docker-down", "data-foreign"),
    ),
)
