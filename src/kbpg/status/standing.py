"""How a cluster stands at one moment, as one value, and in words. Nothing here asks a host anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kbpg.status.problems import problems
from kbpg.status.values import Endpoints, Member, Prediction, Problem, Proxy, Raft


class Verdict(StrEnum):
    """How it stands: `degraded` serves, but something is wrong; `down` has no leader that serves."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True)
class Standing:
    """The cluster at one moment.

    `leader` is the one node that says that it leads, `problem` why there is none. `rpo_zero` is whether every
    acknowledged commit is on a replica too; `synchronous` whether the inventory wants that. `paused` is
    Patroni's pause, `max_lag` the bytes a replica may be behind, `notes` what is no problem.
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
    predicted: tuple[Prediction, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", tuple(problems(self)))

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
        leader, replicas = self.leading, [member for member in self.members if not member.leads]
        if leader is None:
            return _without_leader(self.members, self.problem)
        if not self.serves:
            return f"{leader.name} leads but does not serve, {_why_not(leader)}"
        streaming = sum(member.state == "streaming" for member in replicas)
        parts = [f"{leader.name} leads", f"{streaming} of {len(replicas)} replicas stream"]
        parts += {True: ["RPO 0"], False: ["RPO not 0"], None: []}[self.rpo_zero]
        return ", ".join(parts)


def _without_leader(members: Iterable[Member], problem: str | None) -> str:
    roles = [member.role for member in members]
    count = roles.count("leader")
    if not count and "replica" in roles:
        return "no leader"  # which says it all
    leaders = {0: "no leader", 2: "two leaders"}.get(count, f"{count} leaders")
    return f"{leaders}, {problem}"


def _why_not(leader: Member) -> str:
    return "its PostgreSQL is still read-only" if leader.read_only else "its PostgreSQL does not answer"
