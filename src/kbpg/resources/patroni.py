"""Patroni's dynamic configuration, pending restarts, and the order in which nodes may be taken away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kbpg import dynamic, rest, tuning
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.hosts.port import Writer
from kbpg.model import Change, Impact, Resource, State, Value, Want
from kbpg.operations.switchover import switchover
from kbpg.patroni import ConfigFact, NodeFact, leader_of, streaming_of
from kbpg.raft import RaftFact
from kbpg.resources.hardware import HardwareFact, smallest

REST_USER = "kbpg"
"""Who asks Patroni's REST API for changes; the name is in templates/patroni/secrets.yml.j2 by this constant."""
RETURN_DEADLINE = 120.0
"""Seconds for a node to stream again after a restart: crash recovery of a busy node takes a while."""
LISTEN_DEADLINE = 10.0
"""Seconds for a container that was just started to listen for Raft; measured: under 1 s."""
INTERVAL = 0.25
"""Seconds between two looks."""


def wanted_configuration(context: Context, facts: Facts) -> dict[str, Any]:
    """Return Patroni's dynamic configuration for the smallest db host. Raises `NotKnown`."""
    inventory = context.inventory
    hardware = smallest(facts, context.db_names)
    memory = min(hardware.memory, inventory.postgresql.memory or hardware.memory)
    return dynamic.configuration(inventory, tuning.parameters(memory, hardware.cores, inventory))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> State:
    """Return a nested mapping as `a.b.c` → value; lists as JSON text."""
    flat: dict[str, Value] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str | int | bool) else json.dumps(value)
    return flat


