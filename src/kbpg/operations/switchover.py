"""Planned handover of the leadership, through Patroni."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable

from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import NotKnown
from kbpg.operations.patroni_change import ask
from kbpg.patroni import ClusterFact, NodeFact, leader_of, streaming_of

DEADLINE = 60.0
"""Seconds until another node must lead; measured: 2 to 6 s."""
CHECKPOINT_TIMEOUT = 600.0
"""Seconds for the checkpoint before it: a busy node has much to write."""


def switchover(site: Site, *, leaving: str) -> str:
    """Hand the leadership from `leaving` to a standby (see `_candidates`) and return the new leader's host.

    A CHECKPOINT comes first, because the shutdown of the old leader would wait for it. Raises `HostError`
    when Patroni refuses, `NotConverged` when no other node leads in time.
    """
    context = site.context
    node = NodeFact(context.inventory.ports.patroni)
    candidates = _candidates(site, node, leaving)
    site.say(f"switchover from {leaving} to {candidates[0]}")
    checkpoint(site, leaving)
    _ask(site, leaving, candidates[0])
    ends = time.monotonic() + DEADLINE
    while time.monotonic() < ends:
        facts = site.look({host: [node] for host in context.db_names})
        try:
            leader = leader_of(facts, node, context.db_names)
        except NotKnown:
            leader = leaving
        if leader != leaving:
            return leader
        time.sleep(0.25)
    raise NotConverged(f"{leaving} still leads {DEADLINE:g} s after a switchover was asked for")


def _candidates(site: Site, node: NodeFact, leaving: str) -> list[str]:
    """Return whom Patroni would let lead: synchronous standbys. Raises `NotConverged` where there is none.

    With `cluster.synchronous: off` no standby is synchronous, and those will do that stream on the leader's
    timeline and lag by maximum_lag_on_failover at most: what Patroni demands of one (`Ha.is_failover_possible`,
    patroni/ha.py). The shutdown of the old leader waits for what the candidate still lacks.
    """
    streaming = streaming_of(site.facts, node, leaving)
    if site.context.inventory.cluster.synchronous != "off":
        kind, found = "synchronous", [n for n, s in streaming.items() if s.sync_state in ("sync", "quorum")]
    else:
        limit = site.context.inventory.timers.maximum_lag_on_failover
        kind, found = f"streaming (lag up to {limit} bytes)", _close(site, node, leaving, streaming, limit)
    if not found:
        raise NotConverged(f"{leaving} has no {kind} standby to hand over to")
    return found


def _close(site: Site, node: NodeFact, leader: str, streaming: Iterable[str], limit: int) -> list[str]:
    """Return those of `streaming` on the leader's timeline that lag by `limit` bytes at most, the closest first."""
    cluster = ClusterFact(site.context.inventory.ports.patroni)
    facts = site.look({leader: [node, cluster]})
    timeline = facts.get(node, leader).timeline
    lags = {m.name: m.lag for m in facts.get(cluster, leader) if m.timeline == timeline}
    known = {name: lag for name in streaming if (lag := lags.get(name)) is not None and lag <= limit}
    return sorted(known, key=known.__getitem__)


def checkpoint(site: Site, leader: str) -> None:
    """Write what is dirty now, so that the shutdown that follows is short. Raises `HostError`."""
    from psycopg.sql import SQL

    from kbpg import sql

    statement = SQL("SET statement_timeout = 0; CHECKPOINT")
    sql.execute(site.hosts[leader], site.context.superuser(), statement, seconds=CHECKPOINT_TIMEOUT)


def _ask(site: Site, leader: str, candidate: str) -> None:
    body = {"leader": leader, "candidate": candidate}
    try:
        answer = ask(site.context, site.hosts[leader], "POST", "/switchover", body, DEADLINE)
    except (OSError, http.client.HTTPException) as error:
        raise HostError(leader, f"Patroni did not answer the switchover: {error}") from error
    if answer.status >= 300:
        raise HostError(leader, f"Patroni refused the switchover with {answer.status}: {answer.body}")
