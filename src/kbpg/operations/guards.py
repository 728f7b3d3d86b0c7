"""What must hold before data, or a node, is taken away: facts in, a reason to refuse out. Nothing is done here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbpg.raft import RaftStatus
from kbpg.raft_admin import holds_without

RESERVE = 256 << 20
"""Bytes that stay free beside a clone: WAL that is written while it is made."""
MARGIN = 1.1
"""A clone takes so much of the leader's size: it grows while it is copied."""


@dataclass(frozen=True)
class Standing:
    """What was seen a moment ago of a replica and of the leader it would be cloned from.

    Identifiers are PostgreSQL's system identifiers, "" where they cannot be read: `identifier` is that of the data
    here, `recorded` the one in this host's record, `leader_identifier` the leader's own, from its PostgreSQL.
    `foreign` is why the data here is not this cluster's, or None. `leads` is whether Patroni or PostgreSQL here says
    that it leads. `size`, `leader_size` and `free` are bytes.
    """

    host: str
    leaders: tuple[str, ...]
    leads: bool = False
    writable: bool = False
    quorum: bool = False
    leader_identifier: str = ""
    identifier: str = ""
    recorded: str = ""
    foreign: str | None = None
    reaches_leader: bool = False
    size: int = 0
    leader_size: int = 0
    free: int = 0

    @property
    def leader(self) -> str:
        """Return the one leader; "" without one, or with more."""
        return self.leaders[0] if len(self.leaders) == 1 else ""


def why_not_replace(seen: Standing) -> str | None:
    """Return why the data of this replica must not be replaced by a clone of the leader's, or None."""
    return _leaderless(seen) or _is_leader(seen) or _strangers(seen) or _no_way(seen)


def _leaderless(seen: Standing) -> str | None:
    if not seen.leaders:
        return f"no healthy leader exists, so the data on {seen.host} may be the best copy there is"
    if len(seen.leaders) > 1:
        return f"{' and '.join(seen.leaders)} both lead: which of them is right must be settled first"
    return None


def _is_leader(seen: Standing) -> str | None:
    if seen.host in seen.leaders or seen.leads:
        return f"{seen.host} leads, and the leader's data is never touched"
    if not seen.writable:
        return f"{seen.leader} says that it leads, but its PostgreSQL does not take writes"
    if not seen.quorum:
        return f"{seen.leader} leads without a quorum of Raft, and may lose the leadership at any moment"
    return None


def _strangers(seen: Standing) -> str | None:
    if not seen.leader_identifier:
        return f"the system identifier of {seen.leader} cannot be read"
    if not seen.recorded:
        return f"{seen.host} has no record of which cluster its data belongs to"
    leads = f"{seen.leader} leads {seen.leader_identifier}"
    if seen.recorded != seen.leader_identifier:
        return f"the record on {seen.host} names the system {seen.recorded}, but {leads}"
    if seen.identifier and seen.identifier != seen.leader_identifier:
        return f"the data on {seen.host} is of the system {seen.identifier}, but {leads}"
    return seen.foreign


def _no_way(seen: Standing) -> str | None:
    if not seen.reaches_leader:
        return f"{seen.host} does not reach PostgreSQL on {seen.leader}, so it could not be cloned from there"
    return None


def needed(leader_size: int) -> int:
    """Return the bytes that a clone of `leader_size` bytes takes."""
    return int(leader_size * MARGIN) + RESERVE


def why_no_room(seen: Standing, *, keep: bool) -> str | None:
    """Return why there is no room for a clone, or None; with `keep` the data that is there now stays beside it."""
    room = seen.free + (0 if keep else seen.size)
    if not seen.leader_size:
        return f"the size of the data on {seen.leader} cannot be read"
    if room < needed(seen.leader_size):
        beside = " beside the data that is there" if keep else ""
        return (
            f"a clone needs {needed(seen.leader_size) >> 20} MB on {seen.host}{beside}, "
            f"and {room >> 20} MB are free"
        )
    return None


def why_not_away(
    host: str, address: str, leaders: tuple[str, ...], raft: Mapping[str, RaftStatus]
) -> str | None:
    """Return why Patroni on `host` (its Raft member: `address`) must not be stopped now, or None.

    `raft` is what the members that answer say, by host. The leader is left alone, and so is a node without which
    the others would have no quorum: of three Patronis two are never away at once, of five two may be.
    """
    if host in leaders:
        return f"{host} leads: hand over first"
    if not leaders:
        return "no node leads: the consensus may need every member that there is"
    for name, status in raft.items():
        if name in leaders and not holds_without(status, address):
            return f"without {host} Raft would lose its quorum, as {name} sees it"
    if not any(name in raft for name in leaders):
        return f"Raft on {leaders[0]} does not answer"
    return None
