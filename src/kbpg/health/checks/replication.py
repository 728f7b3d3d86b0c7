"""Replication: every standby streams, keeps up, and acknowledges commits; where not, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kbpg.health.check import CONTAINER_FAULT, HOST_FAULT, LEADERLESS, Check, Seen
from kbpg.health.checks.causes import Standby, slot_name, standby
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import human_size
from kbpg.model import CLUSTER
from kbpg.steps.layout import PATRONI

NAMED = (
    "replica-no-checkpoint",
    "replica-wal-removed",
    "replica-diverged",
    "replica-foreign",
    "replica-password",
    "replica-slot-missing",
)
CLONED = frozenset({"replica-no-checkpoint", "replica-wal-removed", "replica-diverged"})
"""What nothing but a new copy from the leader mends."""
EXPLAINED = (*CONTAINER_FAULT, "patroni-silent", "data-permissions", "data-foreign", "data-shared")


def because(cause: str) -> Callable[[Snapshot], Iterable[Seen]]:
    """Return the check that finds the standbys that do not stream for this reason."""

    def examine(snapshot: Snapshot) -> Iterable[Seen]:
        for host in snapshot.db:
            found = standby(snapshot, host)
            if found and found.cause == cause:
                leader = snapshot.leader or ""
                yield Seen(
                    host,
                    f"does not stream from {leader}: {found.said}",
                    found.evidence,
                    repair=_repair(snapshot, found, leader),
                )

    return examine


def _repair(snapshot: Snapshot, found: Standby, leader: str) -> Repair | None:
    host = found.host
    if found.cause in CLONED and _same_system(snapshot, host, leader):
        return Repair(
            Action.REINITIALIZE,
            host,
            f"clone {host} anew from {leader}, which leads and has the same system identifier",
            f"the data on {host} is removed first; commits that only {host} has are lost",
            {"leader": leader},
        )
    if found.cause == "replica-slot-missing":
        slot = slot_name(host)
        will = f'create the replication slot "{slot}" on {leader}'
        return Repair(Action.CREATE_SLOT, host, will, parameters={"leader": leader, "slot": slot})
    if found.cause == "replica-password":
        will = "set the passwords of the roles to those of the credentials file"
        return Repair(Action.APPLY_STEP, CLUSTER, will, parameters={"step": "02"})
    return None


def _same_system(snapshot: Snapshot, host: str, leader: str) -> bool:
    """Return whether the leader is sure, and of the same cluster as this replica by both nodes' own word."""
    mine, its = snapshot.node(host), snapshot.node(leader)
    if mine is None or its is None or not its.leads or not its.system_identifier:
        return False
    return mine.system_identifier in ("", its.system_identifier)


