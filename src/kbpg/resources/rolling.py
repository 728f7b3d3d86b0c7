"""The order in which db hosts are changed, and what must hold before and after each."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from kbpg.context import Context
from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import NotConverged
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.model import Impact
from kbpg.operations.candidates import SYNCHRONOUS
from kbpg.operations.clients_wait import LENIENT, Manner
from kbpg.operations.patience import ClonePatience
from kbpg.operations.postgresql_restart import RETURN_DEADLINE
from kbpg.operations.switchover import switchover
from kbpg.patroni import NodeFact, Replica, leader_of, streaming_of
from kbpg.raft_admin import member_fact
from kbpg.resources.bounds import LeaderSettings
from kbpg.resources.probe import Probe

JOIN_DEADLINE = 180.0
"""Seconds for nodes that were just started to stream, besides what their clones take, before one that serves is
restarted."""
LISTEN_DEADLINE = 10.0
"""Seconds for a container that was just started to listen for Raft; measured: under 1 s."""
COUNTED_DEADLINE = 20.0
"""Seconds for a replica that streams to be synchronous again: a few of Patroni's rounds."""
NOT_COUNTED = "synchronous yet"
"""How the problem ends that passes by itself."""


class OneNodeAtATime:
    """Changes to db hosts, one after another: first what restarts nothing, then replicas, the leader last.

    Before a node that serves is restarted every other one must be well: all replicas stream, and every
    member of Raft sees a quorum. The leader is restarted only after a switchover. Of replicas those come first that
    do not stream, such as one whose address has changed: nobody else could be restarted before. Nodes that are
    down are started in the order of their Raft addresses, each when the one before listens: a member dials those
    whose address sorts before its own, as text, once, and again only after a second (pysyncobj/transport.py,
    connectionRetryTime; ADR 0022).
    """

    def __init__(self, context: Context, manner: Manner = LENIENT) -> None:
        """Take in what `manner` clients wait for a switchover."""
        ports = context.inventory.ports
        self._context, self._manner = context, manner
        self._node = NodeFact(ports.patroni)
        self._raft = member_fact(context)
        self._members = {host.name: f"{host.address}:{ports.raft}" for host in context.inventory.db}
        self._joining = False
        self.problems: dict[str, str] = {}
        """What is known, after switchovers, of clients that may wait longer, by proxy."""
        self.facts: tuple[Fact[object], ...] = (self._node, self._raft)

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return the places one by one."""

        def order(place: str) -> tuple[bool, bool, bool, str]:
            restarts = impacts[place] >= Impact.RESTART
            streams = restarts and self._streams(facts, place)
            return restarts, self._leads(facts, place), streams, self._members[place]

        started = [p for p, impact in impacts.items() if impact < Impact.RESTART]
        self._joining = any(facts.known(self._node, place) is None for place in started)
        return [[place] for place in sorted(impacts, key=order)]

    def _streams(self, facts: Facts, host: str) -> bool:
        status = facts.known(self._node, host)
        return bool(status and status.receiving)

    def _leads(self, facts: Facts, host: str) -> bool:
        status = facts.known(self._node, host)
        return bool(status and status.leads)

    def before(self, site: Site, impact: Impact) -> None:
        """Before a restart: all others are well, and somebody else leads. Raises `NotConverged`."""
        if impact < Impact.RESTART:
            return
        began = time.monotonic()
        joining = ClonePatience(site, JOIN_DEADLINE) if self._joining else None
        while problems := self._problems(site.look(self._everywhere()), without=site.place):
            site.require_connected(self._context.db_names)
            passing = COUNTED_DEADLINE if all(text.endswith(NOT_COUNTED) for text in problems) else 0.0
            if joining.over() if joining else time.monotonic() - began >= passing:
                raise NotConverged(
                    f"not restarted: {'; '.join(problems)}",
                    hint="mend the other nodes first: kbpg diagnose",
                )
            time.sleep(INTERVAL)
        self._joining = False
        if self._leads(site.facts, site.place):
            self._give_way(site)

    def _give_way(self, site: Site) -> None:
        """Let the leader be changed: somebody else leads from now on."""
        problems = switchover(site, leaving=site.place, manner=self._manner).problems
        for name, problem in problems.items():
            site.say(f"{name}: {problem}")
        self.problems |= problems

    def after(self, site: Site, impact: Impact) -> None:
        """After a restart: the cluster is whole again. After a start: the node listens for Raft."""
        if impact < Impact.RESTART:
            self._listens(site)
            return
        self._whole(site)

    def _whole(self, site: Site) -> None:
        """Wait until the cluster is whole. Raises `NotConverged`."""
        problems: list[str] = []
        for _ in site.looks(RETURN_DEADLINE, each=self._context.db_names):
            problems = self._problems(site.look(self._everywhere()), without=None)
            if not problems:
                return
        raise NotConverged(f"not whole again within {RETURN_DEADLINE:g} s: {'; '.join(problems)}")

    def _listens(self, site: Site) -> None:
        """Wait for the Raft port; a node that does not come is for the probe that follows, with its log."""
        ends = time.monotonic() + LISTEN_DEADLINE
        while time.monotonic() < ends:
            with suppress(ConnectionError, TimeoutError):
                site.host.dial(self._context.inventory.ports.raft).close()
                return
            time.sleep(0.05)

    def _everywhere(self) -> dict[str, Sequence[Fact[object]]]:
        return dict.fromkeys(self._context.db_names, self.facts)

    def _problems(self, facts: Facts, without: str | None) -> list[str]:
        """Return why the cluster cannot miss `without` now (None: why it is not whole)."""
        names = [name for name in self._context.db_names if name != without]
        try:
            leader = leader_of(facts, self._node, self._context.db_names)
            streaming = streaming_of(facts, self._node, leader)
        except NotKnown as reason:
            return [reason.reason]
        problems = [f"{n} does not stream" for n in names if n != leader and n not in streaming]
        problems += self._unsafe(streaming, without)
        return problems + [text for name in names for text in self._raft_problems(facts, name, without)]

    def _unsafe(self, streaming: Mapping[str, Replica], without: str | None) -> list[str]:
        """Return which replicas commits do not wait for yet, though they should before another one goes.

        A replica that comes back streams some seconds before Patroni counts it (`Ha._process_quorum_replication`); if
        the other one went meanwhile, commits would wait for nobody, or for the one that is gone.
        """
        if self._context.inventory.cluster.synchronous == "off":
            return []
        counted = {name for name, each in streaming.items() if each.sync_state in SYNCHRONOUS}
        if any(each.sync_state == "quorum" for each in streaming.values()):
            return [f"{n} is not {NOT_COUNTED}" for n in streaming if n not in {*counted, without}]
        return [] if counted else [f"no replica is {NOT_COUNTED}"]

    def _raft_problems(self, facts: Facts, name: str, without: str | None) -> Iterable[str]:
        """Return what this member lacks: a quorum, or a partner other than the one that may go."""
        try:
            status = facts.get(self._raft, name)
        except NotKnown as reason:
            return [f"{name}: {reason.reason}"]
        if not status.has_quorum:
            return [f"{name} sees no Raft quorum"]
        spared = self._members.get(without or "")
        away = [partner for partner in status.away if partner != spared]
        return [f"{name} does not reach {partner}{self._ghost(partner)}" for partner in away]

    def _ghost(self, partner: str) -> str:
        """Return what to do about a member of Raft that is no host any more, such as a former address of one."""
        if partner in self._members.values():
            return ""
        return f", which is no host of the inventory (kbpg raft remove-member {shlex.quote(partner)})"


class OneProxyAtATime:
    """Proxies whose container is replaced come one after another, each when the one before serves again.

    An application that knows both of them always has one. What restarts nothing is done on all side by side.
    """

    facts: tuple[Fact[object], ...] = ()

    def __init__(self, serves: Callable[[str], Probe]) -> None:
        """Take the wait for a proxy, by its name, to serve."""
        self._serves = serves

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return the proxies that only reload together, and each of the others alone."""
        together = [place for place, impact in impacts.items() if impact < Impact.RESTART]
        alone = [[place] for place in impacts if place not in together]
        return [together, *alone] if together else alone

    def before(self, site: Site, impact: Impact) -> None:
        """Nothing has to hold: a proxy that does not serve is what is mended here."""

    def after(self, site: Site, impact: Impact) -> None:
        """Wait until the proxy serves. Raises `NotConverged`."""
        if impact >= Impact.RESTART:
            self._serves(site.place).until(site)


