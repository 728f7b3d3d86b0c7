"""Containers and their images: there, running, as kbpg would start them, and alone with their data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kbpg.health.check import CONTAINER_FAULT, HOST_FAULT, Check, Seen
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.questions import NeighboursFact
from kbpg.health.snapshot import Snapshot
from kbpg.inventory.checks import overlap
from kbpg.layout import HAPROXY, PATRONI, PGBOUNCER
from kbpg.model import Change
from kbpg.resources.container import Container
from kbpg.resources.docker import LABEL_SPEC
from kbpg.resources.loaded import Loaded

STEPS = {PATRONI: "02", HAPROXY: "03", PGBOUNCER: "04"}
"""The step that is about each container."""
EVIDENCE_LINES = 8
"""Last lines of a log that go with a finding."""


def last_lines(snapshot: Snapshot, host: str, container: str) -> tuple[str, ...]:
    """Return the last lines of a container's log, as evidence."""
    return tuple(line for line in snapshot.log(host, container) if line.strip())[-EVIDENCE_LINES:]


def step_for(snapshot: Snapshot, host: str, container: str, will: str, risk: str = "none") -> dict[str, Any]:
    """Return remedy and repair for what one step mends on one host."""
    step = STEPS[container]
    return {
        "remedy": f"{{kbpg}} step {step} --limit {host}",
        "repair": Repair(Action.APPLY_STEP, host, will, risk, {"step": step}),
        "part": container,
    }


def _each(snapshot: Snapshot) -> Iterable[tuple[str, str, str]]:
    """Yield host, container and state of every container there should be, where Docker answers."""
    for host in snapshot.hosts:
        for name in snapshot.containers_fact(host.name).names:
            state = snapshot.state(host.name, name)
            if state is not None:
                yield host.name, name, state


def missing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the containers that are not there."""
    for host, name, state in _each(snapshot):
        if state == "missing":
            will = f"start the container {name} on {host}; its data is where it was"
            yield Seen(host, f"there is no container {name}", **step_for(snapshot, host, name, will))


def stopped(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the containers that are there and do not run."""
    for host, name, state in _each(snapshot):
        if state in ("running", "missing", "restarting"):
            continue
        found = (snapshot.containers(host) or {})[name]["State"]
        killed = ", killed for want of memory" if found.get("OOMKilled") else ""
        at = str(found.get("FinishedAt", ""))[:19]
        yield Seen(
            host,
            f"container {name} is {state} since {at} (exit code {found.get('ExitCode')}{killed})",
            last_lines(snapshot, host, name),
            remedy=f"{{kbpg}} step {STEPS[name]} --limit {host}",
            repair=Repair(
                Action.START_CONTAINER,
                host,
                f"start {name} on {host} as it is",
                parameters={"container": name},
            ),
            part=name,
        )