def not_streaming(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the standbys that do not stream for a reason that their log does not tell."""
    for host in snapshot.db:
        found, node = standby(snapshot, host), snapshot.node(host)
        if found is None or node is None or found.cause in NAMED:
            continue
        if node.state == "creating replica":
            seen = "is being cloned from the leader"
            yield Seen(host, seen, found.evidence, "{kbpg} status", severity=Severity.WARNING)
        else:
            yield Seen(
                host,
                f"does not stream from {snapshot.leader} (Patroni says `{node.state}`)",
                found.evidence,
                repair=Repair(
                    Action.RESTART_PATRONI,
                    host,
                    f"restart the container {PATRONI} on the replica {host}",
                    "this replica is away for some seconds",
                ),
            )


def lagging(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the standbys that are farther behind than the proxies (or a failover) accept."""
    leader, limit = snapshot.leader, snapshot.inventory.haproxy.replica_max_lag
    if snapshot.inventory.cluster.synchronous == "off":
        limit = min(limit, snapshot.inventory.timers.maximum_lag_on_failover)
    rows = snapshot.facts.known(snapshot.ask.views.standbys, leader) if leader else None
    for name, state, _, lag in rows or ():
        if state == "streaming" and isinstance(lag, int) and lag > limit and name in snapshot.db:
            yield Seen(
                name,
                f"{lag:,} bytes behind {leader}, more than {human_size(limit)}",
                (f"replay of {name} as {leader} sees it",),
            )


def replay_paused(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the standbys whose replay somebody has paused."""
    for host in snapshot.db:
        rows = snapshot.facts.known(snapshot.ask.views.node, host)
        if rows and rows[0][0] and rows[0][4]:
            yield Seen(
                host,
                "replay is paused",
                remedy=psql(snapshot, host, "select pg_wal_replay_resume()"),
            )


def psql(snapshot: Snapshot, host: str, query: str) -> str:
    """Return the command that runs a query on a host's own PostgreSQL, over the socket, without a password."""
    user = snapshot.inventory.cluster.superuser
    return snapshot.on_host(
        host,
        f'docker exec --user 999 {PATRONI} psql -h /var/run/postgresql -U {user} -d postgres -c "{query}"',
    )


def no_synchronous(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that no standby acknowledges commits, though the inventory wants one."""
    leader, wanted = snapshot.leader, snapshot.inventory.cluster.synchronous
    node = snapshot.node(leader) if leader else None
    if leader is None or node is None or wanted == "off":
        return
    if any(each.sync_state in ("sync", "quorum") and each.state == "streaming" for each in node.standbys):
        return
    names, _, _ = snapshot.settings(leader).get("synchronous_standby_names", ("unknown", "", False))
    stalls = " and writes wait" if wanted == "strict" else ""
    yield Seen(
        CLUSTER,
        f"no standby acknowledges what {leader} commits{stalls}: RPO is not 0",
        (
            f"synchronous_standby_names on {leader}: {names or 'empty'}",
            *(f"{each.name}: {each.state}, {each.sync_state}" for each in node.standbys),
        ),
        about=tuple(name for name in snapshot.context.db_names if name != leader),
    )


def stale_slots(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the replication slots that keep log for nobody."""
    leader = snapshot.leader
    ours = {slot_name(name) for name in snapshot.context.db_names}
    rows = snapshot.facts.known(snapshot.ask.views.slots, leader) if leader else None
    for name, kind, active, status, kept in rows or ():
        if leader and not active and name not in ours and kind == "physical":
            yield Seen(
                leader,
                f'slot "{name}" is nobody\'s and keeps {human_size(int(kept or 0))} of log ({status})',
                remedy=psql(snapshot, leader, f"select pg_drop_replication_slot('{name}')"),
                subject=str(name),
            )


REPAIR = "{kbpg} diagnose --repair --host {host}"
CHECKS = (
    Check(
        "replica-no-checkpoint",
        "no valid checkpoint record",
        Severity.CRITICAL,
        "the data of this replica is damaged or half copied: PostgreSQL cannot start on it, only a new copy helps",
        REPAIR,
        because("replica-no-checkpoint"),
        explained_by=(*EXPLAINED, *LEADERLESS),
    ),
    Check(
        "replica-diverged",
        "replica diverged",
        Severity.CRITICAL,
        "this replica has written what the leader has not, so it cannot follow; it needs a rewind or a new copy",
        REPAIR,
        because("replica-diverged"),
        explained_by=(*EXPLAINED, *LEADERLESS),
    ),
    Check(
        "replica-wal-removed",
        "the leader has removed the log that the replica needs",
        Severity.CRITICAL,
        "the replica was away too long to catch up; it needs a new copy",
        REPAIR,
        because("replica-wal-removed"),
        explained_by=(*EXPLAINED, *LEADERLESS),
    ),
    Check(
        "replica-foreign",
        "replica of another cluster",
        Severity.CRITICAL,
        "its data has another system identifier than the leader's; kbpg does not remove data of another cluster",
        "{kbpg} step 01 --limit {host}",
        because("replica-foreign"),
        explained_by=(*EXPLAINED, "identity-differs"),
    ),
    Check(
        "replica-password",
        "wrong replication password",
        Severity.CRITICAL,
        "the replica cannot log in to the leader, so it receives nothing",
        "{kbpg} step 02",
        because("replica-password"),
        explained_by=(*EXPLAINED, "role-password", "role-missing"),
    ),
    Check(
        "replica-slot-missing",
        "replication slot missing",
        Severity.CRITICAL,
        "the replica asks the leader for a slot that is not there, and receives nothing",
        REPAIR,
        because("replica-slot-missing"),
        explained_by=(*EXPLAINED, *LEADERLESS),
    ),
    Check(
        "replica-not-streaming",
        "replica does not stream",
        Severity.CRITICAL,
        "this replica falls behind: it cannot take over without losing what it has not received",
        "{kbpg} diagnose --repair --host {host}",
        not_streaming,
        explained_by=(
            *EXPLAINED,
            *LEADERLESS,
            "postgres-down",
            "disk-full",
            "raft-password",
            "raft-isolated",
        ),
    ),
    Check(
        "replica-lag",
        "replica lags behind",
        Severity.WARNING,
        "the proxies take it out of the read-only port, and after a failover it has this much to replay",
        "{kbpg} status --watch",
        lagging,
        explained_by=(*HOST_FAULT, "replica-replay-paused"),
    ),
    Check(
        "replica-replay-paused",
        "replay is paused",
        Severity.WARNING,
        "the replica receives and does not apply: readers see the past, and its disk fills",
        "select pg_wal_replay_resume()",
        replay_paused,
    ),
    Check(
        "synchronous-missing",
        "no synchronous standby",
        Severity.CRITICAL,
        "what is committed now exists once: if this leader is lost, so are its latest commits",
        "{kbpg} status",
        no_synchronous,
        explained_by=(),
    ),
    Check(
        "slot-unused",
        "replication slot of nobody",
        Severity.WARNING,
        "it keeps the leader from removing log, until the disk is full",
        "select pg_drop_replication_slot('SLOT')",
        stale_slots,
    ),
)
