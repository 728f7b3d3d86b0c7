"""Settings: a pause, a restart that waits, parameters that are unsafe or were set past Patroni."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.check import NODE_FAULT, Check, Seen
from kbpg.health.checks.overrides import overridden, reset
from kbpg.health.checks.patroni import leading, paused_nodes
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.model import CLUSTER
from kbpg.resources.patroni import DynamicConfig

PROTECTIVE = {"fsync": "on", "full_page_writes": "on", "password_encryption": "scram-sha-256"}


def paused(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that automatic failover is switched off; with two primaries only a person may switch it on."""
    nodes = paused_nodes(snapshot)
    if not nodes:
        return
    two = len(leading(snapshot)) > 1
    risk = "Patroni acts again: whoever works by hand on a node may find PostgreSQL started or stopped there"
    yield Seen(
        CLUSTER,
        "Patroni is paused",
        (f"paused by {', '.join(nodes)}",),
        why="two nodes take writes; when the pause ends, Patroni rewinds one, and what only that has is lost"
        if two
        else "",
        repair=None if two else Repair(Action.RESUME_PATRONI, CLUSTER, "end Patroni's pause", risk),
    )


def pending_restart(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes on which a parameter waits for a restart."""
    # A restart would put in force what somebody changed by hand; `drift` changes it back first
    drifted = any(True for _ in snapshot.differing(DynamicConfig))
    for host in snapshot.db:
        node = snapshot.node(host)
        if not node or not node.pending_restart:
            continue
        waiting = [name for name, (_, _, pending) in snapshot.settings(host).items() if pending]
        leads = host == snapshot.leader
        repair = Repair(
            Action.RESTART_POSTGRESQL,
            host,
            f"restart PostgreSQL on {host} through Patroni",
            "a switchover: clients reconnect" if leads else "this replica is away for some seconds",
        )
        yield Seen(
            host,
            "a parameter waits for a restart of PostgreSQL" + (f": {', '.join(waiting)}" if waiting else ""),
            repair=None if drifted else repair,
        )


def unprotected(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes where a setting that protects acknowledged commits is off."""
    for host in snapshot.db:
        settings, own = snapshot.settings(host), overridden(snapshot, host)
        for name, wanted in PROTECTIVE.items():
            value = settings.get(name, (wanted, "", False))[0]
            if value != wanted:
                more = reset(snapshot, host, name) if name in own else {}
                lines = ("set with ALTER SYSTEM, in postgresql.auto.conf",) if more else ()
                yield Seen(host, f"{name} is {value}, not {wanted}", lines, subject=name, **more)


def by_hand(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the parameters that kbpg sets through Patroni, and that ALTER SYSTEM sets otherwise on a node."""
    for host in snapshot.db:
        config = snapshot.facts.known(snapshot.ask.config, host) or {}
        ours = config.get("postgresql", {}).get("parameters", {})
        for name, (value, _) in overridden(snapshot, host).items():
            if name in ours and str(ours[name]) != value:
                yield Seen(
                    host,
                    f"{name} is set to {value} with ALTER SYSTEM, and to {ours[name]} by Patroni",
                    subject=name,
                    **reset(snapshot, host, name),
                )


CHECKS = (
    Check(
        "unsafe-setting",
        "a setting that protects data is off",
        Severity.CRITICAL,
        "a crash or a power cut may damage the database, or passwords are stored weakly",
        "{kbpg} step 02",
        unprotected,
        explained_by=(),
    ),
    Check(
        "patroni-paused",
        "Patroni is paused",
        Severity.WARNING,
        "there is no automatic failover: when the leader fails, writes stop until somebody acts",
        "{kbpg} resume",
        paused,
        explained_by=(),
    ),
    Check(
        "setting-overridden",
        "a parameter was set past Patroni",
        Severity.WARNING,
        "postgresql.auto.conf wins over what the inventory says, on this node alone: it changes with a failover",
        "alter system reset PARAMETER",
        by_hand,
        explained_by=NODE_FAULT,
    ),
    Check(
        "pending-restart",
        "restart pending",
        Severity.WARNING,
        "a changed parameter is not in force yet, and would come into force at the next failover, unannounced",
        "{kbpg} step 02",
        pending_restart,
        explained_by=NODE_FAULT,
    ),
)
