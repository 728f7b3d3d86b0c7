"""Step 06: is it whole? The checks that end apply-all and are `kbpg diagnose`, from reads already made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kbpg import patroni
from kbpg.context import Context
from kbpg.facts import Facts, NotKnown
from kbpg.inventory import read_name, version_tuple
from kbpg.inventory.rules import FIXED_HNSW
from kbpg.layout import POOLER_USER, REPLICATION_USER, REWIND_USER
from kbpg.model import CLUSTER, Placed, Stage, State, Step
from kbpg.patroni import ClusterFact, NodeFact
from kbpg.raft_admin import member_fact
from kbpg.resources.probe import Probe
from kbpg.resources.sql_facts import RolesFact, RowsFact
from kbpg.steps.s03_haproxy import route
from kbpg.steps.s05_pgvector import vector_query, version_here

SETTLE_DEADLINE = 30.0
"""Seconds for what follows a change by itself: a replica that catches up, a view that is refreshed."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 06: one, every check side by side."""
    cluster = [_leader_agreed(context), _streaming(context), _scram(context), _safe_parameters(context)]
    nodes = [
        Placed(name, check(context, name)) for name in context.db_names for check in (_quorum, version_here)
    ]
    proxies = [
        Placed(name, check(context, name))
        for name in context.proxy_names
        for check in (route, vector_query, _reads)
    ]
    return (Stage("checks", (*(Placed(CLUSTER, check) for check in cluster), *nodes, *proxies)),)


def _leader_agreed(context: Context) -> Probe:
    """Every node's memory of the cluster names the leader that says so of itself; not asked: who is left out."""
    ports, names, left = context.inventory.ports, context.db_names, context.left_out
    node, cluster = NodeFact(ports.patroni), ClusterFact(ports.patroni)

    def see(facts: Facts) -> State:
        leader = patroni.leader_of(facts, node, names)
        seen = {name: _leader_seen(facts.get(cluster, name)) for name in names if name not in left}
        wrong = [f"{name} thinks it is {who}" for name, who in seen.items() if who != leader]
        return {"leader": "; ".join(wrong) or "agreed"}

    sources = [(name, fact) for name in names for fact in (node, cluster)]
    return Probe(
        "every node sees the same leader", {"leader": "agreed"}, see, sources, deadline=SETTLE_DEADLINE
    )


def _leader_seen(members: Sequence[patroni.Member]) -> str:
    return next((m.name for m in members if m.role in patroni.LEADER_ROLES), "nobody")


def _streaming(context: Context) -> Probe:
    """Every replica streams, on the leader's timeline, no farther behind than HAProxy lets it serve reads.

    Nothing is asked of one that `--limit` leaves out.
    """
    names, node = context.db_names, NodeFact(context.inventory.ports.patroni)
    asked = [name for name in names if name not in context.left_out]
    limit = context.inventory.haproxy.replica_max_lag
    query = (
        "select application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint"
        " from pg_stat_replication where not pg_is_in_recovery()"
    )
    lags = RowsFact(context.superuser(), "replication", query, live=True)

    def see(facts: Facts) -> State:
        leader = patroni.leader_of(facts, node, names)
        streaming = patroni.streaming_of(facts, node, leader)
        timeline, behind = facts.get(node, leader).timeline, dict(facts.get(lags, leader))
        problems = [f"{name} does not stream" for name in asked if name != leader and name not in streaming]
        for name in (each for each in asked if each in streaming):
            own, lag = facts.get(node, name).timeline, behind.get(name) or 0
            if own != timeline:
                problems.append(f"{name} is on timeline {own}, not {timeline}")
            if lag > limit:
                problems.append(f"{name} is {lag} bytes behind")
        return {"replicas": "; ".join(problems) or "streaming"}

    sources = [(name, fact) for name in names for fact in (node, lags)]
    return Probe("every replica streams", {"replicas": "streaming"}, see, sources, deadline=SETTLE_DEADLINE)


def _quorum(context: Context, host: str) -> Probe:
    """This member of Raft sees a quorum and all its partners, but for those that `--limit` leaves out."""
    inventory = context.inventory
    fact = member_fact(context)
    spared = {f"{inventory.host(name).address}:{inventory.ports.raft}" for name in context.left_out}

    def see(facts: Facts) -> State:
        status = facts.get(fact, host)
        return {
            "quorum": status.has_quorum,
            "partners": len(status.partners),
            "away": ", ".join(each for each in status.away if each not in spared) or "none",
        }

    wanted: State = {"quorum": True, "partners": len(inventory.db) - 1, "away": "none"}
    return Probe("Raft quorum, all partners", wanted, see, [(host, fact)], deadline=SETTLE_DEADLINE)


def _reads(context: Context, proxy: str) -> Probe:
    """A query of the application's for reads comes back through this proxy's PgBouncer."""
    login = context.application(context.inventory.ports.pgbouncer)
    login = replace(login, database=read_name(login.database))
    fact = RowsFact(login, "reads", "select 1", pooled=True, live=True)

    def see(facts: Facts) -> State:
        return {"answers": facts.get(fact, proxy) == ((1,),)}

    name = f"{login.database} on port {login.port} answers"
    return Probe(name, {"answers": True}, see, [(proxy, fact)], deadline=SETTLE_DEADLINE)


def _scram(context: Context) -> Probe:
    """kbpg's own roles are all there with a SCRAM verifier, and no other role has a weaker one."""
    names, node = context.db_names, NodeFact(context.inventory.ports.patroni)
    roles, credentials = RolesFact(context.superuser()), context.credentials
    ours = (credentials.superuser, credentials.app_user, REPLICATION_USER, REWIND_USER, POOLER_USER)

    def see(facts: Facts) -> State:
        found = facts.get(roles, patroni.leader_of(facts, node, names))
        missing = [f"{name} is missing" for name in ours if name not in found]
        weak = [
            f"{name} has no SCRAM password"
            for name, role in found.items()
            if (name in ours or role["verifier"])
            and not str(role["verifier"] or "").startswith("SCRAM-SHA-256$")
        ]
        return {"roles": "; ".join(missing + weak) or "SCRAM-SHA-256"}

    sources = [(name, fact) for name in names for fact in (node, roles)]
    return Probe("roles use SCRAM", {"roles": "SCRAM-SHA-256"}, see, sources, deadline=0)


def _safe_parameters(context: Context) -> Probe:
    """What protects acknowledged writes is really on in the running leader."""
    names, node = context.db_names, NodeFact(context.inventory.ports.patroni)
    query = (
        "select name, setting from pg_catalog.pg_settings where name in"
        " ('fsync', 'full_page_writes', 'password_encryption', 'max_parallel_maintenance_workers')"
    )
    fact = RowsFact(context.superuser(), "protective settings", query)
    wanted: dict[str, str | int | bool] = {
        "fsync": "on",
        "full_page_writes": "on",
        "password_encryption": "scram-sha-256",
    }
    if version_tuple(context.inventory.versions.pgvector) < FIXED_HNSW:
        wanted["max_parallel_maintenance_workers"] = "0"

    def see(facts: Facts) -> State:
        found = dict(facts.get(fact, patroni.leader_of(facts, node, names)))
        if not found:
            raise NotKnown("the leader shows no settings")
        return {name: found[name] for name in wanted}

    sources = [(name, each) for name in names for each in (node, fact)]
    return Probe("protective settings", wanted, see, sources, deadline=0)


STEP = Step(
    6,
    "diagnostics",
    "is it whole: leader, replicas, quorum, pgvector, routes, a query as the application",
    stages,
)