def restarting(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the containers that Docker restarts again and again."""
    for host, name, state in _each(snapshot):
        if state != "restarting":
            continue
        found = (snapshot.containers(host) or {})[name]
        code, count = found["State"].get("ExitCode"), found.get("RestartCount", "?")
        log = last_lines(snapshot, host, name)
        telling = [line for line in log if _tells(line)]
        cause = telling[-1] if telling else log[-1] if log else "its log is empty"
        will = f"bring {name} on {host} back to what the inventory says, and start it"
        yield Seen(
            host,
            f"container {name} restarts again and again ({count} times, exit code {code}): {cause}",
            log,
            **step_for(snapshot, host, name, will),
        )


def _tells(line: str) -> bool:
    # HAProxy sums up after the line that names the error
    if "rror" in line and "found in configuration" in line:
        return False
    return any(word in line for word in ("FATAL", "ALERT", "ERROR", "Error", "error", "PANIC", "annot"))


def unmanaged(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the containers that somebody started by hand."""
    for host, name, state in _each(snapshot):
        if state != "missing" and LABEL_SPEC not in _labels(snapshot, host, name):
            yield Seen(
                host,
                f"container {name} was not started by kbpg",
                remedy="{kbpg} apply-all",
                repair=Repair(
                    Action.APPLY_STEP,
                    host,
                    f"replace {name} on {host} by kbpg's own container on the same data",
                    "a restart; of a leader after a switchover",
                    {"step": STEPS[name]},
                ),
                part=name,
            )


def _labels(snapshot: Snapshot, host: str, name: str) -> Mapping[str, str]:
    return (snapshot.containers(host) or {})[name].get("Config", {}).get("Labels") or {}


def old_spec(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the containers that run with other options, or another image, than the inventory says."""
    for _, found in snapshot.differing(Container):
        change, host = found.change, found.placed.place
        name = found.placed.resource.id.removeprefix("container:")
        if change is None or not isinstance(change.have, Mapping) or change.only("status"):
            continue
        if LABEL_SPEC not in _labels(snapshot, host, name):
            continue
        lines = _but_status(change)
        yield Seen(
            host,
            f"container {name} differs from what the inventory says: {lines[0]}",
            lines,
            **step_for(
                snapshot,
                host,
                name,
                f"replace {name} on {host} by a container with the wanted options",
            ),
        )


def _but_status(change: Change) -> tuple[str, ...]:
    return tuple(line for line in change.lines() if not line.startswith("status:"))


def not_loaded(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the programs that have not read the configuration that is on disk."""
    for _, found in snapshot.differing(Loaded):
        host, name = found.placed.place, found.placed.resource.id.removeprefix("loaded:")
        if name in STEPS and snapshot.state(host, name) == "running":
            will = f"let {name} on {host} read its configuration again"
            yield Seen(
                host,
                f"{name} has not loaded the configuration that is on disk",
                found.lines,
                **step_for(snapshot, host, name, will),
            )


def shared(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield other containers that have kbpg's data directory."""
    for host in snapshot.db:
        names = snapshot.containers_fact(host).names
        for each in snapshot.facts.known(NeighboursFact(names), host) or ():
            if any(overlap(mount, snapshot.paths.data) for mount in each.mounts):
                yield Seen(
                    host,
                    f"container {each.name} ({each.image}) runs with {snapshot.paths.data}",
                    remedy=snapshot.on_host(host, "docker stop", each.name),
                    subject=each.name,
                )


CHECKS = (
    Check(
        "data-shared",
        "another container has the data directory",
        Severity.CRITICAL,
        "two PostgreSQLs on one data directory destroy it",
        "docker stop CONTAINER",
        shared,
    ),
    Check(
        "container-missing",
        "container missing",
        Severity.CRITICAL,
        "this part of the cluster does not run on this host, and nothing will start it",
        "{kbpg} apply-all --limit {host}",
        missing,
        explained_by=(*HOST_FAULT, "image-missing"),
    ),
    Check(
        "container-stopped",
        "container stopped",
        Severity.CRITICAL,
        "somebody stopped it, or it ended and Docker does not restart it: it stays down until it is started",
        "{kbpg} apply-all --limit {host}",
        stopped,
        explained_by=(*HOST_FAULT, "raft-rebuild-unfinished"),
    ),
    Check(
        "container-restarting",
        "container restarts again and again",
        Severity.CRITICAL,
        "the program ends as soon as it is started, so it does not serve",
        "{kbpg} apply-all --limit {host}",
        restarting,
        explained_by=(
            *HOST_FAULT,
            "port-taken",
            "nofile-low",
            "address-missing",
            "data-permissions",
            "data-unreadable",
            "raft-log-damaged",
        ),
    ),
    Check(
        "container-unmanaged",
        "container not managed by kbpg",
        Severity.WARNING,
        "it was started by hand: nobody knows with which options it will be started next time",
        "{kbpg} apply-all",
        unmanaged,
        explained_by=(*HOST_FAULT, "cluster-unmanaged"),
    ),
    Check(
        "container-old",
        "container of an old specification",
        Severity.WARNING,
        "it runs with other options or another image than the inventory says",
        "{kbpg} apply-all",
        old_spec,
        explained_by=CONTAINER_FAULT,
    ),
    Check(
        "configuration-not-loaded",
        "configuration on disk is newer than the loaded one",
        Severity.WARNING,
        "the program works with an older configuration than its file shows, until it is reloaded",
        "{kbpg} apply-all --limit {host}",
        not_loaded,
        explained_by=(*CONTAINER_FAULT, "container-unmanaged", "container-old"),
    ),
)
