"""Who may take over from a leader, and why not: what its standbys look like, and what Patroni would say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import Refused, UsageError
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.operations.known_servers import SERVERS, why_unknown
from kbpg.patroni import NodeFact, leader_of
from kbpg.resources.sql_facts import RowsFact

CATCH_UP = 5.0
"""Seconds for a standby to come below the limit: under load the lag goes up and down."""
COUNTED = 10.0
"""Seconds for standbys that stream to be synchronous again: a few of Patroni's rounds. Clients go on meanwhile."""
INTERVAL = 0.25
"""Seconds between two looks."""

_STANDBYS = (
    "select application_name, state, sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint"
    " from pg_stat_replication"
)
SYNCHRONOUS = ("sync", "quorum")
"""What PostgreSQL calls a standby that commits may wait for."""
NOT_SYNCHRONOUS = "it is not synchronous, so it may lack commits that were acknowledged"


@dataclass(frozen=True)
class Candidate:
    """A standby as its leader sees it; `lag` is what it has not replayed, in bytes, None where unknown.

    `why_not` is why it cannot take over, "" where it can.
    """

    name: str
    state: str
    sync: str
    lag: int | None
    why_not: str = ""

    def text(self) -> str:
        """Return it in a line."""
        lag = "lag unknown" if self.lag is None else f"lag {self.lag} bytes"
        shown = f"{self.state}, {self.sync or 'not synchronous'}, {lag}" if self.state else "no connection"
        return f"{self.name}: {shown}" + (f": {self.why_not}" if self.why_not else "")


def leader(site: Site) -> str:
    """Return who leads now. Raises `Refused` without one, or with more."""
    context = site.context
    node = NodeFact(context.inventory.ports.patroni)
    facts = site.look(dict.fromkeys(_connected(site), (node,)))
    try:
        return leader_of(facts, node, context.db_names)
    except NotKnown as reason:
        raise Refused(f"nobody to take over from: {reason}", hint="kbpg diagnose") from None


def candidates(site: Site, leaving: str) -> list[Candidate]:
    """Return the other db hosts as `leaving`, the leader, sees them now, the best first."""
    node, fact = _facts(site.context)
    wanted: dict[str, Sequence[Fact[object]]] = {
        name: (node, fact) if name == leaving else (node,) for name in _connected(site)
    }
    wanted |= {name: (SERVERS,) for name in site.context.proxy_names if name in site.hosts}
    facts = site.look(wanted)
    return sorted(
        _seen(site, facts, leaving), key=lambda c: (bool(c.why_not), c.lag if c.lag is not None else 1 << 62)
    )


def _facts(context: Context) -> tuple[NodeFact, RowsFact]:
    fact = RowsFact(context.superuser(), "standbys", _STANDBYS, live=True)
    return NodeFact(context.inventory.ports.patroni), fact


def _seen(site: Site, facts: Facts, leaving: str) -> list[Candidate]:
    context, (node, fact) = site.context, _facts(site.context)
    rows = {str(row[0]): row for row in facts.known(fact, leaving) or ()}
    return [_candidate(context, facts, node, name, rows) for name in context.db_names if name != leaving]


def _connected(site: Site) -> list[str]:
    return [name for name in site.context.db_names if name in site.hosts]


def _candidate(
    context: Context, facts: Facts, node: NodeFact, name: str, rows: Mapping[str, Sequence[object]]
) -> Candidate:
    if name not in rows:
        return Candidate(name, "", "", None, "it does not stream from the leader")
    _, state, sync, lag = rows[name]
    found = Candidate(name, str(state), str(sync), int(str(lag)) if lag is not None else None)
    status = facts.known(node, name)
    silent = "" if status else "its Patroni does not answer"
    why_not = silent or _why_not(context, found) or why_unknown(context, facts, name)
    return Candidate(found.name, found.state, found.sync, found.lag, why_not)


def _why_not(context: Context, found: Candidate) -> str:
    """Return why Patroni would not let it lead (`Ha.is_failover_possible`, patroni/ha.py), or ""."""
    limit = context.inventory.timers.maximum_lag_on_failover
    if found.state != "streaming":
        return "it does not stream from the leader"
    if context.inventory.cluster.synchronous != "off" and found.sync not in SYNCHRONOUS:
        return NOT_SYNCHRONOUS
    if found.lag is None:
        return "how far it lags is not known"
    if found.lag > limit:
        return f"it lags by {found.lag} bytes, and {limit} are allowed (timers.maximum_lag_on_failover)"
    return ""


def choose(site: Site, leaving: str, to: str = "") -> Candidate:
    """Return who takes over: `to`, or the best. Waits a moment for one that lags.

    Raises `UsageError` where `to` is no db host or leads already, `Refused` with what every standby lacks.
    """
    if to and to not in site.context.db_names:
        raise UsageError(f"{to} is no db host", hint=f"db hosts: {', '.join(site.context.db_names)}")
    if to == leaving:
        raise UsageError(f"{to} leads already")
    ends = time.monotonic() + CATCH_UP
    while True:
        found = [each for each in candidates(site, leaving) if to in ("", each.name)]
        if found and not found[0].why_not:
            return found[0]
        lagging = any("lags by" in each.why_not for each in found)
        if not lagging or time.monotonic() > ends:
            break
        time.sleep(INTERVAL)
    if to:
        raise Refused(f"{to} cannot take over from {leaving}: {found[0].why_not}", hint="kbpg status")
    detail = [each.text() for each in found]
    raise Refused(f"nobody can take over from {leaving}", detail=detail, hint="kbpg status")


def await_fitness(site: Site, leaving: str) -> None:
    """Wait until every standby is fit that will be in a moment, `COUNTED` seconds at most; nobody waits for it.

    A former leader that has just come back streams some seconds before Patroni counts it. A switchover then would
    cost clients 2 s more: Patroni wants a name (`any_will_do`), or the only one that commits may wait for is the
    leader that leaves, which comes back 2 s after it left (`Ha.demote`, patroni/ha.py).
    """
    ends = time.monotonic() + COUNTED
    while _settling(candidates(site, leaving)) and time.monotonic() < ends:
        time.sleep(INTERVAL)


def _settling(found: Sequence[Candidate]) -> bool:
    """Return whether a standby that streams lacks what passes by itself.

    Where commits wait for named standbys and not for a quorum, some are never synchronous.
    """
    quorum = any(each.sync == "quorum" for each in found)
    return any(
        each.state == "streaming"
        and ((quorum and each.why_not == NOT_SYNCHRONOUS) or "lags by" in each.why_not)
        for each in found
    )


def any_will_do(site: Site, leaving: str) -> bool:
    """Return whether the standbys may settle who takes over, as it was seen last.

    Every other db host has to be fit, and Patroni not paused: then it wants a name (`do_POST_failover`,
    patroni/api.py).
    """
    node, _ = _facts(site.context)
    status = site.facts.known(node, leaving)
    paused = status is not None and status.paused
    return not paused and all(not each.why_not for each in _seen(site, site.facts, leaving))