def patch(have: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """Return what turns `have` into `want` by Patroni's PATCH: only differences, None removes a key."""
    found: dict[str, Any] = {key: None for key in have if key not in want}
    for key, value in want.items():
        if isinstance(value, Mapping) and isinstance(have.get(key), Mapping):
            if inner := patch(have[key], value):
                found[key] = inner
        elif key not in have or have[key] != value:
            found[key] = value
    return found


class DynamicConfig(Resource):
    """Patroni's configuration in the consensus store is what the inventory says, all of it and nothing else."""

    id = "patroni:config"

    def __init__(self, context: Context) -> None:
        ports = context.inventory.ports
        self._context = context
        self._node, self._config = NodeFact(ports.patroni), ConfigFact(ports.patroni)
        self.facts = (self._node, self._config, HardwareFact())

    def want(self, facts: Facts) -> Want:
        """Return the wanted configuration, flat."""
        return flatten(wanted_configuration(self._context, facts))

    def have(self, facts: Facts) -> Want:
        """Return the leader's view of it."""
        return flatten(facts.get(self._config, leader_of(facts, self._node, self._context.db_names)))

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return RELOAD; a parameter that needs a restart shows as pending afterwards and has its own step."""
        return Impact.RELOAD

    def fix(self, site: Site, change: Change) -> None:
        """PATCH the difference, then wait until every node has taken it over."""
        names, inventory = self._context.db_names, self._context.inventory
        leader = leader_of(site.facts, self._node, names)
        body = patch(site.facts.get(self._config, leader), wanted_configuration(self._context, site.facts))
        change_by_rest(self._context, site.hosts[leader], "PATCH", "/config", body)
        # Patroni applies it in its next loop, reloads PostgreSQL, waits 1 s and only then looks for parameters
        # that need a restart (patroni/postgresql/__init__.py, reload_config)
        time.sleep(inventory.timers.loop_wait + 2)


class PendingRestart(Resource):
    """No parameter of this node waits for a restart of PostgreSQL."""

    id = "patroni:restart"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._node = NodeFact(context.inventory.ports.patroni)
        self.facts = (self._node,)

    def want(self, facts: Facts) -> Want:
        """Return that nothing is pending."""
        return {"pending restart": False}

    def have(self, facts: Facts) -> Want:
        """Return what the node says."""
        return {"pending restart": facts.get(self._node).pending_restart}

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return SWITCHOVER on the leader, RESTART elsewhere."""
        return node_impact(facts, self._node)

    def fix(self, site: Site, change: Change) -> None:
        """Restart PostgreSQL through Patroni."""
        change_by_rest(self._context, site.host, "POST", "/restart", {}, timeout=RETURN_DEADLINE)


def node_impact(facts: Facts, node: NodeFact) -> Impact:
    """Return what a restart of this node means to clients."""
    status = facts.known(node)
    return Impact.SWITCHOVER if status and status.leads else Impact.RESTART


def change_by_rest(
    context: Context, host: Writer, method: str, path: str, body: Any, timeout: float = 30.0
) -> None:
    """Ask Patroni on `host` for a change. Raises `HostError` with its answer when it refuses."""
    login = (REST_USER, context.credentials.rest_password)
    port = context.inventory.ports.patroni
    try:
        answer = rest.request(host, method, port, path, body, login=login, timeout=timeout)
    except OSError as error:
        raise HostError(host.name, f"Patroni did not answer {method} {path}: {error}") from error
    if answer.status >= 300:
        raise HostError(host.name, f"Patroni refused {method} {path} with {answer.status}: {answer.body}")


class OneNodeAtATime:
    """Changes to db hosts, one after another: first what restarts nothing, then standbys, the leader last.

    Before a node that serves is restarted every other one must be well: all standbys stream, and every
    member of Raft sees a quorum. The leader is restarted only after a switchover. Nodes that are down are
    started in the order of their addresses, each when the one before listens for Raft: a member dials those
    with a smaller address, once, and again only after 5 s (pysyncobj/transport.py, connectionRetryTime).
    """

    def __init__(self, context: Context) -> None:
        ports, credentials = context.inventory.ports, context.credentials
        self._context = context
        self._node = NodeFact(ports.patroni)
        self._raft = RaftFact(ports.raft, credentials.raft_password)
        self._addresses = {host.name: host.address for host in context.inventory.db}
        self.facts: tuple[Fact[object], ...] = (self._node, self._raft)

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return the places one by one."""

        def order(place: str) -> tuple[bool, bool, str]:
            return impacts[place] >= Impact.RESTART, self._leads(facts, place), self._addresses[place]

        return [[place] for place in sorted(impacts, key=order)]

    def _leads(self, facts: Facts, host: str) -> bool:
        status = facts.known(self._node, host)
        return bool(status and status.leads)

    def before(self, site: Site, impact: Impact) -> None:
        """Before a restart: all others are well, and somebody else leads. Raises `NotConverged`."""
        if impact < Impact.RESTART:
            return
        facts = site.look(self._everywhere())
        problems = self._problems(facts, without=site.place)
        if problems:
            raise NotConverged(
                f"not restarted: {'; '.join(problems)}",
                hint="mend the other nodes first: kbpg diagnose",
            )
        if self._leads(facts, site.place):
            switchover(site, leaving=site.place)

    def after(self, site: Site, impact: Impact) -> None:
        """After a restart: the cluster is whole again. After a start: the node listens for Raft."""
        if impact < Impact.RESTART:
            self._listens(site)
            return
        ends = time.monotonic() + RETURN_DEADLINE
        while problems := self._problems(site.look(self._everywhere()), without=None):
            if time.monotonic() > ends:
                raise NotConverged(f"not whole again within {RETURN_DEADLINE:g} s: {'; '.join(problems)}")
            time.sleep(INTERVAL)

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
        return problems + [problem for name in names for problem in self._raft_problem(facts, name)]

    def _raft_problem(self, facts: Facts, name: str) -> Iterable[str]:
        try:
            status = facts.get(self._raft, name)
        except NotKnown as reason:
            return [f"{name}: {reason.reason}"]
        return [] if status.has_quorum else [f"{name} sees no Raft quorum"]
