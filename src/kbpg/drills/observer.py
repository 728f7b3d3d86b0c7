"""What the cluster says of itself while it is broken: every node asked several times a second, over SSH."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kbpg import rest
from kbpg.context import Context
from kbpg.drills.links import Links
from kbpg.errors import HostError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Writer
from kbpg.patroni import ClusterFact, NodeFact, NodeStatus

INTERVAL = 0.3
"""Seconds between two looks at a node."""
TIMEOUT = 1.0
"""Seconds for a node to answer: one that is frozen or cut off does not."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one node said at a moment (the drill's seconds): itself, and who it thinks leads; None for no answer."""

    at: float
    host: str
    node: NodeStatus | None
    leader: str | None = None

    @property
    def leads(self) -> bool:
        """Return whether it said that it leads."""
        return self.node is not None and self.node.leads


class Observer:
    """Watches as a context; `looks` grows meanwhile."""

    def __init__(self, context: Context, links: Links, clock: Callable[[], float]) -> None:
        self._context, self._links, self._clock = context, links, clock
        self.looks: list[Look] = []
        self._latest: dict[str, Look] = {}
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(name,), name=f"observer {name}", daemon=True)
            for name in context.db_names
        ]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(timeout=10.0)

    @property
    def leader(self) -> str:
        """Return the node that said last that it leads, "" where none or several do."""
        leaders = [look.host for look in self._latest.values() if look.leads]
        return leaders[0] if len(leaders) == 1 else ""

    def lacking(self) -> str:
        """Return what is missing for one leader with every other node streaming from it, "" where nothing is."""
        names = self._context.db_names
        silent = [name for name in names if (look := self._latest.get(name)) is None or look.node is None]
        if silent:
            return f"Patroni on {', '.join(silent)} does not answer"
        leader = self.leader
        if not leader:
            return "there is no leader, or more than one"
        node = self._latest[leader].node
        replicas = {each.name: each for each in node.replicas} if node else {}
        missing = [
            n for n in names if n != leader and (n not in replicas or replicas[n].state != "streaming")
        ]
        if missing:
            return f"{', '.join(missing)} does not stream from {leader}"
        synchronous = self._context.inventory.cluster.synchronous != "off"
        if synchronous and not any(each.sync_state in ("sync", "quorum") for each in replicas.values()):
            return "no replica is synchronous"
        return ""

    def _watch(self, name: str) -> None:
        while not self._ends.wait(INTERVAL):
            asked = self._clock()
            try:
                look = self._links.ask(name, partial(self._look, asked))
            except HostError:
                look = Look(asked, name, None)
            self._latest[name] = look
            self.looks.append(look)

    def _look(self, asked: float, host: Writer) -> Look:
        port = self._context.inventory.ports.patroni
        node, cluster = NodeFact(port), ClusterFact(port)
        try:
            answer = rest.request(host, "GET", port, node.path, timeout=TIMEOUT)
            status = node.parse(answer.status, answer.body)
            answer = rest.request(host, "GET", port, cluster.path, timeout=TIMEOUT)
            members = cluster.parse(answer.status, answer.body)
        except (OSError, http.client.HTTPException, NotKnown):
            return Look(asked, host.name, None)
        leader = next((member.name for member in members if member.role in ("leader", "standby_leader")), "")
        return Look(asked, host.name, status, leader)
