"""Planned handover of the leadership, through Patroni."""

from __future__ import annotations

import http.client
import time

from kbpg import rest
from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import NotKnown
from kbpg.patroni import NodeFact, leader_of, streaming_of

DEADLINE = 60.0
"""Seconds until another node must lead; measured: 2 to 6 s."""
CHECKPOINT_TIMEOUT = 600.0
"""Seconds for the checkpoint before it: a busy node has much to write."""


def switchover(site: Site, *, leaving: str) -> str:
    """Hand the leadership from `leaving` to a synchronous standby and return the new leader's host.

    A CHECKPOINT comes first, because the shutdown of the old leader would wait for it. Raises `HostError`
    when Patroni refuses, `NotConverged` when no other node leads in time.
    """
    context = site.context
    node = NodeFact(context.inventory.ports.patroni)
    streaming = streaming_of(site.facts, node, leaving)
    candidates = [name for name, s in streaming.items() if s.sync_state in ("sync", "quorum")]
    if not candidates:
        raise NotConverged(f"{leaving} has no synchronous standby to hand over to")
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


def checkpoint(site: Site, leader: str) -> None:
    """Write what is dirty now, so that the shutdown that follows is short. Raises `HostError`."""
    from psycopg.sql import SQL

    from kbpg import sql

    statement = SQL("SET statement_timeout = 0; CHECKPOINT")
    sql.execute(site.hosts[leader], site.context.superuser(), statement, seconds=CHECKPOINT_TIMEOUT)


def _ask(site: Site, leader: str, candidate: str) -> None:
    context = site.context
    login = ("kbpg", context.credentials.rest_password)
    body = {"leader": leader, "candidate": candidate}
    port = context.inventory.ports.patroni
    try:
        answer = rest.request(
            site.hosts[leader], "POST", port, "/switchover", body, login=login, timeout=DEADLINE
        )
    except (OSError, http.client.HTTPException) as error:
        raise HostError(leader, f"Patroni did not answer the switchover: {error}") from error
    if answer.status >= 300:
        raise HostError(leader, f"Patroni refused the switchover with {answer.status}: {answer.body}")
