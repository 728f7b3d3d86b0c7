"""A consensus that lost its quorum for good is built anew from the most advanced node; data is never touched.

Everything stops, the Raft directories are moved aside, the node whose data reaches farthest starts without
partners and leads, and the others join it one by one. A note on every host says that this is going on: a run that
is killed is taken up by the next one, which looks at what there is and not at what was done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import yaml

from kbpg.context import Context
from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import HostError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.haproxy import HaproxyFact
from kbpg.layout import OWNER, PATRONI, PATRONI_STOP, layout
from kbpg.operations.patroni_change import change_by_rest
from kbpg.operations.position import NO_DATA, Position, most_advanced, read_position, unread
from kbpg.operations.raft_log import move_aside, now
from kbpg.operations.raft_lost import UNKNOWN, Before
from kbpg.operations.raft_members import look
from kbpg.operations.raft_note import rebuild_note, started_in
from kbpg.operations.reinit import CLONE_START
from kbpg.patroni import NodeFact, NodeStatus, streaming_of
from kbpg.raft_admin import addresses, tell
from kbpg.resources.container import log_lines
from kbpg.resources.docker import DB_CONTAINERS
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact
from kbpg.resources.identity import read_record, record_path
from kbpg.resources.sql_facts import RowsFact
from kbpg.steps.patroni_node import SECRETS, secrets_of, settings_of
from kbpg.tls import OLD_SUFFIX

LEAD_DEADLINE = 120.0
"""Seconds for the node alone to lead: PostgreSQL replays what it has first; measured: 8 s."""
ASK_AGAIN = 5.0
"""Seconds for a partner to become a member by itself; after that it is added."""
WATCHED = 6.0
"""Seconds without a quorum before it counts as lost: an election takes under 2 s."""

_SENDER = "select coalesce(sender_host, '') from pg_stat_wal_receiver where status = 'streaming'"

Result = TypeVar("Result")


def alone(text: str) -> str:
    """Return Patroni's configuration without partners, from its whole one."""
    settings = yaml.safe_load(text)
    settings["raft"]["partner_addrs"] = []
    return "# Written by kbpg raft rebuild, for the time in which this node is alone.\n" + yaml.safe_dump(
        settings
    )


def whole(context: Context, host: str) -> str:
    """Return Patroni's whole configuration, as step 02 writes it."""
    return settings_of(context, context.inventory.host(host))


def _state(containers: Mapping[str, Mapping[str, Any]] | None) -> str:
    """Return the state of Patroni's container: "missing" where there is none, `UNKNOWN` where Docker is silent."""
    if containers is None:
        return UNKNOWN
    found = containers.get(PATRONI)
    return str(found["State"]["Status"]) if found else "missing"