class RestartOrder(OneNodeAtATime):
    """Restarts of PostgreSQL for its parameters: as above, but bounds that shrink begin with the leader, in place.

    A replica keeps what its leader had until the leader itself, as leader, was restarted (see `bounds`), so a
    switchover would change nothing, ever. Where other bounds grow with the same change, replicas are restarted
    twice: before the leader to have enough for it, after it to have no more.
    """

    def __init__(self, context: Context, manner: Manner = LENIENT) -> None:
        super().__init__(context, manner)
        self._leader = LeaderSettings(context)
        self.facts = (*self.facts, *self._leader.facts)

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return the places one by one; a place may come twice."""
        order, shift = super().waves(impacts, facts), self._leader.shift(facts)
        leader = [wave for wave in order if self._leads(facts, wave[0])]
        if not shift.shrinks or not leader:
            return order
        replicas = [wave for wave in order if wave not in leader]
        return [*(replicas if shift.grows else []), *leader, *replicas]

    def _give_way(self, site: Site) -> None:
        """Prepare a restart in place, or hand over and wait until the old leader streams: demotion takes a while."""
        shrinks = sorted(self._leader.shift(site.facts).shrinks)
        if shrinks:
            site.say(f"{site.place} leads and is restarted in place: {', '.join(shrinks)} shrinks")
            return
        super()._give_way(site)
        self._whole(site)
