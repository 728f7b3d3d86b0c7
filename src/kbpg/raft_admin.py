"""The consensus as all its members see it, and what may be asked of them: pure judgements, but for `tell`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbpg.facts import Facts, NotKnown
from kbpg.raft import RaftFact, RaftStatus, command

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.hosts.port import Reader


@dataclass(frozen=True)
class Consensus:
    """All members side by side.

    `members` are the addresses ("address:port") that the inventory wants, by host name; `seen` what each host's
    own member says, or the reason why it says nothing.
    """

    members: Mapping[str, str]
    seen: Mapping[str, RaftStatus | str]

    @property
    def answering(self) -> dict[str, RaftStatus]:
        """Return the statuses of the members that answer, by host name."""
        return {name: status for name, status in self.seen.items() if isinstance(status, RaftStatus)}

    @property
    def quorate(self) -> list[str]:
        """Return the hosts whose member sees a quorum; not those whose leader answers that it sees none.

        A member that lost its log counts those it is configured with until a leader has told it of the others. It may
        take for a quorum what the leader knows is none (seen on the lab, for some seconds, with ghosts).
        """
        answering = self.answering
        without = {self.members[name] for name, status in answering.items() if not status.has_quorum}
        return [n for n, status in answering.items() if status.has_quorum and status.leader not in without]

    @property
    def with_quorum(self) -> list[str]:
        """Return the `quorate` hosts whose member names a leader."""
        return [name for name in self.quorate if self.answering[name].leader]

    @property
    def ghosts(self) -> dict[str, list[str]]:
        """Return the members that the inventory does not know, each with the hosts that count it."""
        known, found = set(self.members.values()), dict[str, list[str]]()
        for name, status in self.answering.items():
            for partner in status.partners:
                if partner not in known:
                    found.setdefault(partner, []).append(name)
        return found

    @property
    def apart(self) -> list[str]:
        """Return which members do not answer, and which do not reach which, a line each."""
        silent = [f"{name}: {why}" for name, why in self.seen.items() if isinstance(why, str)]
        found = self.answering.items()
        return silent + [
            f"{name} does not reach {partner}" for name, status in found for partner in status.away
        ]

    @property
    def healthy(self) -> bool:
        """Return whether every member answers, reaches every other, sees the same leader, and counts no ghost."""
        statuses = list(self.answering.values())
        whole = len(statuses) == len(self.members) and not any(s.away for s in statuses)
        sizes = {s.size for s in statuses} == {len(self.members)}
        return (
            whole
            and sizes
            and len({s.leader for s in statuses}) == 1
            and len(self.with_quorum) == len(statuses)
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "healthy": self.healthy,
            "quorum": bool(self.with_quorum),
            "ghosts": self.ghosts,
            "members": [self._member(name, address) for name, address in self.members.items()],
        }

    def _member(self, name: str, address: str) -> dict[str, Any]:
        status = self.seen.get(name, "was not asked")
        if isinstance(status, str):
            return {"host": name, "address": address, "error": status}
        return {
            "host": name,
            "address": address,
            "state": status.state,
            "leader": status.leader,
            "quorum": status.has_quorum,
            "term": status.term,
            "commit_index": status.commit_index,
            "log_length": status.log_length,
            "partners": status.partners,
        }


def addresses(context: Context) -> dict[str, str]:
    """Return the Raft addresses that the inventory wants, by host name."""
    return {host.name: f"{host.address}:{context.inventory.ports.raft}" for host in context.inventory.db}


def member_fact(context: Context) -> RaftFact:
    """Return the question to a member, with the password of before too while a rotation of it is not ended."""
    own = context.credentials.raft_password
    before = context.former.raft_password if context.former else own
    return RaftFact(context.inventory.ports.raft, own, before if before != own else None)


def tell(context: Context, host: Reader, words: list[str]) -> Any:
    """Return the answer of the host's member to a command, as `raft.command` does. Raises `NotKnown`."""
    fact = member_fact(context)
    return command(host, fact.port, fact.password, words, former=fact.former)


def consensus(facts: Facts, context: Context) -> Consensus:
    """Return what the members said, from facts that were gathered."""
    fact = member_fact(context)
    seen: dict[str, RaftStatus | str] = {}
    for name in context.db_names:
        try:
            seen[name] = facts.get(fact, name)
        except NotKnown as reason:
            seen[name] = reason.reason
    return Consensus(addresses(context), seen)


def holds_without(status: RaftStatus, address: str) -> bool:
    """Return whether the consensus keeps its quorum, by this member's view, when `address` goes away for a while.

    Raft needs more than half of all members it counts, ghosts included (`__onTick` of pysyncobj/syncobj.py).
    """
    connected = [partner for partner, up in status.partners.items() if up and partner != address]
    present = len(connected) + (status.address != address)
    return present > status.size / 2


def why_not_remove(seen: Consensus, address: str) -> str | None:
    """Return why `address` must not be removed from the consensus, or None.

    A member that the inventory wants and that answers would add itself again at once; one that it wants and
    that does not answer counts for the quorum on purpose.
    """
    if not seen.with_quorum:
        return "no member sees a quorum, and only a quorum can change the members"
    host = next((name for name, wanted in seen.members.items() if wanted == address), None)
    if host and host in seen.answering:
        return f"{address} is {host}, a member of the inventory that answers"
    counted = [name for name, status in seen.answering.items() if address in status.partners]
    if not counted:
        return f"no member counts {address}"
    return None
