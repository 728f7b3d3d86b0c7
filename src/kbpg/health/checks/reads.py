"""The read side: a query comes back through the port for reads and through PgBouncer's name for it."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.facts import REFUSED
from kbpg.health.check import LEADERLESS, NODE_FAULT, POOLED_FAULT, Check, Seen
from kbpg.health.checks.haproxy import DOWN as HAPROXY_DOWN
from kbpg.health.checks.pgbouncer import DOWN as PGBOUNCER_DOWN
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import read_name
from kbpg.layout import HAPROXY, PGBOUNCER
from kbpg.resources.sql_facts import RowsFact


def _ways(snapshot: Snapshot) -> tuple[tuple[str, RowsFact, str], ...]:
    """Return the two ways of a reader: what it is called, the question through it, the container it needs."""
    ports, views = snapshot.inventory.ports, snapshot.ask.views
    name = read_name(snapshot.inventory.cluster.database)
    return (
        (f"port {ports.replicas}", views.replicas, HAPROXY),
        (f"{name} on port {ports.pgbouncer}", views.reads, PGBOUNCER),
    )


def unusable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies through which a reader's query does not come back."""
    for proxy in snapshot.proxies:
        for way, view, part in _ways(snapshot):
            why = snapshot.why_not(view, proxy)
            if not why or REFUSED in why or snapshot.state(proxy, part) != "running":
                continue
            # Where nobody is to serve reads, `haproxy-replica-down` says so
            if not _nobody(snapshot, proxy):
                yield Seen(proxy, f"a query through {way} fails: {why}", subject=way, part=part)


def _up(snapshot: Snapshot, proxy: str) -> bool | None:
    """Return whether HAProxy has a replica for readers; None where it does not say."""
    servers = snapshot.servers(proxy)
    if servers is None:
        return None
    return any(each.up or each.rising for each in servers if each.proxy == "replicas")


def _nobody(snapshot: Snapshot, proxy: str) -> bool:
    return snapshot.inventory.haproxy.read_fallback == "none" and _up(snapshot, proxy) is False


def on_leader(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies whose readers the leader serves though a replica is up."""
    for proxy in snapshot.proxies:
        for way, view, part in _ways(snapshot):
            rows = snapshot.facts.known(view, proxy)
            if not rows or rows[0][0] or not _up(snapshot, proxy):
                continue
            yield Seen(
                proxy,
                f"{way} leads to the leader, though a replica is up",
                repair=Repair(
                    Action.RECONNECT_POOLER, proxy, f"RECONNECT on {proxy}: new connections to HAProxy"
                )
                if part == PGBOUNCER
                else None,
                subject=way,
                part=part,
            )


CHECKS = (
    Check(
        "reads-unusable",
        "reads do not come through",
        Severity.CRITICAL,
        "applications that read from replicas through this proxy cannot work",
        "{kbpg} step 04 --limit {host}",
        unusable,
        explained_by=(
            *HAPROXY_DOWN,
            *PGBOUNCER_DOWN,
            *LEADERLESS,
            *NODE_FAULT,
            *POOLED_FAULT,
        ),
    ),
    Check(
        "reads-on-leader",
        "the leader serves reads",
        Severity.NOTICE,
        "no replica was fit to, and one is again: connections of PgBouncer go back to replicas within a minute, "
        "direct ones when their clients close them",
        "{kbpg} diagnose",
        on_leader,
        explained_by=(*HAPROXY_DOWN, *PGBOUNCER_DOWN, *LEADERLESS),
    ),
)
