"""A cluster without a leader, and whether a node may be made one by hand: facts in, a reason or a loss out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbpg.errors import Refused
from kbpg.layout import PATRONI
from kbpg.operations.position import NO_DATA, Position, most_advanced
from kbpg.patroni import NodeStatus
from kbpg.raft_admin import Consensus


@dataclass(frozen=True)
class Leaderless:
    """What was found before a failover to `host`.

    `nodes` are the db hosts as Patroni there says, or why it says nothing; `writable` those whose PostgreSQL is no
    replica, whatever Patroni says; `positions` how far each one's data reaches, or why that is not known.
    """

    host: str
    consensus: Consensus
    nodes: Mapping[str, NodeStatus | str]
    writable: tuple[str, ...]
    positions: Mapping[str, Position | str]

    @property
    def answering(self) -> dict[str, NodeStatus]:
        """Return the nodes whose Patroni answers."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, NodeStatus)}

    @property
    def leaders(self) -> list[str]:
        """Return the nodes that say that they lead, or that take writes."""
        found = self.answering
        return [n for n in self.nodes if n in self.writable or (n in found and found[n].leads)]

    @property
    def paused(self) -> bool:
        """Return whether Patroni is paused, as any node says."""
        return any(node.paused for node in self.answering.values())

    @property
    def farther(self) -> dict[str, Position]:
        """Return the nodes that are known to reach farther than `host`."""
        mine = self.positions.get(self.host)
        if not isinstance(mine, Position):
            return {}
        known = {name: p for name, p in self.positions.items() if isinstance(p, Position)}
        return {n: p for n, p in known.items() if (p.timeline, p.lsn) > (mine.timeline, mine.lsn)}

    @property
    def unknown(self) -> dict[str, str]:
        """Return the other nodes of which nobody can tell how far their data reaches, and why."""
        return {
            name: why
            for name, why in self.positions.items()
            if isinstance(why, str) and why != NO_DATA and name != self.host
        }


def why_not_fail_over(seen: Leaderless) -> Refused | None:
    """Return the refusal where `host` must not, or cannot, be made the leader; None where it can."""
    return _led(seen) or _no_quorum(seen) or _unfit(seen)


def _led(seen: Leaderless) -> Refused | None:
    if seen.leaders:
        names = " and ".join(seen.leaders)
        if any(name not in seen.answering or not seen.answering[name].leads for name in seen.leaders):
            hint = f"if it must not lead, stop the container {PATRONI} there first"
        else:
            hint = "kbpg status" if seen.host in seen.leaders else f"kbpg switchover --to {seen.host}"
        return Refused(f"no failover: {names} leads", hint=hint)
    followers = [name for name, node in seen.answering.items() if node.receiving]
    if followers:
        return Refused(
            f"no failover: {', '.join(followers)} streams from a leader that cannot be seen from here",
            hint="kbpg status shows which host is not reached; mend the way to it",
        )
    return None


def _no_quorum(seen: Leaderless) -> Refused | None:
    if seen.consensus.with_quorum:
        return None
    return Refused(
        "no failover: Raft has no quorum, so no leader can be written down",
        detail=[f"{name}: {status}" for name, status in seen.nodes.items() if isinstance(status, str)],
        hint="bring a second db host back, and a leader follows by itself; "
        "if those hosts are gone for good, switch them off, then: kbpg raft rebuild",
    )


def _unfit(seen: Leaderless) -> Refused | None:
    node, position = seen.nodes[seen.host], seen.positions[seen.host]
    if isinstance(node, str):
        return Refused(f"no failover to {seen.host}: {node}", hint=_other(seen))
    if isinstance(position, str):
        return Refused(f"no failover to {seen.host}: {position}", hint=_other(seen))
    if node.state not in ("running", "streaming", "in archive recovery"):
        return Refused(f"no failover to {seen.host}: its PostgreSQL is `{node.state}`", hint=_other(seen))
    systems = {name: p.identifier for name, p in seen.positions.items() if isinstance(p, Position)}
    strangers = [name for name, identifier in systems.items() if identifier != position.identifier]
    if strangers:
        return Refused(
            f"no failover to {seen.host}: the data on {', '.join(strangers)} is of another system",
            detail=[f"{name}: system identifier {identifier}" for name, identifier in systems.items()],
            hint="kbpg diagnose says whose is whose",
        )
    return None


def _other(seen: Leaderless) -> str:
    able = {name: p for name, p in seen.positions.items() if name in seen.answering}
    best = most_advanced(able)
    return f"kbpg failover --to {best}" if best and best != seen.host else "kbpg diagnose"


def what_is_lost(seen: Leaderless) -> list[str]:
    """Return what would be lost for certain, one line for each node that reaches farther than `host`."""
    mine = seen.positions[seen.host]
    assert isinstance(mine, Position)  # noqa: S101 (`_unfit` has made sure)
    return [
        f"{name} has {p.lsn - mine.lsn} bytes of WAL that {seen.host} does not have"
        if p.timeline == mine.timeline
        else f"{name} is on timeline {p.timeline}; all that was written on it since the switch is lost"
        for name, p in seen.farther.items()
    ]


def what_may_be_lost(seen: Leaderless, synchronous: str) -> list[str]:
    """Return what is not known, one line for each node that tells nothing.

    With synchronous commit (`quorum`, `strict`) an acknowledged write is on two nodes: one that is missing
    has nothing alone, as long as the leader had a replica.
    """
    worth = (
        "; acknowledged writes were on a replica too, unless it had none then"
        if synchronous != "off" and len(seen.unknown) == 1
        else ""
    )
    return [f"{name}: {why}: what only it has is lost{worth}" for name, why in seen.unknown.items()]


def refuse_loss(seen: Leaderless) -> Refused:
    """Return the refusal where something would be lost for certain."""
    best = most_advanced({n: p for n, p in seen.positions.items() if n in seen.answering})
    other = f"kbpg failover --to {best}, or " if best in seen.farther else ""
    away = [name for name in seen.farther if name not in seen.answering]
    back = f"start {', '.join(away)}, or " if away else ""
    return Refused(
        f"no failover: {seen.host} is not the most advanced node",
        detail=what_is_lost(seen),
        hint=f"{other}{back}go on with --accept-loss",
    )
