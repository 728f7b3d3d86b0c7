"""A `Standing` as lines of text, and as the JSON document of docs/json.md; both pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from kbpg.console import Line, Style
from kbpg.status.columns import WIDTH, Row, after_gap, cut, table, wrapped
from kbpg.status.standing import Standing, Verdict
from kbpg.status.values import Endpoints, Member, Prediction, Problem, Proxy, Raft, behind

HEIGHT = 30
"""Lines, for five hosts; problems that have no room are counted."""
_STYLES = {Verdict.HEALTHY: Style.GOOD, Verdict.DEGRADED: Style.WARNING, Verdict.DOWN: Style.BAD}


def lines(standing: Standing) -> list[Line]:
    """Return the screen: the first line says in words how it stands, the last ones what is wrong."""
    shown = [
        Line(_headline(standing), _STYLES[standing.verdict]),
        *(Line(text, Style.QUIET) for text in wrapped(_versions(standing))),
        Line(),
        *table([_MEMBER_HEAD, *(_member(member) for member in standing.members)]),
        Line(),
        *table([_PROXY_HEAD, *(_proxy(proxy) for proxy in standing.proxies)]),
        *after_gap([Line(cut(f"{name:<9}  {text}")) for name, text in _facts(standing)]),
    ]
    notes = [Line(cut(f"note: {note}"), Style.QUIET) for note in _notes(standing)]
    problems = _problems(standing.problems, HEIGHT - len(shown) - (len(notes) + 1 if notes else 0) - 1)
    if standing.verdict is not Verdict.HEALTHY:
        problems.append(Line("hint: kbpg diagnose says why, and what mends it", Style.HINT))
    return [*shown, *after_gap(problems), *after_gap(notes)]


def document(standing: Standing) -> dict[str, Any]:
    """Return what `--json` prints; its keys are in docs/json.md."""
    found = asdict(standing)
    found |= {
        "at": standing.at.isoformat(timespec="milliseconds"),
        "status": standing.verdict.value,
        "summary": standing.summary,
        "serves": standing.serves,
    }
    return found


# --- the parts -----------------------------------------------------------------------------------------


def _headline(standing: Standing) -> str:
    text = f"{standing.verdict}: {standing.summary}"
    titles = [problem.title for problem in standing.problems]
    for count in range(len(titles), 0, -1):
        more = f" and {len(titles) - count} more" if count < len(titles) else ""
        whole = f"{text}; {'; '.join(titles[:count])}{more}"
        if len(whole) <= WIDTH:
            return whole
    return cut(f"{text}; {len(titles)} problems" if titles else text)


def _versions(standing: Standing) -> list[str]:
    parts = [
        _version("PostgreSQL", [(m.name, m.postgresql) for m in standing.members]),
        _version("Patroni", [(m.name, m.patroni) for m in standing.members]),
        _version("PgBouncer", [(p.name, p.pgbouncer_version) for p in standing.proxies]),
    ]
    # In the time zone of whoever looks
    at = standing.at.astimezone().strftime("%H:%M:%S")
    return [f"{standing.cluster} at {at}", *(part for part in parts if part)]


def _version(what: str, found: Iterable[tuple[str, str | None]]) -> str:
    """Return one version, or who differs: `PostgreSQL 16.11 (16.14 on db-3)`."""
    by_version: dict[str, list[str]] = {}
    for name, version in found:
        if version:
            by_version.setdefault(version, []).append(name)
    if not by_version:
        return ""
    first, *others = sorted(by_version, key=lambda version: -len(by_version[version]))
    differing = ", ".join(f"{version} on {', '.join(by_version[version])}" for version in others)
    return f"{what} {first}" + (f" ({differing})" if differing else "")


_MEMBER_HEAD: Row = (Style.TITLE, ("node", "address", "role", "state", "timeline", "lag"))
_PROXY_HEAD: Row = (
    Style.TITLE,
    ("proxy", "address", "haproxy", "pgbouncer", "clients", "waiting", "servers"),
)


def _member(member: Member) -> Row:
    silent = member.answers is False and member.state in ("running", "streaming")
    state = "not answering" if silent else member.state
    timeline = "-" if member.timeline is None else str(member.timeline)
    cells = (member.name, member.address, _role(member), state, timeline, behind(member))
    well = member.leads or member.state == "streaming"
    return (Style.PLAIN if well and member.answers is not False else Style.WARNING), cells


def _role(member: Member) -> str:
    return {
        "leader": "leader",
        "replica": "sync standby" if member.sync else "replica",
    }.get(member.role, "-")


def _proxy(proxy: Proxy) -> Row:
    haproxy, pgbouncer = _haproxy(proxy), _pgbouncer(proxy)
    well = bool(proxy.routes_to) and pgbouncer == "up"
    return (Style.PLAIN if well else Style.WARNING), (
        proxy.name,
        proxy.address,
        haproxy,
        pgbouncer,
        *_pools(proxy),
    )


def _haproxy(proxy: Proxy) -> str:
    if proxy.problem:
        return "unreachable"
    if proxy.haproxy is False:
        return "down"
    if proxy.routes_to is None:
        return "no answer"
    return f"up → {', '.join(proxy.routes_to) or 'nowhere'}"


def _pgbouncer(proxy: Proxy) -> str:
    if proxy.problem:
        return "unreachable"
    if proxy.pgbouncer is False:
        return "down"
    if proxy.pools is None:
        return "no answer" if proxy.pgbouncer_problem or proxy.pgbouncer is None else "open"
    return "paused" if proxy.paused else "up"


def _pools(proxy: Proxy) -> tuple[str, str, str]:
    """Return clients, waiting clients and server connections of all pools."""
    if proxy.pools is None:
        return "-", "-", "-"
    active = sum(pool.clients_active for pool in proxy.pools)
    waiting = sum(pool.clients_waiting for pool in proxy.pools)
    used, idle = (sum(getattr(pool, name) for pool in proxy.pools) for name in _SERVERS)
    wait = f"{waiting}, {proxy.max_wait:.1f} s" if waiting else "0"
    return f"{active} active", wait, f"{used} active, {idle} idle"


_SERVERS = ("servers_active", "servers_idle")


def _facts(standing: Standing) -> Iterable[tuple[str, str]]:
    if standing.raft:
        yield "raft", _raft(standing.raft)
    if standing.endpoints:
        yield "endpoints", _endpoints(standing.endpoints)
        yield from (("reads", text) for text in _reads(standing.proxies, standing.endpoints))
    if standing.predicted:
        yield "predicted", f"RTO {', '.join(map(_prediction, standing.predicted))}"


def _raft(raft: Raft) -> str:
    leader = f"{raft.leader} leads" if raft.leader else "no leader"
    quorum = "quorum" if raft.quorum else "no quorum"
    return f"{leader}, {quorum}, {raft.connected} of {raft.members} members connected, term {raft.term}"


def _endpoints(endpoints: Endpoints) -> str:
    ports = f"{endpoints.pooled} pooled, {endpoints.direct} direct, {endpoints.read_only} read-only"
    return f"{ports}; at {', '.join(endpoints.addresses)}"


def _reads(proxies: Sequence[Proxy], endpoints: Endpoints) -> Iterable[str]:
    """Yield who serves reads: in one line, with the proxies that differ."""
    instead = "the leader, no replica is fit to" if endpoints.fallback == "primary" else "nobody"
    by_nodes: dict[str, list[str]] = {}
    for proxy in proxies:
        if proxy.reads_from is not None:
            by_nodes.setdefault(", ".join(proxy.reads_from) or instead, []).append(proxy.name)
    if by_nodes:
        first, *others = sorted(by_nodes, key=lambda nodes: -len(by_nodes[nodes]))
        yield "; ".join([first, *(f"{', '.join(by_nodes[nodes])}: {nodes}" for nodes in others)])


def _notes(standing: Standing) -> list[str]:
    restarts = [member.name for member in standing.members if member.pending_restart]
    waiting = [f"changed settings wait for a restart on {', '.join(restarts)}"] if restarts else []
    return [*waiting, *standing.notes]


_FAULTS = {
    "postgresql-crash": "crash",
    "leader-power-cut": "power cut",
    "leader-network-cut": "network cut",
    "switchover": "switchover",
}
"""What a fault of the leader is called where there is little room."""


def _prediction(prediction: Prediction) -> str:
    low, high = int(prediction.low_seconds), math.ceil(prediction.high_seconds)
    return f"{_FAULTS.get(prediction.fault, prediction.fault)} {low}–{high} s"


def _problems(problems: Sequence[Problem], room: int) -> list[Line]:
    """Return the problems, as many as there is room for but at least one."""
    count = len(problems) if len(problems) <= room - 1 else max(1, room - 2)
    shown = [
        Line(cut(f"{problem.title}: {problem.detail}" if problem.detail else problem.title), Style.WARNING)
        for problem in problems[:count]
    ]
    if count < len(problems):
        shown.append(Line(f"and {len(problems) - count} more", Style.WARNING))
    return shown
