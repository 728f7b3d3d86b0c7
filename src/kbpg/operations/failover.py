"""A leader made by hand, where there is none and Patroni makes none: the positions first, then its `/failover`."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import Facts, NotKnown
from kbpg.layout import PATRONI, layout
from kbpg.operations.leaderless import Leaderless, refuse_loss, why_not_fail_over
from kbpg.operations.patroni_change import ask
from kbpg.operations.position import NO_DATA, Position, read_position
from kbpg.operations.raft_members import look as look_at_raft
from kbpg.operations.standing import in_recovery
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.raft_admin import Consensus
from kbpg.resources.container import log_lines
from kbpg.resources.foreign import DataFact

DEADLINE = 120.0
"""Seconds for the chosen node to lead and take writes: it replays what it has first."""
ANSWER = 60.0
"""Seconds for Patroni's answer to `/failover`: it waits for the outcome itself, some rounds long."""
REFUSALS = (400, 401, 403, 412)
"""What Patroni answers where it will not even try (`do_POST_failover` in patroni/api.py)."""


def look(site: Site, host: str) -> Leaderless:
    """Return what is so now of a cluster in which `host` is to lead. Changes nothing."""
    consensus, nodes, writable = _who_leads(site)
    return Leaderless(host, consensus, nodes, writable, _positions(site))


def _who_leads(site: Site) -> tuple[Consensus, dict[str, NodeStatus | str], tuple[str, ...]]:
    """Return what Raft says, what each node's Patroni says, and whose PostgreSQL takes writes; quick to read."""
    context = site.context
    names, node, self_ = context.db_names, NodeFact(context.inventory.ports.patroni), in_recovery(context)
    consensus = look_at_raft(site)
    facts = site.look(dict.fromkeys(names, (node, self_)))
    nodes = {name: _said(facts, node, name) for name in names}
    rows = {name: facts.known(self_, name) for name in names}
    return consensus, nodes, tuple(name for name, found in rows.items() if found and found[0][0] is False)


def _said(facts: Facts, node: NodeFact, name: str) -> NodeStatus | str:
    try:
        return facts.get(node, name)
    except NotKnown as reason:
        return f"Patroni does not answer: {reason.reason}"


def _positions(site: Site) -> dict[str, Position | str]:
    """Return how far each node's data reaches, or why that is not known. May take minutes (`position.TIMEOUT`)."""
    data = DataFact(layout(site.context).data)
    facts = site.look(dict.fromkeys(site.context.db_names, (data,)))

    def reach(name: str) -> Position | str:
        if name not in site.hosts:
            return "cannot be reached"
        found = facts.known(data, name)
        if found is not None and not found.present:
            return NO_DATA
        return read_position(site.context, site.hosts[name])

    names = site.context.db_names
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(reach, names), strict=True))


def fail_over(site: Site, seen: Leaderless, *, accept_loss: bool) -> int:
    """Make `seen.host` the leader and return its new timeline.

    Raises `Refused` where it must not lead, as was seen or as it is now, or where something would be lost that
    `accept_loss` does not cover, `HostError` when Patroni refuses, `NotConverged` when it does not lead in time.
    """
    refusal = why_not_fail_over(seen) or (refuse_loss(seen) if seen.farther and not accept_loss else None)
    refusal = refusal or why_not_fail_over(_again(site, seen))
    if refusal:
        raise refusal
    site.say(f"{seen.host} is to lead, from {seen.positions[seen.host]}")
    _ask(site, seen.host)
    return _await(site, seen.host)


def _again(site: Site, seen: Leaderless) -> Leaderless:
    """Return `seen` with who leads as it is now: a leader may have come up while positions were read.

    Patroni would not mind: whether a candidate is synchronous it asks for a switchover alone, and who leads only
    where the request names a leader (`is_failover_possible`, patroni/api.py).
    """
    consensus, nodes, writable = _who_leads(site)
    return replace(seen, consensus=consensus, nodes=nodes, writable=writable)


def _ask(site: Site, host: str) -> None:
    """Ask Patroni on `host` itself. An answer that says nothing certain is no error: what follows is looked at."""
    try:
        answer = ask(site.context, site.hosts[host], "POST", "/failover", {"candidate": host}, ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise HostError(host, f"Patroni did not answer the failover: {error}") from error
    if answer.status in REFUSALS:
        raise HostError(
            host, f"Patroni refused the failover with {answer.status}: {answer.body}", hint="kbpg diagnose"
        )


def _await(site: Site, host: str) -> int:
    context = site.context
    node, self_ = NodeFact(context.inventory.ports.patroni), in_recovery(context)
    for _ in site.looks(DEADLINE, each=[host]):
        facts = site.look(dict.fromkeys(context.db_names, (node, self_)))
        leaders = [n for n in context.db_names if (found := facts.known(node, n)) and found.leads]
        rows, mine = facts.known(self_, host), facts.known(node, host)
        if leaders == [host] and mine and rows and rows[0][0] is False:
            return mine.timeline
        if leaders and host not in leaders:
            raise NotConverged(f"{' and '.join(leaders)} leads, not {host}", hint="kbpg status")
    raise NotConverged(
        f"{host} does not lead within {DEADLINE:g} s",
        detail=log_lines(site, PATRONI, host),
        hint="kbpg diagnose",
    )
