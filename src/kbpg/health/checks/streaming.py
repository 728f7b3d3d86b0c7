"""Every replica streams; where one does not, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kbpg.health.check import CONTAINER_FAULT, LEADERLESS, Check, Seen
from kbpg.health.checks.causes import Replica, replica, slot_name
from kbpg.health.checks.replication import dropping, psql
from kbpg.health.checks.storage import clone
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER
from kbpg.patroni import CREATING

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
EXPLAINED = (
    *CONTAINER_FAULT,
    "patroni-silent",
    "data-permissions",
    "data-foreign",
    "data-unreadable",
    "data-shared",
)


def because(cause: str) -> Callable[[Snapshot], Iterable[Seen]]:
    """Return the check that finds the replicas that do not stream for this reason."""

    def examine(snapshot: Snapshot) -> Iterable[Seen]:
        for host in snapshot.db:
            found = replica(snapshot, host)
            if found and found.cause == cause:
                leader = snapshot.leader or ""
                full = no_room(snapshot, leader) if cause == "replica-slot-missing" else None
                yield Seen(
                    host,
                    f"does not stream from {leader}: {found.said}",
                    (*found.evidence, full[0]) if full else found.evidence,
                    full[1] if full else "",
                    repair=None if full else _repair(snapshot, found, leader),
                )

    return examine


def no_room(snapshot: Snapshot, leader: str) -> tuple[str, str] | None:
    """Return why neither Patroni nor kbpg can make a slot, and the remedy; None where there is room for one."""
    rows = snapshot.facts.known(snapshot.ask.views.slots, leader) or ()
    most = snapshot.settings(leader).get("max_replication_slots", ("", "", False))[0]
    if not most.isdigit() or len(rows) < int(most):
        return None
    ours = {slot_name(name) for name in snapshot.context.db_names}
    idle = [str(name) for name, _, active, *_ in rows if not active and name not in ours]
    drop = [dropping(name) for name in idle[:1]]
    names = ", ".join(str(row[0]) for row in rows)
    return (
        f"all {most} replication slots of {leader} are in use: {names}",
        psql(snapshot, leader, *drop)
        if drop
        else "raise max_replication_slots in the inventory, then {kbpg} apply-all",
    )


def _repair(snapshot: Snapshot, found: Replica, leader: str) -> Repair | None:
    host = found.host
    if found.cause in CLONED and _same_system(snapshot, host, leader):
        return clone(host, leader)
    if found.cause == "replica-slot-missing":
        slot = slot_name(host)
        will = f'create the replication slot "{slot}" on {leader}'
        risk = f"{leader} keeps its log for {host} until that has it, within max_slot_wal_keep_size"
        return Repair(Action.CREATE_SLOT, host, will, risk, {"leader": leader, "slot": slot})
    if found.cause == "replica-password":
        will = (
            f"write Patroni's passwords on {host}, and set those of its roles, as the credentials file says"
        )
        return Repair(Action.APPLY_STEP, CLUSTER, will, parameters={"step": "02"})
    return None


def _same_system(snapshot: Snapshot, host: str, leader: str) -> bool:
    """Return whether the leader is sure, and of the same cluster as this replica by both nodes' own word."""
    mine, its = snapshot.node(host), snapshot.node(leader)
    if mine is None or its is None or not its.leads or not its.system_identifier:
        return False
    return mine.system_identifier in ("", its.system_identifier)


def not_streaming(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the replicas that do not stream for a reason that their log does not tell."""
    for host in snapshot.db:
        found, node = replica(snapshot, host), snapshot.node(host)
        if found is None or node is None or found.cause in NAMED:
            continue
        if node.state == CREATING:
            seen = "is being cloned from the leader"
            yield Seen(host, seen, found.evidence, "{kbpg} status", severity=Severity.WARNING)
        else:
            yield Seen(
                host,
                f"does not stream from {snapshot.leader} (Patroni says `{node.state}`)"
                + (f": {found.said}" if found.said else ""),
                found.evidence,
                _reach(snapshot, host) if found.said else "",
                severity=Severity.WARNING if snapshot.fresh(host, PATRONI) else None,
                repair=Repair(
                    Action.RESTART_PATRONI,
                    host,
                    f"restart the container {PATRONI} on the replica {host}",
                    "this replica is away for some seconds",
                ),
            )


def _reach(snapshot: Snapshot, host: str) -> str:
    """Return the command that tells whether the replica reaches the leader's PostgreSQL."""
    address = snapshot.inventory.host(snapshot.leader or host).address
    port = snapshot.inventory.ports.postgresql
    return snapshot.on_host(host, f"timeout 3 bash -c '</dev/tcp/{address}/{port}'")


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
)
