"""Patroni's dynamic configuration, pending restarts, and the order in which nodes may be taken away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kbpg import dynamic, tuning
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts
from kbpg.model import Change, Impact, Resource, State, Value, Want
from kbpg.operations.patroni_change import change_by_rest
from kbpg.operations.postgresql_restart import restart_postgresql
from kbpg.patroni import ConfigFact, NodeFact, leader_of
from kbpg.resources.bounds import LeaderSettings, shift
from kbpg.resources.hardware import DiskSizeFact, HardwareFact, smallest, smallest_disk
from kbpg.resources.sql_facts import RowsFact

PARAMETERS = "postgresql.parameters."
"""How the flat names of PostgreSQL's parameters begin."""
RELOAD_MARGIN = 5.0
"""Seconds beyond two of Patroni's loops for a new configuration to be in force on every node."""


def wanted_configuration(
    context: Context, facts: Facts, present: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return Patroni's dynamic configuration for the smallest db host, by `host_facts`. Raises `NotKnown`.

    While a host is away that `--limit` leaves out, nobody knows which is the smallest: what follows from that stays
    as it is in the `present` configuration.
    """
    inventory, away = context.inventory, _not_asked(context, facts) if present else []
    hardware = smallest(facts, [name for name in context.db_names if name not in away])
    memory = min(hardware.memory, inventory.postgresql.memory or hardware.memory)
    disk = smallest_disk(facts, context.db_names, inventory.cluster.base_dir)
    parameters = tuning.parameters(memory, hardware.cores, inventory, disk)
    if present and away:
        found = present.get("postgresql", {}).get("parameters", {})
        kept = tuning.FROM_HARDWARE & found.keys() - inventory.postgresql.parameters.keys()
        # A parameter that is wanted off is so whatever the hardware is (CVE-2026-3172, tuning.py)
        parameters |= {name: found[name] for name, value in parameters.items() if name in kept and value != 0}
    return dynamic.configuration(inventory, parameters)


def _not_asked(context: Context, facts: Facts) -> list[str]:
    """Return the db hosts that `--limit` leaves out and that do not tell what hardware they have."""
    return [name for name in context.left_out if facts.known(HardwareFact(), name) is None]


def host_facts(context: Context) -> tuple[Fact[object], ...]:
    """Return what `wanted_configuration` needs to know of every db host."""
    return HardwareFact(), DiskSizeFact(context.inventory.cluster.base_dir)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> State:
    """Return a nested mapping as `a.b.c` → text.

    Text, because a PATCH compares values by their text (`patch_config` in patroni/utils.py): a "200" that
    somebody set where 200 is wanted stays, whatever is sent, and means the same to Patroni.
    """
    flat: dict[str, Value] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = str(value)
    return flat


def patch(have: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """Return what turns `have` into `want` by Patroni's PATCH: only differences, None removes a key."""
    found: dict[str, Any] = {key: None for key in have if key not in want}
    for key, value in want.items():
        if isinstance(value, Mapping) and isinstance(have.get(key), Mapping):
            if inner := patch(have[key], value):
                found[key] = inner
        elif key not in have or str(have[key]) != str(value):
            found[key] = value
    return found


OPERATORS = frozenset({"pause", "slots", "ignore_slots", "standby_cluster"})
"""Keys of the dynamic configuration that belong to whoever set them: kbpg neither wants nor removes them."""


class DynamicConfig(Resource):
    """Patroni's configuration in the consensus store is what the inventory says, but for OPERATORS' keys."""

    id = "patroni:config"

    def __init__(self, context: Context) -> None:
        ports = context.inventory.ports
        self._context = context
        self._node, self._config = NodeFact(ports.patroni), ConfigFact(ports.patroni)
        query = "select pg_conf_load_time()::text, exists (select from pg_settings where pending_restart)"
        self._load = RowsFact(context.superuser(), "configuration load", query, live=True)
        self._leader = LeaderSettings(context)
        self.facts = (self._node, self._config, self._leader.settings, *host_facts(context))

    def want(self, facts: Facts) -> Want:
        """Return the wanted configuration, flat."""
        return flatten(self._wanted(facts))

    def have(self, facts: Facts) -> Want:
        """Return the leader's view of it."""
        return flatten(self._present(facts))

    def _wanted(self, facts: Facts) -> dict[str, Any]:
        # Nobody leads yet where nothing is left out: then the configuration is wanted all the same
        present = self._present(facts) if self._context.left_out else None
        return wanted_configuration(self._context, facts, present)

    def remarks(self, facts: Facts) -> list[str]:
        """Return what was not compared."""
        away = _not_asked(self._context, facts)
        kept = "what PostgreSQL's settings owe to the smallest host's memory, cores and disk stays as it is"
        return [f"{kept}: {', '.join(away)} cannot be asked"] if away else []

    def _present(self, facts: Facts) -> dict[str, Any]:
        found = facts.get(self._config, leader_of(facts, self._node, self._context.db_names))
        return {key: value for key, value in found.items() if key not in OPERATORS}

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return what the change comes to, the restarts of a later stage included; RELOAD where none is needed.

        SWITCHOVER for a parameter that only a restart changes; RESTART where the leader is restarted in place.
        """
        want = change.want if isinstance(change.want, Mapping) else {}
        differing = {name.removeprefix(PARAMETERS) for name in change.names() if name.startswith(PARAMETERS)}
        in_force = self._leader.in_force(facts)
        if not differing & in_force.keys():
            return Impact.RELOAD
        wanted = {name.removeprefix(PARAMETERS): value for name, value in want.items()}
        shrinks = shift(in_force, wanted).shrinks & differing
        return Impact.RESTART if shrinks else Impact.SWITCHOVER

    def fix(self, site: Site, change: Change) -> None:
        """PATCH the difference, then wait until every node has taken it over."""
        names = self._context.db_names
        leader = leader_of(site.facts, self._node, names)
        body = patch(self._present(site.facts), self._wanted(site.facts))
        before = self._loaded(site)
        change_by_rest(self._context, site.hosts[leader], "PATCH", "/config", body)
        if any(name.startswith("postgresql.parameters") for name in change.names()):
            self._taken_over(site, before)

    def _loaded(self, site: Site) -> dict[str, object]:
        """Return when each node's PostgreSQL last read its configuration."""
        facts = site.look(dict.fromkeys(self._context.db_names, (self._load,)))
        return {name: (facts.known(self._load, name) or ((None,),))[0][0] for name in self._context.db_names}

    def _taken_over(self, site: Site, before: Mapping[str, object]) -> None:
        """Wait for every node's reload, and for Patroni to see whether a parameter waits for a restart.

        Patroni acts in its next loop, and looks for pending restarts 1 s after the reload
        (patroni/postgresql/config.py, reload_config). A value that only reads differently (1GB, 1024MB) causes
        no reload, so the end of the wait is not an error: what differs then is found by the comparison. Raises the
        `HostError` of a node whose connection has ended.
        """
        seconds = 2 * self._context.inventory.timers.loop_wait + RELOAD_MARGIN
        away = _not_asked(self._context, site.facts)
        names = [name for name in self._context.db_names if name not in away]
        wanted = dict.fromkeys(names, (self._load, self._node))
        for _ in site.looks(seconds, each=wanted):
            facts = site.look(wanted)
            if all(self._settled(facts, name, before[name]) for name in wanted):
                return

    def _settled(self, facts: Facts, name: str, before: object) -> bool:
        rows, status = facts.known(self._load, name), facts.known(self._node, name)
        if not rows or not status:
            return False
        loaded, pending = rows[0]
        return bool(loaded != before and pending == status.pending_restart)


class PendingRestart(Resource):
    """No parameter of this node waits for a restart of PostgreSQL."""

    id = "patroni:restart"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._node = NodeFact(context.inventory.ports.patroni)
        self._leader = LeaderSettings(context)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask this node for itself, and every db host what decides the order of restarts."""
        yield place, self._node
        yield from ((name, fact) for name in context.db_names for fact in self._leader.facts)

    def want(self, facts: Facts) -> Want:
        """Return that nothing is pending."""
        return {"pending restart": False}

    def have(self, facts: Facts) -> Want:
        """Return what the node says."""
        return {"pending restart": facts.get(self._node).pending_restart}

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return SWITCHOVER on the leader, RESTART elsewhere, and where the leader is restarted in place."""
        return Impact.RESTART if self._shrinking(facts) else node_impact(facts, self._node)

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return the difference, and why clients of the leader wait."""
        names = ", ".join(self._shrinking(facts))
        why = [f"the leader is restarted in place, and clients of PgBouncer wait meanwhile: {names} shrinks"]
        return change.lines() + (why if names else [])

    def _shrinking(self, facts: Facts) -> list[str]:
        """Return the bounds because of which this node, the leader, has to be restarted in place."""
        status = facts.known(self._node)
        return sorted(self._leader.shift(facts).shrinks) if status and status.leads else []

    def advice(self, facts: Facts) -> str | None:
        """Return why a replica still waits: it keeps what its leader has, which `--limit` may have left out."""
        status, names = facts.known(self._node), ", ".join(sorted(self._leader.shift(facts).shrinks))
        if not names or (status and status.leads):
            return None
        return f"{names} shrinks, and a replica keeps the leader's until that was restarted: run it without --limit"

    def fix(self, site: Site, change: Change) -> None:
        """Restart PostgreSQL through Patroni, unless it was restarted since: a switchover does that."""
        status = site.look({site.place: [self._node]}).known(self._node)
        if status is None or status.pending_restart:
            restart_postgresql(site)


def node_impact(facts: Facts, node: NodeFact) -> Impact:
    """Return what a restart of this node means to clients."""
    status = facts.known(node)
    return Impact.SWITCHOVER if status and status.leads else Impact.RESTART
