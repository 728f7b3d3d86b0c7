"""Parameters of which a replica must have at least as much as its leader, and which way they are to go.

PostgreSQL's documentation, "Hot Standby: Administrator's Overview": to grow them, replicas come first; to shrink
them, the leader. Patroni keeps to it: on any node but the leader it starts PostgreSQL with the larger of its
configuration and pg_controldata (`effective_configuration`, patroni/postgresql/config.py), and what
pg_controldata of a replica says shrinks only with a restart of the leader as leader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.context import Context
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.patroni import ConfigFact, NodeFact, leader_of
from kbpg.resources.sql_facts import RowsFact

BOUNDS = {
    "max_connections": (25, 100),
    "max_wal_senders": (3, 10),
    "max_prepared_transactions": (0, 0),
    "max_locks_per_transaction": (32, 64),
    "max_worker_processes": (2, 8),
}
"""Name → (least value that Patroni accepts, what it takes without one): CMDLINE_OPTIONS of the same module."""


@dataclass(frozen=True)
class Shift:
    """The names of the bounds that are to grow, and of those that are to shrink."""

    grows: frozenset[str] = frozenset()
    shrinks: frozenset[str] = frozenset()


def shift(in_force: Mapping[str, object], wanted: Mapping[str, object]) -> Shift:
    """Return which bounds differ between a node's settings and Patroni's `postgresql.parameters`."""
    grows: set[str] = set()
    shrinks: set[str] = set()
    for name in BOUNDS:
        if (have := _number(in_force.get(name))) is None:
            continue
        want = _effective(name, wanted.get(name))
        if want != have:
            (grows if want > have else shrinks).add(name)
    return Shift(frozenset(grows), frozenset(shrinks))


def _effective(name: str, value: object) -> int:
    """Return what Patroni makes of a configured value: its own default for one that it does not accept."""
    least, default = BOUNDS[name]
    number = _number(value)
    return default if number is None or number < least else number


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


class LeaderSettings:
    """What only a restart changes, as it is in force on the leader; `facts` are read on every db host."""

    def __init__(self, context: Context) -> None:
        ports = context.inventory.ports
        self._hosts = context.db_names
        self._node, self._config = NodeFact(ports.patroni), ConfigFact(ports.patroni)
        query = "select name, setting from pg_catalog.pg_settings where context = 'postmaster'"
        self.settings = RowsFact(context.superuser(), "postmaster settings", query, live=True)
        self.facts: tuple[Fact[object], ...] = (self._node, self._config, self.settings)

    def in_force(self, facts: Facts) -> dict[str, Any]:
        """Return the leader's settings by name; empty where they cannot be read."""
        try:
            return dict(facts.get(self.settings, leader_of(facts, self._node, self._hosts)))
        except NotKnown:
            return {}

    def shift(self, facts: Facts) -> Shift:
        """Return which way the leader's bounds go when it is restarted; no way where that cannot be read."""
        try:
            config = facts.get(self._config, leader_of(facts, self._node, self._hosts))
        except NotKnown:
            return Shift()
        wanted = (config.get("postgresql") or {}).get("parameters") or {}
        return shift(self.in_force(facts), wanted)
