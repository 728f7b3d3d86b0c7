"""Which members of Raft have the new password and which the old one, and who comes next: pure but for `look`.

Members with different passwords do not hear each other, so each side counts the other as away. Whoever changes goes
from one side to the other; a majority of all is on one side at most, and nobody is promoted without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import NotKnown
from kbpg.raft import OtherPassword, RaftStatus, status_now
from kbpg.raft_admin import holds_without


@dataclass(frozen=True)
class Sides:
    """What the members that have the `new` and the `old` password say, by host; and why the others are `silent`."""

    new: Mapping[str, RaftStatus]
    old: Mapping[str, RaftStatus]
    silent: Mapping[str, str]

    @property
    def count(self) -> int:
        """Return how many members there are."""
        return len(self.new) + len(self.old) + len(self.silent)

    @property
    def majority(self) -> int:
        """Return how many members make a quorum."""
        return self.count // 2 + 1

    @property
    def may_lead(self) -> bool:
        """Return whether one side has the members for a quorum, so that somebody leads, or soon will."""
        return max(len(self.new), len(self.old)) >= self.majority

    def of(self, host: str) -> RaftStatus | None:
        """Return what this host's member says."""
        return self.new.get(host) or self.old.get(host)


def look(site: Site) -> Sides:
    """Ask every member now, with the new password and then with the old one."""
    context = site.context
    port, own = context.inventory.ports.raft, context.credentials.raft_password
    before = (context.former or context.credentials).raft_password
    new, old, silent = dict[str, RaftStatus](), dict[str, RaftStatus](), dict[str, str]()

    def ask(name: str) -> None:
        try:
            new[name] = status_now(site.hosts[name], port, own)
        except OtherPassword:
            old[name] = status_now(site.hosts[name], port, before)

    def told(name: str) -> None:
        try:
            ask(name)
        except (NotKnown, HostError) as silence:
            silent[name] = silence.reason

    with ThreadPoolExecutor(len(context.db_names)) as pool:
        list(pool.map(told, context.db_names))
    names = context.db_names
    return Sides(
        {name: new[name] for name in names if name in new},
        {name: old[name] for name in names if name in old},
        silent,
    )


def next_one(seen: Sides, leader: str, addresses: Mapping[str, str]) -> str:
    """Return which host with the old password comes next; `leader` leads now, "" where nobody does.

    Replicas, as long as the others of the old side are a majority; then the leader, with which the majority goes to
    the new side; then the rest. `addresses` are those of Raft, by host: a member that starts dials at once those
    whose address sorts before its own, and is dialled by others up to a second later (`_shouldConnect`
    and connectionRetryTime of pysyncobj; ADR 0022). So those that the leader will dial come first.
    """
    if leader in seen.old and len(seen.old) - 1 < seen.majority:
        return leader
    return min((n for n in seen.old if n != leader), key=lambda name: _order(name, leader, addresses))


def _order(name: str, leader: str, addresses: Mapping[str, str]) -> tuple[bool, str]:
    return addresses[name] > addresses.get(leader, ""), addresses[name]


def why_not_replica(seen: Sides, host: str, leader: str, addresses: Mapping[str, str]) -> str | None:
    """Return why Raft cannot miss the member of `host`, a replica, or None."""
    status = seen.of(leader)
    if status is None or not status.has_quorum:
        return f"{leader} sees no Raft quorum"
    if not holds_without(status, addresses[host]):
        return f"without {host} Raft would lose its quorum, as {leader} sees it"
    return None


def why_not_leader(seen: Sides) -> str | None:
    """Return why the leader cannot go over to the new side, or None: it needs a majority there."""
    if len(seen.new) + 1 >= seen.majority:
        return None
    return f"{len(seen.new)} of {seen.count} members have the new password: with the leader no majority"


def unsafe(counted: Sequence[str], host: str, *, any_of: bool) -> bool:
    """Return whether commits would wait for nobody once `host` restarts, or already do.

    `counted` are the synchronous standbys; `any_of`: for any of them, so that each of them may go but the last. Where
    they are named (Patroni before 4.0), commits wait until Patroni names another.
    """
    return not (set(counted) - {host} if any_of else counted)
