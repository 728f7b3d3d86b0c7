"""What is wrong with a standing, worst for clients first within each part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbpg.inventory.show import human_size
from kbpg.status.values import Member, Problem, Proxy, Raft, behind

if TYPE_CHECKING:
    from kbpg.status.standing import Standing

LAG_SECONDS = 10.0
"""Seconds of replay lag from which on a replica counts as lagging; a healthy one is milliseconds behind."""
WAIT_SECONDS = 1.0
"""Seconds a client may wait for a server connection; in a pool that is large enough it waits milliseconds."""


def problems(standing: Standing) -> Iterable[Problem]:
    """Yield what is wrong, of every host and of the cluster."""
    for member in standing.members:
        yield from _of_member(member, standing)
    yield from _of_commits(standing)
    if standing.paused:
        yield Problem("Patroni is paused", "nobody takes over when the leader is lost; kbpg resume")
    if standing.raft:
        yield from _of_raft(standing.raft, {member.name for member in standing.members if member.problem})
    for proxy in standing.proxies:
        yield from _of_haproxy(proxy, standing.leader)
        yield from _of_pgbouncer(proxy)


def _of_member(member: Member, standing: Standing) -> Iterable[Problem]:
    if member.problem:
        words = "unreachable" if member.state == "unreachable" else "does not answer"
        yield Problem(f"{member.name} {words}", member.problem)
        return
    leader = standing.leading
    if member.answers is False:
        yield Problem(f"PostgreSQL on {member.name} does not answer", f"Patroni says {member.state}")
    elif leader and not member.leads and member.state != "streaming":
        yield Problem(f"{member.name} does not stream", f"its state is {member.state}")
    if member.refused:
        yield Problem(f"PostgreSQL on {member.name} refuses kbpg", member.refused)
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
        yield Problem("RPO is not 0", "commits wait for no replica, so the newest are on the leader alone")
    elif standing.rpo_zero and not any(member.sync for member in standing.members):
        yield Problem("commits wait", "no synchronous standby streams")


def _of_raft(raft: Raft, silent: set[str]) -> Iterable[Problem]:
    """Yield what is wrong with the consensus; that `silent` hosts are missing there follows from that."""
    missing = [name for name in raft.missing if name not in silent]
    if not raft.quorum:
        yield Problem("Raft has no quorum", f"{raft.connected} of {raft.members} members are connected")
    elif missing:
        text = f"{', '.join(missing)} not connected to {raft.leader or 'the others'}"
        yield Problem(f"Raft has {raft.connected} of {raft.members} members", text)
    elif raft.isolated:
        yield Problem(f"Raft on {', '.join(raft.isolated)} has no quorum", "it is cut off from the others")


def _of_haproxy(proxy: Proxy, leader: str | None) -> Iterable[Problem]:
    if proxy.problem:
        yield Problem(f"{proxy.name} unreachable", proxy.problem)
    elif proxy.haproxy is False:
        yield Problem(f"HAProxy on {proxy.name} is down", "its port accepts no connections")
    elif proxy.haproxy_problem:
        yield Problem(f"HAProxy on {proxy.name} does not answer", proxy.haproxy_problem)
    elif leader and proxy.routes_to == ():
        yield Problem(f"HAProxy on {proxy.name} routes nowhere", "no node passes its checks as the leader")
    elif proxy.routes_to and proxy.routes_to != (leader or proxy.routes_to[0],):
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