class Rebuild:
    """The rebuild of one cluster, on the hosts that are connected; `say` gets a place and what goes on there."""

    def __init__(self, site: Site, without: tuple[str, ...] = ()) -> None:
        self.site, self._context, self._without = site, site.context, without
        self.names = [name for name in site.context.db_names if name in site.hosts]
        paths = layout(site.context)
        self._raft, self._config = paths.raft, f"{paths.patroni}/patroni.yml"
        self._secrets = f"{paths.patroni}/{SECRETS}"
        self._note = rebuild_note(site.context).path
        self._record = FileFact(record_path(paths.base))
        self._data = DataFact(paths.data)
        self._node = NodeFact(site.context.inventory.ports.patroni)
        self._haproxy = HaproxyFact(site.context.inventory.ports.stats)
        self._sender = RowsFact(site.context.superuser(), "from whom it streams", _SENDER, live=True)

    # --- looking -------------------------------------------------------------------------------------

    def look(self) -> Before:
        """Return what is so now. Changes nothing; waits some seconds for a quorum that is about to form."""
        site, ends = self.site, time.monotonic() + WATCHED
        consensus = look(site)
        while not consensus.with_quorum and time.monotonic() < ends:
            time.sleep(INTERVAL)
            consensus = look(site)
        note = rebuild_note(site.context)
        facts = site.look(dict.fromkeys(self.names, (DB_CONTAINERS, note, self._record)))
        states, recorded, started = {}, {}, ""
        for name in self.names:
            states[name] = _state(facts.known(DB_CONTAINERS, name))
            record, left = facts.known(self._record, name), facts.known(note, name)
            recorded[name] = str(read_record(record.text if record else None).get("system_identifier") or "")
            started = started or started_in(left)
        lost = tuple(name for name in self._context.db_names if name not in self.names)
        nodes = self._nodes()
        leaders = tuple(name for name, node in nodes.items() if node.leads)
        return Before(
            consensus,
            leaders,
            self._positions(states),
            states,
            recorded,
            started,
            lost,
            self._without,
            self._has_up(),
            self._streams_from(nodes),
        )

    def _has_up(self) -> dict[str, frozenset[str]]:
        """Return which db hosts HAProxy has up, for writes or for reads, by proxy that tells it."""
        proxies = [name for name in self._context.proxy_names if name in self.site.hosts]
        facts = self.site.look(dict.fromkeys(proxies, (self._haproxy,)))
        said = {name: facts.known(self._haproxy, name) for name in proxies}
        return {
            name: frozenset(server.name.removesuffix(OLD_SUFFIX) for server in servers if server.up)
            for name, servers in said.items()
            if servers is not None
        }

    def _streams_from(self, nodes: Mapping[str, NodeStatus]) -> dict[str, str]:
        """Return from whom each connected node receives WAL; PostgreSQL says it, Patroni where it does not."""
        facts = self.site.look(dict.fromkeys(self.names, (self._sender,)))
        names = {str(host.address): host.name for host in self._context.inventory.db}
        found = {}
        for name in self.names:
            rows = facts.known(self._sender, name)
            if rows:
                found[name] = names.get(str(rows[0][0]), "")
            elif rows is None and name in nodes and nodes[name].receiving:
                found[name] = ""
        return found

    def _nodes(self) -> dict[str, NodeStatus]:
        facts = self.site.look(dict.fromkeys(self.names, (self._node,)))
        return {name: found for name in self.names if (found := facts.known(self._node, name))}

    def _positions(self, states: Mapping[str, str]) -> dict[str, Position | str]:
        """Return how far each node's data reaches, or why that is not known; Docker reads it, where it answers."""
        facts = self.site.look(dict.fromkeys(self.names, (self._data,)))

        def reach(name: str) -> Position | str:
            found = facts.known(self._data, name)
            if found is not None and not found.present:
                return NO_DATA
            if states.get(name) == UNKNOWN:
                return "the position of its data cannot be read: Docker does not answer"
            return read_position(self._context, self.site.hosts[name])

        return self._each(reach)

    def _each(self, work: Callable[[str], Result]) -> dict[str, Result]:
        with ThreadPoolExecutor(max(1, len(self.names))) as pool:
            return dict(zip(self.names, pool.map(work, self.names), strict=True))

    # --- doing ---------------------------------------------------------------------------------------

    def run(self, before: Before) -> str:
        """Rebuild, or finish what an earlier run began, and return the host that leads.

        Raises `Refused` where what holds after the stop does not allow it, `NotConverged`, `HostError`.
        """
        self.names = [name for name in self.names if name not in before.bare]
        if before.half_done:
            leader, started = before.leaders[0], before.started
        else:
            started = now()
            leader = self._restart(started, before)
        self._restore(leader)
        for name in self.names:
            if name != leader and name not in before.left_out:
                self._join(name, leader, started)
        self._each(lambda name: self.site.hosts[name].run(["rm", "-f", self._note]))
        return leader

    def _restart(self, started: str, before: Before) -> str:
        """Stop everything, choose the most advanced node, start it alone and return it."""
        site = self.site
        self._each(lambda name: self._write_note(name, started))
        site.say(f"stopping Patroni and PostgreSQL on {', '.join(self.names)}")
        self._each(self._stop)
        positions = self._positions({})
        chosen = most_advanced(positions)
        if chosen is None or unread(positions, self._without):
            raise self._given_up(positions, before)
        for name, position in positions.items():
            site.say(f"{name}: {position}{', the most advanced' if name == chosen else ''}")
        self._each(lambda name: move_aside(site.hosts[name], self._raft, started))
        self._configure(chosen, alone(whole(self._context, chosen)))
        site.hosts[chosen].run(["docker", "start", PATRONI])
        site.say(f"{chosen} starts without partners")
        self._await(chosen, "lead", LEAD_DEADLINE, [chosen], lambda: self._leads(chosen))
        return chosen

    def _given_up(self, positions: dict[str, Position | str], before: Before) -> Refused:
        """Start what ran before, forget a rebuild that has not begun, and return what to raise."""
        again = [name for name in self.names if before.states.get(name) in ("running", "restarting")]
        left = [f"{name}: {position}" for name, position in positions.items()]
        for name in self.names:
            try:
                if name in again:
                    self.site.hosts[name].run(["docker", "start", PATRONI])
                if not before.started:
                    self.site.hosts[name].run(["rm", "-f", self._note])
            except HostError as error:
                left.append(f"{name} is not as it was: {error.reason}")
        left.append(f"no Raft directory was moved; started again: {', '.join(again) or 'none'}")
        why = unread(positions, self._without) or "no node's data can be read"
        return Refused(f"not rebuilt: {why}", detail=left)

    def _write_note(self, name: str, started: str) -> None:
        text = json.dumps({"id": started, "doing": "kbpg raft rebuild"}) + "\n"
        self.site.hosts[name].write(self._note, text.encode(), owner="0:0", mode=0o600)

    def _stop(self, name: str) -> None:
        command = ["docker", "stop", "--time", str(PATRONI_STOP), PATRONI]
        self.site.hosts[name].run(command, timeout=PATRONI_STOP + 60)

    def _configure(self, name: str, text: str) -> None:
        context, host = self._context, self.site.hosts[name]
        former = context.former
        if former and former.raft_password != context.credentials.raft_password:
            # A rotation of it was broken off: members would start with different ones, and never meet
            secrets = secrets_of(context, context.inventory.host(name))
            host.write(self._secrets, secrets.encode(), owner=OWNER, mode=0o600)
        host.write(self._config, text.encode(), owner=OWNER, mode=0o600)

    def _leads(self, name: str) -> bool:
        node, status = self._nodes().get(name), look(self.site).answering.get(name)
        return bool(node and node.leads and status and status.has_quorum)

    def _restore(self, leader: str) -> None:
        """Give every node its whole configuration again; the one that leads reads it, and stays a leader."""
        for name in self.names:
            self._configure(name, whole(self._context, name))
        change_by_rest(self._context, self.site.hosts[leader], "POST", "/reload", {})

    def _join(self, name: str, leader: str, started: str) -> None:
        """Start a partner and wait until it is a member of the consensus and streams."""
        site = self.site
        state = _state(site.look({name: (DB_CONTAINERS,)}).known(DB_CONTAINERS, name))
        if state == UNKNOWN:
            raise HostError(name, "Docker does not answer", hint="run the same command again to go on")
        if state == "missing":
            raise HostError(name, f"there is no container {PATRONI}", hint="kbpg step 02 makes it")
        if state != "running":
            move_aside(site.hosts[name], self._raft, started)
            site.hosts[name].run(["docker", "start", PATRONI])
        site.say(f"{name} joins {leader}")
        asked = time.monotonic() + ASK_AGAIN
        self._await(
            name,
            "stream",
            CLONE_START,
            [name, leader],
            lambda: self._joined(name, leader, add=time.monotonic() > asked),
        )

    def _joined(self, name: str, leader: str, *, add: bool) -> bool:
        address, status = addresses(self._context)[name], look(self.site).answering.get(leader)
        if status is None:
            return False
        if address not in status.partners and add:
            self._add(leader, address)
        try:
            facts = self.site.look({leader: (self._node,)})
            streams = name in streaming_of(facts, self._node, leader)
        except NotKnown:
            return False
        return streams and status.partners.get(address, False)

    def _add(self, leader: str, address: str) -> None:
        try:
            tell(self._context, self.site.hosts[leader], ["add", address])
        except NotKnown as silence:
            self.site.say(f"{address} is not added yet: {silence.reason}")

    def _await(
        self, name: str, what: str, seconds: float, needed: Sequence[str], so: Callable[[], bool]
    ) -> None:
        for _ in self.site.looks(seconds, each=needed):
            if so():
                return
        raise NotConverged(
            f"{name} does not {what} within {seconds:g} s",
            detail=log_lines(self.site, PATRONI, name),
            hint="run the same command again to go on",
        )
