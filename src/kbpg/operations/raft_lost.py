"""What is left of a consensus that lost its quorum, and whether it may be built anew: facts in, a reason out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kbpg.layout import PATRONI
from kbpg.operations.position import Position, most_advanced, unread
from kbpg.raft_admin import Consensus

RECEIVER_TIMEOUT = "wal_receiver_timeout"
"""PostgreSQL's setting, 60 s by default: how long a replica takes a leader that is gone for one that is there."""
UNKNOWN = "unknown"
"""The state of a container where Docker does not answer."""


@dataclass(frozen=True)
class Before:
    """What was found before a rebuild.

    `started` is the id of one that was left half-way, "" without one; `states` are the containers' by host, "missing"
    where there is none, `UNKNOWN` where nobody tells; `recorded` the system identifiers in the hosts' records. `lost`
    are the db hosts that are not connected, `without` those that the user goes on without. `has_up` are, by proxy
    that tells it, the db hosts that its HAProxy has up; `streams_from` the names of those from whom nodes receive
    WAL, by node, "" where that is not known.
    """

    consensus: Consensus
    leaders: tuple[str, ...]
    positions: Mapping[str, Position | str]
    states: Mapping[str, str]
    recorded: Mapping[str, str]
    started: str = ""
    lost: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    has_up: Mapping[str, frozenset[str]] = field(default_factory=dict)
    streams_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> str | None:
        """Return the node to start from."""
        return most_advanced(self.positions)

    @property
    def half_done(self) -> bool:
        """Return whether an earlier run got as far as a node that leads, so that only the others have to join."""
        return bool(self.started and len(self.leaders) == 1 and self.consensus.with_quorum)

    @property
    def bare(self) -> tuple[str, ...]:
        """Return the connected hosts that the user goes on without, and where nothing is, or can be, stopped."""
        return tuple(
            n for n, state in self.states.items() if state in ("missing", UNKNOWN) and n in self.without
        )

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the connected hosts whose Docker does not answer."""
        return tuple(n for n, state in self.states.items() if state == UNKNOWN)

    @property
    def at_large(self) -> tuple[str, ...]:
        """Return the hosts that the user goes on without, and where nothing can be stopped from here."""
        return tuple(n for n in self.without if n in self.lost or n in self.bare)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the connected nodes that the user goes on without: no position is known, so they stay stopped."""
        return tuple(n for n in self.without if isinstance(self.positions.get(n), str))


def why_not_rebuild(seen: Before) -> str | None:
    """Return why the consensus must not be rebuilt, or None."""
    if seen.consensus.with_quorum and not seen.started:
        return f"{', '.join(seen.consensus.with_quorum)} sees a quorum: there is nothing to rebuild"
    if seen.leaders and not seen.started:
        return f"{', '.join(seen.leaders)} leads"
    if len(seen.leaders) > 1:
        return (
            f"{' and '.join(seen.leaders)} lead both; stop the container {PATRONI} of the one that must not"
        )
    if missing := [name for name in seen.lost if name not in seen.without]:
        return (
            f"{', '.join(missing)} cannot be reached, and its data may be the most advanced; bring it back, or, "
            "gone for good and switched off, go on with --without " + " --without ".join(missing)
        )
    if why := _unstoppable(seen) or (None if seen.half_done else _alive(seen)):
        return why
    stopped = [
        name
        for name, state in seen.states.items()
        if state in ("exited", "created", "missing", "paused") and name not in seen.bare
    ]
    if stopped and not seen.started:
        return (
            f"the container {PATRONI} does not run on {', '.join(stopped)}: start it first, that may be all"
        )
    return _strangers(seen) or (None if seen.half_done else unread(seen.positions, seen.without))


def _unstoppable(seen: Before) -> str | None:
    """Return which node cannot be stopped, as its Docker is silent, and is not left out, or is alive; or None."""
    if missed := [name for name in seen.silent if name not in seen.without]:
        return (
            f"Docker on {', '.join(missed)} does not answer, so {PATRONI} there cannot be stopped; mend that, or "
            "go on with --without " + " --without ".join(missed)
        )
    # It would bring the lost consensus to those who make a new one; of a half-done rebuild it is a member already
    if alive := [n for n in seen.silent if n in seen.consensus.answering and not seen.half_done]:
        return (
            f"Raft on {', '.join(alive)} still answers, and its Docker does not, so it cannot be stopped; mend "
            "Docker there, or switch the host off"
        )
    return None


def _alive(seen: Before) -> str | None:
    """Return which host that cannot be stopped is alive, by its proxies or its replicas; or None.

    It may lead with others that cannot be seen from here: with a consensus built anew there would be two leaders.
    """
    for name in seen.at_large:
        if proxies := [proxy for proxy, up in seen.has_up.items() if name in up]:
            return (
                f"HAProxy on {' and '.join(proxies)} has {name} up, so it is alive and may lead, out of sight from "
                "here; mend the way to it, or switch the host off"
            )
    stopped = [name for name in seen.states if name not in seen.bare]
    followers = [name for name, sender in seen.streams_from.items() if sender not in stopped]
    if seen.at_large and followers:
        return (
            f"{', '.join(followers)} streams from a leader that cannot be seen from here; mend the way to it, or "
            f"switch its host off: within a minute ({RECEIVER_TIMEOUT}) nobody streams from it any more"
        )
    return None


def _strangers(seen: Before) -> str | None:
    found = {name: p.identifier for name, p in seen.positions.items() if isinstance(p, Position)}
    if not found:
        return "no node's data can be read: " + "; ".join(f"{n}: {p}" for n, p in seen.positions.items())
    every = {*found.values(), *(identifier for identifier in seen.recorded.values() if identifier)}
    if len(every) > 1:
        return f"the nodes hold data of different systems: {', '.join(f'{n}: {i}' for n, i in found.items())}"
    return None
