"""How a cluster stands, as one value, and what is said of it in words. Nothing here asks a host anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kbpg.inventory.show import human_size

LAG_SECONDS = 10.0
"""Seconds of replay lag from which on a standby counts as lagging; a healthy one is milliseconds behind."""
WAIT_SECONDS = 1.0
"""Seconds a client may wait for a server connection; in a pool that is large enough it waits milliseconds."""


class Verdict(StrEnum):
    """How it stands: `degraded` serves, but something is wrong; `down` has no leader that serves."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True)
class Problem:
    """What is wrong, in a few words that name the host, and what was seen."""

    title: str
    detail: str = ""


@dataclass(frozen=True)
class Member:
    """A db host as it is.

    `role` is `leader`, `replica` or `unknown`. `lag_bytes` and `lag_seconds` are how far its replay is behind,
    as the leader sees it, None where that is not known; `sync` is whether a commit may count on it. `answers`
    is whether its PostgreSQL answers, None where it was not asked, `refused` why it lets kbpg ask nothing;
    `problem` is why nothing is known.
    """

    name: str
    address: str
    role: str
    state: str
    timeline: int | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    sync: bool | None = None
    postgresql: str | None = None
    patroni: str | None = None
    answers: bool | None = None
    refused: str | None = None
    read_only: bool | None = None
    replay_paused: bool = False
    pending_restart: bool = False
    problem: str | None = None

    @property
    def leads(self) -> bool:
        """Return whether it says of itself that it leads."""
        return self.role == "leader"


@dataclass(frozen=True)
class Pool:
    """One of PgBouncer's pools: clients with a server connection and without, the servers, the longest wait."""

    database: str
    user: str
    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    max_wait_seconds: float


@dataclass(frozen=True)
class Proxy:
    """A proxy as it is.

    `haproxy` and `pgbouncer` are whether their ports accept connections, None where not known. `routes_to`
    are the nodes HAProxy sends writes to, `pools` what PgBouncer's console shows, each None where that does
    not answer, for the reason in `haproxy_problem` or `pgbouncer_problem`. `problem` is why nothing is known.
    """

    name: str
    address: str
    haproxy: bool | None
    pgbouncer: bool | None
    routes_to: tuple[str, ...] | None = None
    paused: bool | None = None
    pools: tuple[Pool, ...] | None = None
    pgbouncer_version: str | None = None
    haproxy_problem: str | None = None
    pgbouncer_problem: str | None = None
    problem: str | None = None

    @property
    def max_wait(self) -> float:
        """Return the seconds for which the client at the head of the slowest queue waits."""
        return max((pool.max_wait_seconds for pool in self.pools or () if pool.clients_waiting), default=0.0)


@dataclass(frozen=True)
class Raft:
    """The consensus, as its leader sees it, or else the member with the newest term.

    `members` counts all members, `connected` those that it is connected to and itself; `isolated` are the
    hosts whose member says that it has no quorum.
    """

    leader: str | None
    quorum: bool
    term: int
    members: int
    connected: int
    isolated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoints:
    """Where clients connect: the load balancer or every proxy, and the port of each kind."""

    addresses: tuple[str, ...]
    pooled: int
    direct: int
    read_only: int


@dataclass(frozen=True)
class Standing:
    """The cluster at one moment.

    `leader` is the one node that says that it leads, `problem` why there is none. `rpo_zero` is whether every
    acknowledged commit is on a standby too; `synchronous` whether the inventory wants that. `paused` is
    Patroni's pause, `max_lag` the bytes a standby may be behind, `notes` what is no problem.
    """

    cluster: str
    at: datetime
    leader: str | None
    problem: str | None
    members: tuple[Member, ...]
    proxies: tuple[Proxy, ...]
    raft: Raft | None = None
    rpo_zero: bool | None = None
    synchronous: bool = True
    paused: bool | None = None
    max_lag: int = 16 * 1024**2
    endpoints: Endpoints | None = None
    predicted: str | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", tuple(_problems(self)))

    @property
    def leading(self) -> Member | None:
        """Return the leader."""
        return next((member for member in self.members if member.name == self.leader), None)

    @property
    def serves(self) -> bool:
        """Return whether there is a leader that takes writes, as far as it can be asked."""
        leader = self.leading
        return leader is not None and leader.answers is not False and not leader.read_only

    @property
    def verdict(self) -> Verdict:
        """Return how it stands."""
        if not self.serves:
            return Verdict.DOWN
        return Verdict.DEGRADED if self.problems else Verdict.HEALTHY

    @property
    def summary(self) -> str:
        """Return how it stands in words: who leads, how many follow, what a failover would lose."""
        leader, standbys = self.leading, [member for member in self.members if not member.leads]
        if leader is None:
            return f"{_leaders(self.members)}, {self.problem}"
        if not self.serves:
            return f"{leader.name} leads but does not serve, {_why_not(leader)}"
        streaming = sum(member.state == "streaming" for member in standbys)
        parts = [f"{leader.name} leads", f"{streaming} of {len(standbys)} standbys stream"]
        parts += {True: ["RPO 0"], False: ["RPO not 0"], None: []}[self.rpo_zero]
        return ", ".join(parts)


