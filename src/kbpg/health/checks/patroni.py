"""Patroni: it answers, one node leads, and all nodes agree who."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.facts import REFUSED
from kbpg.health.check import CONTAINER_FAULT, HOST_FAULT, LEADERLESS, NODE_FAULT, Check, Seen
from kbpg.health.checks.containers import last_lines
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER
from kbpg.patroni import CREATING, LEADER_ROLES, Member


def silent(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes whose container runs and whose REST API does not answer."""
    for host in snapshot.db:
        why = snapshot.why_not(snapshot.ask.node, host)
        if why and snapshot.state(host, PATRONI) == "running":
            fresh = snapshot.fresh(host, PATRONI)
            yield Seen(
                host,
                f"Patroni does not answer{', but was started just now' if fresh else ''}: {why}",
                last_lines(snapshot, host, PATRONI),
                snapshot.on_host(host, f"docker logs --tail 50 {PATRONI}"),
                severity=Severity.WARNING if fresh else None,
            )


def no_leader(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that no node that can be seen leads."""
    if snapshot.leaders or _hidden_leader(snapshot):
        return
    shown = [f"{name}: {_shown(snapshot, name)}" for name in snapshot.context.db_names]
    everywhere = tuple(snapshot.context.db_names)
    idle = paused_nodes(snapshot)
    yield Seen(
        CLUSTER,
        "no node says that it leads" + ("; Patroni is paused, so that none takes over" if idle else ""),
        tuple(shown),
        "{kbpg} resume" if idle else "",
        about=everywhere,
    )


def paused_nodes(snapshot: Snapshot) -> list[str]:
    """Return the nodes that say that Patroni is paused."""
    return [host for host in snapshot.db if (node := snapshot.node(host)) and node.paused]


def _hidden_leader(snapshot: Snapshot) -> bool:
    """Return whether a host that kbpg cannot reach leads, as a replica that streams from it shows."""
    for host in snapshot.db:
        node, seen = snapshot.node(host), leader_seen(snapshot.members(host) or ())
        if node and node.receiving and seen in snapshot.unreachable:
            return True
    return False


def _shown(snapshot: Snapshot, host: str) -> str:
    node = snapshot.node(host)
    if node:
        return f"{node.role}, {node.state}, timeline {node.timeline or 'unknown'}"
    return "unreachable" if host in snapshot.unreachable else snapshot.why_not(snapshot.ask.node, host)


def two_leaders(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that more than one node leads, or takes writes."""
    leaders = leading(snapshot)
    if len(leaders) < 2:
        return
    votes = [seen for host in snapshot.db if (seen := leader_seen(snapshot.members(host) or ()))]
    right = max(votes, key=votes.count) if votes else ""
    wrong = [host for host in leaders if host != right]
    lines = [f"{host}: {_shown(snapshot, host)}" for host in leaders]
    if right in leaders and votes.count(right) > len(votes) / 2:
        lines.append(f"most nodes see {right} as the leader")
        lines.append(
            f"what {wrong[0]} alone has written is lost as soon as Patroni rewinds it: save it first"
        )
        remedy = snapshot.on_host(wrong[0], f"docker stop {PATRONI}")
    else:
        remedy = "{kbpg} status"
    yield Seen(CLUSTER, f"{' and '.join(leaders)} take writes", tuple(lines), remedy, about=tuple(leaders))


def leading(snapshot: Snapshot) -> list[str]:
    """Return the nodes that lead by their own word, or take writes."""
    return [host for host in snapshot.db if host in snapshot.leaders or _writable(snapshot, host)]


def _writable(snapshot: Snapshot, host: str) -> bool:
    rows = snapshot.facts.known(snapshot.ask.views.node, host)
    return bool(rows) and rows is not None and rows[0][0] is False


def leader_seen(members: Iterable[Member]) -> str:
    """Return who leads by a node's memory of the cluster; empty for nobody."""
    return next((member.name for member in members if member.role in LEADER_ROLES), "")


def disagree(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes whose memory of the cluster has another leader than the one that leads."""
    leader = snapshot.leader
    for host in snapshot.db if leader else ():
        members = snapshot.members(host)
        seen = leader_seen(members) if members is not None else leader
        if seen == leader:
            continue
        raft = snapshot.raft(host)
        lines = [f"{leader} leads by its own word, and {host} remembers {seen or 'nobody'}"]
        if raft:
            lines.append(
                f"Raft on {host}: quorum {raft.has_quorum}, term {raft.term}, commit {raft.commit_index}"
            )
        repair = Repair(
            Action.RESTART_PATRONI,
            host,
            f"restart the container {PATRONI} on the replica {host}, so that it reads the consensus anew",
            "this replica is away for some seconds",
        )
        yield Seen(
            host,
            f"thinks that {seen or 'nobody'} leads, but it is {leader}",
            tuple(lines),
            repair=repair if host != leader else None,
        )


def postgres_down(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes whose Patroni answers and whose PostgreSQL does not run."""
    for host in snapshot.db:
        node = snapshot.node(host)
        if not node or node.runs or node.state == CREATING:
            continue
        yield Seen(
            host,
            f"Patroni says `{node.state}`" + (", and is paused: it starts nothing" if node.paused else ""),
            last_lines(snapshot, host, PATRONI),
            "{kbpg} resume" if node.paused else snapshot.on_host(host, f"docker logs --tail 50 {PATRONI}"),
            severity=Severity.WARNING if "starting" in node.state else None,
        )


def postgres_silent(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes whose PostgreSQL answers Patroni, and kbpg's superuser nothing at all.

    That is judged after a second look (`looking.look`). A password that is refused is what `role-password` tells.
    """
    for host in snapshot.db:
        node, why = snapshot.node(host), snapshot.why_not(snapshot.ask.views.node, host)
        if not node or not node.runs or REFUSED in why:
            continue
        if all(snapshot.why_not(fact, host) for fact in snapshot.ask.views.on_db()):
            yield Seen(
                host,
                f"Patroni says `{node.state}`, but PostgreSQL gives kbpg no answer: {why}",
                last_lines(snapshot, host, PATRONI),
                snapshot.on_host(host, f"docker logs --tail 50 {PATRONI}"),
                severity=Severity.WARNING if snapshot.fresh(host, PATRONI) else None,
            )


def versions(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that the nodes run different versions of Patroni."""
    found = {host: node.version for host in snapshot.db if (node := snapshot.node(host))}
    if len(set(found.values())) > 1:
        yield Seen(CLUSTER, ", ".join(f"{host} {version}" for host, version in found.items()))


CHECKS = (
    Check(
        "patroni-silent",
        "Patroni does not answer",
        Severity.CRITICAL,
        "nobody, HAProxy included, can tell what this node is, so it gets no clients and does not fail over",
        "docker logs --tail 50 patroni",
        silent,
        explained_by=(*CONTAINER_FAULT, "raft-rebuild-unfinished", "data-unreadable"),
    ),
    Check(
        "two-leaders",
        "two leaders",
        Severity.CRITICAL,
        "writes go to two histories, and those of one will be lost",
        "docker stop patroni",
        two_leaders,
        explained_by=(),
    ),
    Check(
        "no-leader",
        "no leader",
        Severity.CRITICAL,
        "nothing can be written",
        "{kbpg} raft status",
        no_leader,
        explained_by=(*NODE_FAULT, "raft-rebuild-unfinished", "raft-no-quorum"),
    ),
    Check(
        "postgres-down",
        "PostgreSQL does not run",
        Severity.CRITICAL,
        "this node neither serves nor keeps a copy of what is written now",
        "docker logs --tail 50 patroni",
        postgres_down,
        explained_by=(
            *CONTAINER_FAULT,
            "raft-rebuild-unfinished",
            "data-permissions",
            "data-foreign",
            "data-unreadable",
            "data-shared",
            "replica-no-checkpoint",
            "replica-diverged",
            "replica-foreign",
            "replica-password",
        ),
    ),
    Check(
        "postgres-silent",
        "PostgreSQL does not answer kbpg",
        Severity.CRITICAL,
        "it answers Patroni over its socket, and nothing that comes over the network as the superuser: others may be "
        "kept out as well, and nothing in it is looked at, or mended",
        "docker logs --tail 50 patroni",
        postgres_silent,
        explained_by=CONTAINER_FAULT,
        part=PATRONI,
    ),
    Check(
        "leader-disagreement",
        "a node sees another leader",
        Severity.WARNING,
        "its memory of the cluster is stale: it was cut off, or has just restarted; it might act on it",
        "{kbpg} diagnose --repair --host {host}",
        disagree,
        explained_by=(*HOST_FAULT, *LEADERLESS, "raft-password", "raft-silent", "raft-isolated"),
    ),
    Check(
        "versions-differ",
        "different versions of Patroni",
        Severity.WARNING,
        "an upgrade was left half-way; the nodes may not understand each other's settings",
        "{kbpg} step 02",
        versions,
        explained_by=("container-old", "container-unmanaged"),
    ),
)
