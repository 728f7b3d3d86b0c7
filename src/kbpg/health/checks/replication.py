"""Replication: replicas keep up and acknowledge commits, and nothing is kept for nobody."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from kbpg.health.check import HOST_FAULT, Check, Seen
from kbpg.health.checks.causes import slot_name
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import human_size
from kbpg.layout import PATRONI, USER
from kbpg.model import CLUSTER
from kbpg.render import sql_literal
from kbpg.resources.patroni import DynamicConfig


def lagging(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the replicas that are farther behind than the proxies (or a failover) accept."""
    leader, limit = snapshot.leader, snapshot.inventory.haproxy.replica_max_lag
    if snapshot.inventory.cluster.synchronous == "off":
        limit = min(limit, snapshot.inventory.timers.maximum_lag_on_failover)
    rows = snapshot.facts.known(snapshot.ask.views.streaming, leader) if leader else None
    for name, state, _, lag in rows or ():
        if state == "streaming" and isinstance(lag, int) and lag > limit and name in snapshot.db:
            yield Seen(
                name,
                f"{lag:,} bytes behind {leader}, more than {human_size(limit)}",
                (f"replay of {name} as {leader} sees it",),
            )


def replay_paused(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the replicas whose replay somebody has paused."""
    for host in snapshot.db:
        rows = snapshot.facts.known(snapshot.ask.views.node, host)
        if rows and rows[0][0] and rows[0][4]:
            yield Seen(
                host,
                "replay is paused",
                remedy=psql(snapshot, host, "select pg_wal_replay_resume()"),
                repair=Repair(
                    Action.RESUME_REPLAY,
                    host,
                    f"let {host} replay on",
                    "if somebody paused it to look at older data there, that data is gone",
                ),
            )


def psql(snapshot: Snapshot, host: str, *queries: str) -> str:
    """Return the command that runs queries on a host's own PostgreSQL, over the socket, without a password."""
    user = snapshot.inventory.cluster.superuser
    asked = " ".join(f"-c {in_shell(query)}" for query in queries)
    return snapshot.on_host(
        host, f"docker exec --user {USER} {PATRONI} psql -h /var/run/postgresql -U {user} -d postgres {asked}"
    )


def in_shell(text: str) -> str:
    """Return a text as one word for a shell, in double quotes where nothing in it has a meaning there."""
    return shlex.quote(text) if re.search(r'[$`"\\!\n]', text) else f'"{text}"'


def dropping(slot: str) -> str:
    """Return the query that drops a replication slot, whatever its name is."""
    return f"select pg_drop_replication_slot({sql_literal(slot).strip()})"


def no_synchronous(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that no replica acknowledges commits, though the inventory wants one."""
    leader, wanted = snapshot.leader, snapshot.inventory.cluster.synchronous
    node = snapshot.node(leader) if leader else None
    if leader is None or node is None or wanted == "off":
        return
    if any(each.sync_state in ("sync", "quorum") and each.state == "streaming" for each in node.replicas):
        return
    names, _, _ = snapshot.settings(leader).get("synchronous_standby_names", ("unknown", "", False))
    changed = any(True for _ in snapshot.differing(DynamicConfig))
    stalls = " and writes wait" if wanted == "strict" else ""
    yield Seen(
        CLUSTER,
        f"no replica acknowledges what {leader} commits{stalls}: RPO is not 0",
        (
            f"synchronous_standby_names on {leader}: {names or 'empty'}",
            *(f"{each.name}: {each.state}, {each.sync_state}" for each in node.replicas),
        ),
        "{kbpg} step 02" if changed else "",
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
                remedy=psql(snapshot, leader, dropping(str(name))),
                subject=str(name),
            )


CHECKS = (
    Check(
        "replica-lag",
        "replica lags behind",
        Severity.WARNING,
        "the proxies take it out of the read-only port, and after a failover it has this much to replay; a query on "
        "it may hold replay back for max_standby_streaming_delay (30 s)",
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
        explained_by=("raft-rebuild-unfinished",),
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