def _leaders(members: Iterable[Member]) -> str:
    count = sum(member.leads for member in members)
    return {0: "no leader", 2: "two leaders"}.get(count, f"{count} leaders")


def _why_not(leader: Member) -> str:
    return "its PostgreSQL is still read-only" if leader.read_only else "its PostgreSQL does not answer"


# --- what is wrong -------------------------------------------------------------------------------------


def _problems(standing: Standing) -> Iterable[Problem]:
    for member in standing.members:
        yield from _of_member(member, standing)
    yield from _of_commits(standing)
    if standing.paused:
        yield Problem("Patroni is paused", "nobody takes over when the leader is lost; patronictl resume")
    if standing.raft:
        yield from _of_raft(standing.raft)
    for proxy in standing.proxies:
        yield from _of_haproxy(proxy, standing.leader)
        yield from _of_pgbouncer(proxy)


def _of_member(member: Member, standing: Standing) -> Iterable[Problem]:
    if member.problem:
        words = "cannot be reached" if member.state == "unreachable" else "does not answer"
        yield Problem(f"{member.name} {words}", member.problem)
        return
    leader = standing.leading
    if member.answers is False:
        yield Problem(f"PostgreSQL on {member.name} does not answer", f"Patroni says {member.state}")
    elif member.refused:
        yield Problem(f"PostgreSQL on {member.name} refuses kbpg", member.refused)
    if leader and not member.leads and member.state != "streaming":
        yield Problem(f"{member.name} does not stream", f"its state is {member.state}")
    if leader and member.timeline and leader.timeline and member.timeline != leader.timeline:
        yield Problem(
            f"{member.name} is on timeline {member.timeline}", f"the leader is on {leader.timeline}"
        )
    if member.replay_paused:
        yield Problem(f"{member.name} has its replay paused", "select pg_wal_replay_resume() there")
    elif _lags(member, standing.max_lag):
        limits = f"limits {human_size(standing.max_lag)}, {LAG_SECONDS:g} s"
        yield Problem(f"{member.name} lags", f"{behind(member)} behind the leader; {limits}")


def _lags(member: Member, limit: int) -> bool:
    # Seconds alone are no lag: where nothing is left to replay, they are what was measured last
    late = bool(member.lag_bytes) and (member.lag_seconds or 0.0) > LAG_SECONDS
    return late or (member.lag_bytes or 0) > limit


def _of_commits(standing: Standing) -> Iterable[Problem]:
    if not standing.serves or not standing.synchronous:
        return
    if standing.rpo_zero is False:
        yield Problem("RPO is not 0", "commits wait for no standby: losing the leader now loses the newest")
    elif standing.rpo_zero and not any(m.sync and m.state == "streaming" for m in standing.members):
        yield Problem("commits wait", "no synchronous standby streams")


def _of_raft(raft: Raft) -> Iterable[Problem]:
    if not raft.quorum:
        yield Problem("Raft has no quorum", f"{raft.connected} of {raft.members} members are connected")
    elif raft.connected < raft.members:
        yield Problem(
            f"Raft has {raft.connected} of {raft.members} members", "kbpg diagnose says which, and why"
        )
    elif raft.isolated:
        yield Problem(f"Raft on {', '.join(raft.isolated)} has no quorum", "it is cut off from the others")


def _of_haproxy(proxy: Proxy, leader: str | None) -> Iterable[Problem]:
    if proxy.problem:
        yield Problem(f"{proxy.name} cannot be reached", proxy.problem)
    elif proxy.haproxy is False:
        yield Problem(f"HAProxy on {proxy.name} is down", "its port accepts no connections")
    elif proxy.haproxy_problem:
        yield Problem(f"HAProxy on {proxy.name} does not answer", proxy.haproxy_problem)
    elif proxy.routes_to == ():
        yield Problem(f"HAProxy on {proxy.name} routes nowhere", "no node passes its checks as the leader")
    elif proxy.routes_to and proxy.routes_to != (leader,):
        yield Problem(f"HAProxy on {proxy.name} routes to {', '.join(proxy.routes_to)}")


def _of_pgbouncer(proxy: Proxy) -> Iterable[Problem]:
    if proxy.problem:
        return
    if proxy.pgbouncer is False:
        yield Problem(f"PgBouncer on {proxy.name} is down", "its port accepts no connections")
    elif proxy.pgbouncer_problem:
        yield Problem(f"PgBouncer on {proxy.name} does not answer", proxy.pgbouncer_problem)
    elif proxy.paused:
        yield Problem(f"PgBouncer on {proxy.name} is paused", "clients wait until RESUME on its console")
    elif proxy.max_wait >= WAIT_SECONDS:
        waiting = sum(pool.clients_waiting for pool in proxy.pools or ())
        yield Problem(
            f"clients of PgBouncer on {proxy.name} wait", f"{waiting} of them, for {proxy.max_wait:.0f} s"
        )


def behind(member: Member) -> str:
    """Return how far a member is behind, in bytes and in seconds; `-` where that is not known."""
    known = (
        "" if member.lag_bytes is None else _bytes(member.lag_bytes),
        "" if member.lag_seconds is None else _seconds(member.lag_seconds),
    )
    return ", ".join(text for text in known if text) or "-"


def _bytes(count: int) -> str:
    """Return bytes in a unit that leaves at most four digits: 20.0 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
