"""Who runs where, in which role: the topology of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kbpg.layout import HAPROXY, PGBOUNCER

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject
    from kbpg.inventory import Host


def topology(subject: Subject) -> dict[str, Any]:
    """Return the cluster as the pass saw it: leader, nodes with role, state, timeline and lag in bytes, proxies."""
    inventory, snapshot = subject.context.inventory, subject.snapshot
    balancer, ports = inventory.cluster.load_balancer, inventory.ports
    rows = subject.known(snapshot.ask.views.streaming, snapshot.leader)[0] if snapshot.leader else None
    replicas = {row[0]: row for row in rows or ()}
    return {
        "leader": snapshot.leader,
        "load_balancer": str(balancer) if balancer else None,
        "ports": {
            "direct": ports.primary,
            "pooled": ports.pgbouncer,
            "read_only": ports.replicas,
            "postgresql": ports.postgresql,
        },
        "nodes": [_node(subject, host, replicas.get(host.name)) for host in inventory.db],
        "proxies": [_proxy(subject, host) for host in inventory.proxies],
    }


def _node(subject: Subject, host: Host, replica: Any) -> dict[str, Any]:
    node, reason = subject.known(subject.snapshot.ask.node, host.name)
    found = {
        "name": host.name,
        "address": str(host.address),
        "role": "unknown",
        "state": "no answer",
        "timeline": None,
        "lag_bytes": None,
        "synchronous": None,
        "problem": reason or None,
    }
    if node is None:
        return found
    found |= {"role": "replica", "state": node.state, "timeline": node.timeline or None}
    if node.leads:
        return {**found, "role": "leader"}
    if replica:
        found |= {"state": replica[1], "synchronous": replica[2], "lag_bytes": replica[3]}
    if found["state"] != "streaming":
        found["problem"] = "does not stream from the leader"
    return found


def _proxy(subject: Subject, host: Host) -> dict[str, Any]:
    snapshot, name = subject.snapshot, host.name
    lost = snapshot.unreachable.get(name)
    direct, no_route = subject.known(snapshot.ask.views.primary, name)
    pooled, no_pool = subject.known(snapshot.ask.views.pooled, name)
    problems = [f"{what}: {reason}" for what, reason in ((HAPROXY, no_route), (PGBOUNCER, no_pool)) if reason]
    return {
        "name": name,
        "address": str(host.address),
        "haproxy": bool(direct),
        "pgbouncer": bool(pooled),
        "problem": lost.reason if lost else "; ".join(problems) or None,
    }
