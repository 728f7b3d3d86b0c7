"""All that was seen at one moment, and the questions that checks ask it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kbpg.engine.compare import Comparison, compare
from kbpg.facts import CountedFacts, Fact, Facts, NotKnown
from kbpg.haproxy import Server
from kbpg.health.asking import Items, Questions, placed, wanted
from kbpg.health.looking import DEADLINE, Pass, look
from kbpg.health.questions import (
    LogsFact,
    Pooler,
)
from kbpg.hosts.by_hand import ssh_command
from kbpg.layout import layout
from kbpg.model import CLUSTER, CONTROLLER, Impact, Placed, Resource, Step
from kbpg.options import DEFAULT_INVENTORY
from kbpg.patroni import Member, NodeStatus
from kbpg.raft import RaftStatus
from kbpg.resources.docker import DB_CONTAINERS, PROXY_CONTAINERS
from kbpg.resources.hardware import HardwareFact
from kbpg.resources.preflight.clock import ClockFact

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.errors import HostError
    from kbpg.hosts.port import Reader
    from kbpg.inventory import Host
    from kbpg.resources.docker import ContainersFact

__all__ = ["FRESH", "Questions", "Snapshot", "placed", "take", "wanted"]

FRESH = 20.0
"""Seconds after a container's start in which PostgreSQL recovers and Raft's members find each other."""


class Snapshot:
    """The answers of one pass. Reading from it never asks a host anything.

    `unreachable` are the hosts without a connection, with the reason; `taken` is when, in seconds since 1970.
    `placed` is every resource of every step with its place, as `asking.placed` returns it.
    """

    def __init__(
        self,
        context: Context,
        facts: Facts,
        items: Items,
        unreachable: Mapping[str, HostError] | None = None,
        taken: float | None = None,
    ) -> None:
        self.context, self.placed, self.taken = context, items, taken
        self.facts = CountedFacts(facts)
        self.inventory = context.inventory
        self.unreachable: Mapping[str, HostError] = unreachable or {}
        self.ask = Questions.of(context)
        self.paths = layout(context)
        self.unread: set[str] = set()
        """Hosts of which a check wanted a log that was not asked for."""
        self._comparisons: dict[tuple[int, str, str], Comparison | None] = {}

    # --- hosts ---------------------------------------------------------------------------------------

    @property
    def db(self) -> list[str]:
        """Return the db hosts that are connected."""
        return [name for name in self.context.db_names if name not in self.unreachable]

    @property
    def proxies(self) -> list[str]:
        """Return the proxies that are connected."""
        return [name for name in self.context.proxy_names if name not in self.unreachable]

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts that are connected."""
        return [host for host in self.inventory.hosts if host.name not in self.unreachable]

    @cached_property
    def by_address(self) -> dict[str, str]:
        """Return the names of the inventory's hosts by their address."""
        return {str(host.address): host.name for host in self.inventory.hosts}

    # --- commands ------------------------------------------------------------------------------------

    @property
    def kbpg(self) -> str:
        """Return how kbpg is called for this inventory."""
        path = self.inventory.path
        return "kbpg" if path == DEFAULT_INVENTORY else shlex.join(("kbpg", "-i", str(path)))

    def on_host(self, name: str, command: str, *words: str) -> str:
        """Return a command line, for the controller, that runs `command` as root on the host.

        `words` are more arguments of it, which may be anything: they are quoted.
        """
        command = f"{command} {shlex.join(words)}" if words else command
        host = self.inventory.host(name)
        return ssh_command(name, str(host.address), self.inventory.ssh_for(host), command)

    # --- what was seen -------------------------------------------------------------------------------

    def why_not(self, fact: Fact[Any], host: str) -> str:
        """Return why a fact is not known on a host; empty when it is known."""
        try:
            self.facts.get(fact, host)
        except NotKnown as reason:
            return reason.reason
        return ""

    def silent(self, host: str) -> str:
        """Return why a connected host answers nothing at all; empty where it answers something."""
        return self.why_not(HardwareFact(), host) if self.containers(host) is None else ""

    def node(self, host: str) -> NodeStatus | None:
        """Return what Patroni on the host says of itself."""
        return self.facts.known(self.ask.node, host)

    def members(self, host: str) -> tuple[Member, ...] | None:
        """Return the cluster as the host's Patroni remembers it."""
        return self.facts.known(self.ask.cluster, host)

    def raft(self, host: str) -> RaftStatus | None:
        """Return what the host's member of Raft says."""
        return self.facts.known(self.ask.raft, host)

    def servers(self, proxy: str) -> tuple[Server, ...] | None:
        """Return HAProxy's servers on this proxy."""
        return self.facts.known(self.ask.haproxy, proxy)

    def pooler(self, proxy: str) -> Pooler | None:
        """Return PgBouncer's console on this proxy."""
        return self.facts.known(self.ask.pooler, proxy)

    def containers_fact(self, host: str) -> ContainersFact:
        """Return the question for kbpg's own containers on the host."""
        return DB_CONTAINERS if host in self.context.db_names else PROXY_CONTAINERS

    def containers(self, host: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return kbpg's containers on the host by name, as `docker inspect` shows them."""
        return self.facts.known(self.containers_fact(host), host)

    def state(self, host: str, container: str) -> str | None:
        """Return the container's state ("running"), "missing" without one, None where Docker does not say."""
        found = self.containers(host)
        if found is None:
            return None
        return str(found[container]["State"]["Status"]) if container in found else "missing"

    def fresh(self, host: str, container: str) -> bool:
        """Return whether a container was started less than `FRESH` seconds ago: it may be on its way."""
        found = (self.containers(host) or {}).get(container)
        if found is None or self.taken is None:
            return False
        clock = self.facts.known(ClockFact(), host)
        started = datetime.fromisoformat(str(found["State"]["StartedAt"])[:19]).replace(tzinfo=UTC)
        now = self.taken + (clock.seconds if clock else 0.0)
        return now - started.timestamp() < FRESH

    def log(self, host: str, container: str) -> tuple[str, ...]:
        """Return the last lines of a container's log; empty where there is none.

        So it is where it was not read: then the host is in `unread`.
        """
        fact = self._logs_fact(host)
        if not self.facts.asked(fact, host):
            self.unread.add(host)
            return ()
        return (self.facts.known(fact, host) or {}).get(container, ())

    def with_logs(self, readers: Mapping[str, Reader], deadline: float = DEADLINE) -> Snapshot:
        """Return it with the logs that are `unread`, asked for now where Docker has answered before.

        Takes `deadline` seconds more at most. Where there are none, it is this very snapshot.
        """
        wanted = {name: [self._logs_fact(name)] for name in self.unread if self.containers(name) is not None}
        if not wanted:
            return self
        facts = self.facts.joined(look(readers, wanted, deadline=deadline))
        return Snapshot(self.context, facts, self.placed, self.unreachable, self.taken)

    def _logs_fact(self, host: str) -> LogsFact:
        return LogsFact(self.containers_fact(host).names)

    @property
    def leaders(self) -> list[str]:
        """Return the hosts that say of themselves that they lead."""
        return [name for name in self.db if (node := self.node(name)) and node.leads]

    @property
    def leader(self) -> str | None:
        """Return the one host that says that it leads; None without one, or with more."""
        return self.leaders[0] if len(self.leaders) == 1 else None

    @property
    def system_identifier(self) -> str:
        """Return that of the cluster's PostgreSQL, by its leader's word; "" without one leader that tells it."""
        node = self.node(self.leader) if self.leader else None
        return node.system_identifier if node else ""

    def differing(self, *kinds: type[Resource]) -> Iterable[tuple[Step, Comparison]]:
        """Yield the resources of these kinds whose state is known and not as it must be."""
        for step, item in self.placed:
            if not kinds or isinstance(item.resource, kinds):
                found = self._compared(step, item)
                if found and found.change and not found.unknown:
                    yield step, found

    def impact(self, step: int, place: str) -> Impact:
        """Return the worst that applying the step there would do to clients, by all that it would change."""
        everywhere = (CLUSTER, CONTROLLER)
        found = [
            each.impact
            for one, each in self.differing()
            if one.number == step and (place in everywhere or each.placed.place in (place, *everywhere))
        ]
        return max(found, default=Impact.NONE)

    def _compared(self, step: Step, item: Placed) -> Comparison | None:
        if item.place in self.unreachable:
            return None
        key = (step.number, item.place, item.resource.id)
        if key not in self._comparisons:
            try:
                self._comparisons[key] = compare(item, self.facts.at(item.place))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                # Answers that no resource was written for: `check-failed` of other checks tells of them
                self._comparisons[key] = None
        found = self._comparisons[key]
        self.facts.missed += found is None or found.unknown
        return found

    def settings(self, host: str) -> dict[str, tuple[str, str, bool]]:
        """Return PostgreSQL's settings by name: value, unit, whether a restart is pending."""
        rows = self.facts.known(self.ask.views.settings, host) or ()
        return {str(name): (str(value), str(unit or ""), bool(wait)) for name, value, unit, wait in rows}


def take(
    context: Context,
    hosts: Mapping[str, Reader],
    unreachable: Mapping[str, HostError] | None = None,
    items: Items | None = None,
    begun: Pass | None = None,
) -> Snapshot:
    """Ask every host everything in one pass of at most `looking.DEADLINE` seconds, and return what was seen.

    `items` are what `placed` has found for this context, where that is known; `begun` is what was asked already.
    """
    items = placed(context) if items is None else items
    facts = look(hosts, wanted(context, items), begun=begun)
    return Snapshot(context, facts, items, unreachable, time.time())
