"""Who may take over from a leader, and why not: what its replicas look like, and what Patroni would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kbpg.context import Context
from kbpg.dynamic import synchronous_mode
from kbpg.engine.site import Site
from kbpg.errors import Refused, UsageError
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.operations.known_servers import SERVERS, why_unknown
from kbpg.patroni import NodeFact, leader_of
from kbpg.resources.sql_facts import RowsFact

START = 4.0
"""Seconds for a former leader to stream again; measured: 2 to 3."""
ROUNDS = 3
"""Rounds of Patroni in which it counts a replica that streams as synchronous; measured: 1 to 2."""

_REPLICAS = (
    "select application_name, state, sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint"
    " from pg_stat_replication"
)
SYNCHRONOUS = ("sync", "quorum")
"""What PostgreSQL calls a replica that commits may wait for."""
NOT_STREAMING = "it does not stream from the leader"
NOT_SYNCHRONOUS = "it is not synchronous, so it may lack commits that were acknowledged"


@dataclass(frozen=True)
class Candidate:
    """A replica as its leader sees it; `lag` is what it has not replayed, in bytes, None where unknown.

    `why_not` is why it cannot take over, "" where it can; `passing`: whether that may pass by itself in a moment.
    """

    name: str
    state: str
    sync: str
    lag: int | None
    why_not: str = ""
    passing: bool = False

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
    fact = RowsFact(context.superuser(), "replicas", _REPLICAS, live=True)
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
    answers = facts.known(node, name) is not None
    if name not in rows:
        return Candidate(name, "", "", None, NOT_STREAMING, passing=answers)
    _, state, sync, lag = rows[name]
    found = Candidate(name, str(state), str(sync), int(str(lag)) if lag is not None else None)
    if lasting := why_unknown(context, facts, name) if answers else "its Patroni does not answer":
        return replace(found, why_not=lasting)
    why_not = _why_not(context, found)
    named = (
        synchronous_mode(context.inventory) is True
    )  # then a replica that is not named never is synchronous
    return replace(
        found, why_not=why_not, passing=bool(why_not) and not (named and why_not == NOT_SYNCHRONOUS)
    )


def _why_not(context: Context, found: Candidate) -> str:
    """Return why Patroni would not let it lead now (`Ha.is_failover_possible`, patroni/ha.py), or ""."""
    limit = context.inventory.timers.maximum_lag_on_failover
    if found.state != "streaming":
        return NOT_STREAMING
    if synchronous_mode(context.inventory) and found.sync not in SYNCHRONOUS:
        return NOT_SYNCHRONOUS
    if found.lag is None:
        return "how far it lags is not known"
    if found.lag > limit:
        return f"it lags by {found.lag} bytes, and {limit} are allowed (timers.maximum_lag_on_failover)"
    return ""


def patience(context: Context) -> float:
    """Return for how many seconds a replica is waited for that may take over in a moment. Clients go on meanwhile.

    A leader that gave way a moment ago starts, streams, and is synchronous some of Patroni's rounds later; under load
    lag goes up and down.
    """
    return START + ROUNDS * context.inventory.timers.loop_wait


def choose(site: Site, leaving: str, to: str = "") -> Candidate:
    """Return who takes over: `to`, or the best. Waits, for `patience`, where what is in the way may pass by itself.

    Raises `UsageError` where `to` is no db host or leads already, `Refused` with what every replica lacks, and while
    it waits the `HostError` of `leaving`, or `to`, where its connection has ended.
    """
    if to and to not in site.context.db_names:
        raise UsageError(f"{to} is no db host", hint=f"db hosts: {', '.join(site.context.db_names)}")
    if to == leaving:
        raise UsageError(f"{to} leads already")
    found, told = list[Candidate](), False
    for _ in site.looks(patience(site.context), each=[leaving, to]):
        found = [each for each in candidates(site, leaving) if to in ("", each.name)]
        if found and not found[0].why_not:
            return found[0]
        passing = [each for each in found if each.passing]
        if not passing:
            break
        if not told:
            site.say("waiting for " + "; ".join(each.text() for each in passing))
            told = True
    if to:
        raise Refused(f"{to} cannot take over from {leaving}: {found[0].why_not}", hint="kbpg status")
    detail = [each.text() for each in found]
    raise Refused(f"nobody can take over from {leaving}", detail=detail, hint="kbpg status")


def await_fitness(site: Site, leaving: str) -> None:
    """Wait until every replica that streams is fit, or `patience` is over; nobody waits for it.

    Raises the `HostError` of `leaving` where its connection has ended meanwhile: nobody else is asked to hand over.

    A former leader that has just come back streams some seconds before Patroni counts it. A switchover then would
    cost clients 2 s more: commits could wait for nobody but the leader that leaves, which is back 2 s after it left
    (`Ha.demote`, patroni/ha.py).
    """
    for _ in site.looks(patience(site.context), each=[leaving]):
        if not any(each.passing and each.state == "streaming" for each in candidates(site, leaving)):
            return


def any_will_do(site: Site, leaving: str) -> bool:
    """Return whether the replicas may settle who takes over, as it was seen last.

    Every other db host has to be fit, and Patroni not paused: then it wants a name (`do_POST_failover`,
    patroni/api.py).
    """
    node, _ = _facts(site.context)
    status = site.facts.known(node, leaving)
    paused = status is not None and status.paused
    return not paused and all(not each.why_not for each in _seen(site, site.facts, leaving))
