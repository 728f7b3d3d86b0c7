"""Patroni's dynamic configuration as it is, what the inventory wants, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbpg.engine.site import Site
from kbpg.errors import NotConverged
from kbpg.facts import Facts, NotKnown
from kbpg.operations.server_settings import SettingsFact
from kbpg.patroni import ConfigFact, NodeFact, leader_of
from kbpg.resources.patroni import OPERATORS, flatten, host_facts, wanted_configuration


@dataclass(frozen=True)
class Row:
    """One setting: what the cluster has and what the inventory wants, None where there is none.

    `left_alone` is for what kbpg leaves to whoever set it, such as Patroni's pause.
    """

    key: str
    cluster: str | None
    inventory: str | None
    left_alone: bool = False

    @property
    def differs(self) -> bool:
        """Return whether `apply-all` would change it."""
        return not self.left_alone and self.cluster != self.inventory


@dataclass(frozen=True)
class Shown:
    """The configuration of the cluster; what each node has pending, or why that is not known.

    `unknown` says why the inventory's wishes cannot be computed, such as a host whose memory is not known.
    """

    leader: str
    rows: Sequence[Row]
    unknown: str = ""
    pending: Mapping[str, Sequence[str]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Return whether the cluster is as the inventory wants it, and nothing waits for a restart."""
        rows = any(row.differs for row in self.rows)
        return not (rows or self.unknown or self.silent or any(self.pending.values()))

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "leader": self.leader,
            "agrees": self.agrees,
            "settings": [
                {
                    "key": row.key,
                    "cluster": row.cluster,
                    "inventory": row.inventory,
                    "differs": row.differs,
                    "left_alone": row.left_alone,
                }
                for row in self.rows
            ],
            "inventory_unknown": self.unknown or None,
            "pending_restart": {host: list(names) for host, names in self.pending.items()},
            "silent": dict(self.silent),
        }


def look(site: Site, unreachable: Sequence[str] = ()) -> Shown:
    """Read it from the hosts; raises `NotConverged` where no node leads, whose word is the one that counts."""
    context = site.context
    ports, names = context.inventory.ports, context.db_names
    node, config = NodeFact(ports.patroni), ConfigFact(ports.patroni)
    server = SettingsFact(context.superuser())
    reachable = [name for name in names if name not in unreachable]
    facts = site.look(dict.fromkeys(reachable, (node, config, server, *host_facts(context))))
    try:
        leader = leader_of(facts, node, reachable)
        present = facts.get(config, leader)
    except NotKnown as silence:
        raise NotConverged(
            f"the configuration cannot be read: {silence.reason}", hint="kbpg diagnose"
        ) from silence
    unknown = ""
    wanted: Mapping[str, Any] = {key: value for key, value in present.items() if key not in OPERATORS}
    try:
        wanted = wanted_configuration(context, facts)
    except NotKnown as silence:
        unknown = silence.reason
    pending, silent = _pending(facts, node, server, names)
    return Shown(leader, rows(present, wanted), unknown, pending, silent)


def rows(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Row]:
    """Return every setting that is there or wanted: timers and modes first, then PostgreSQL's, by name."""
    have = flatten({key: value for key, value in present.items() if key not in OPERATORS})
    want = flatten(wanted)
    keys = sorted({*have, *want}, key=lambda key: (key.count("."), key))
    found = [Row(key, _text(have.get(key)), _text(want.get(key))) for key in keys]
    others = flatten({key: value for key, value in present.items() if key in OPERATORS})
    return [*found, *(Row(key, _text(value), None, left_alone=True) for key, value in sorted(others.items()))]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _pending(
    facts: Facts, node: NodeFact, server: SettingsFact, names: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the parameters that wait for a restart on each node, and the nodes that cannot say."""
    pending: dict[str, list[str]] = {}
    silent: dict[str, str] = {}
    for name in names:
        try:
            settings = facts.get(server, name)
            found = [each.name for each in settings.values() if each.pending_restart]
            pending[name] = found or (["Patroni says so"] if facts.get(node, name).pending_restart else [])
        except NotKnown as silence:
            silent[name] = silence.reason
    return pending, silent
