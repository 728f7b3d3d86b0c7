"""The data directory: PostgreSQL is strict about whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbpg.health.check import HOST_FAULT, LEADERLESS, Check, Seen
from kbpg.health.checks.containers import last_lines
from kbpg.health.checks.patroni import leading
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.patroni import CREATING
from kbpg.resources.datadir import DataDirectoryOwner
from kbpg.resources.foreign import Ownership, damaged, describe
from kbpg.resources.identity import adopting, read_record
from kbpg.resources.preflight.data import data_fact, record_fact


def permissions(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the data directories with a wrong owner or mode, or with files of somebody else."""
    for _, found in snapshot.differing(DataDirectoryOwner):
        host, change = found.placed.place, found.change
        if change is None or not isinstance(change.have, Mapping):
            continue
        node = snapshot.node(host)
        works = node is not None and node.state in ("running", "streaming")
        evidence = tuple(line for line in last_lines(snapshot, host, PATRONI) if "permission" in line.lower())
        yield Seen(
            host,
            f"{snapshot.paths.pgdata}: {'; '.join(found.lines)}",
            evidence,
            f"{{kbpg}} step 01 --limit {host}",
            severity=Severity.WARNING if works else Severity.CRITICAL,
            repair=Repair(
                Action.OWN_DATA,
                host,
                f"give {snapshot.paths.pgdata} back to its owner with mode 0700, and let Patroni start PostgreSQL",
                parameters={"path": snapshot.paths.pgdata, "container": PATRONI},
            ),
        )


def unreadable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the replicas whose data is this cluster's and cannot be read, where a leader can give them a copy."""
    for host in snapshot.db:
        leader, data = replaceable(snapshot, host), snapshot.facts.known(data_fact(snapshot.inventory), host)
        if not leader or data is None:
            continue
        streams = host in _streaming(snapshot, leader)
        identifier = snapshot.facts.get(snapshot.ask.views.node, leader)[0][2]
        record = record_fact(snapshot.inventory).path
        yield Seen(
            host,
            f"{data.path}/global/pg_control is damaged: PostgreSQL "
            + ("runs, but could not start again" if streams else "cannot start on this data"),
            (
                describe(data),
                f"{record} says that it is this cluster's, system identifier {identifier}",
                f"{leader} leads {identifier}, takes writes and has a quorum",
                *last_lines(snapshot, host, PATRONI),
            ),
            severity=Severity.WARNING if streams else None,
            # One that streams writes the file anew at its next restartpoint: its data is not taken away
            repair=None if streams else clone(host, leader),
        )


def _streaming(snapshot: Snapshot, leader: str) -> set[str]:
    node = snapshot.node(leader)
    return {each.name for each in node.replicas if each.state == "streaming"} if node else set()


def replaceable(snapshot: Snapshot, host: str) -> str:
    """Return the leader from which this host's data, unreadable and its own, can be cloned anew; "" without one.

    It is what `operations.guards.why_not_replace` asks for, as far as a diagnosis sees it; the repair looks again.
    """
    inventory, leader = snapshot.inventory, snapshot.leader
    data = snapshot.facts.known(data_fact(inventory), host)
    found = snapshot.facts.known(record_fact(inventory), host)
    if not leader or host == leader or data is None or found is None or adopting(read_record(found.text)):
        return ""
    owner, node = Ownership.of(found.text), snapshot.node(host)
    if not damaged(data, owner, inventory.cluster.name, inventory.versions.postgresql):
        return ""
    if node is not None and node.state == CREATING:  # the clone's last file is pg_control
        return ""
    rows, raft = snapshot.facts.known(snapshot.ask.views.node, leader), snapshot.raft(leader)
    if not rows or raft is None or not raft.has_quorum or leading(snapshot) != [leader]:
        return ""
    read_only, _, identifier, *_ = rows[0]
    return leader if read_only is False and str(identifier) == owner.system_identifier else ""


def clone(host: str, leader: str) -> Repair:
    """Return the repair that gives a replica a new copy of the leader's data."""
    return Repair(
        Action.REINITIALIZE,
        host,
        f"clone {host} anew from {leader}, which leads and has the same system identifier",
        f"the data on {host} is removed first; commits that only {host} has are lost",
        {"leader": leader},
    )


CHECKS = (
    Check(
        "data-permissions",
        "data directory with a wrong owner or mode",
        Severity.CRITICAL,
        "PostgreSQL refuses to start on a data directory that others may read or that is not its own",
        "{kbpg} step 01 --limit {host}",
        permissions,
        explained_by=(*HOST_FAULT, "raft-rebuild-unfinished"),
    ),
    Check(
        "data-unreadable",
        "the data of this replica is damaged",
        Severity.CRITICAL,
        "without its pg_control PostgreSQL cannot start; the data is this cluster's by the host's own record, and a "
        "healthy leader of the same system identifier has it all: only a new copy helps",
        "{kbpg} reinit {host}",
        unreadable,
        explained_by=(*HOST_FAULT, *LEADERLESS, "cluster-unmanaged", "data-shared"),
    ),
)
