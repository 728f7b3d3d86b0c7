"""What Patroni says of itself and of the cluster, parsed from its REST API, never searched as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.facts import Facts, NotKnown, RestFact

REST_USER = "kbpg"
"""Who asks Patroni's REST API for changes; templates/patroni/secrets.yml.j2 has the name by this constant."""
LEADER_ROLES = frozenset({"primary", "master", "standby_leader", "leader"})
"""How versions call it: `/patroni` says master (3.3) or primary (4.x), `/cluster` says leader in both."""
CREATING = "creating replica"
"""The state of a node that is being cloned (`create_replica`, patroni/postgresql/bootstrap.py)."""


@dataclass(frozen=True)
class Replica:
    """A connection of the leader's `pg_stat_replication`, as `/patroni` lists it."""

    name: str
    state: str
    sync_state: str
    user: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """One node's own view of itself (`GET /patroni`). `lag` is unknown there; `replication` is the leader's.

    `started` is when its postmaster was started, as PostgreSQL writes it; "" while PostgreSQL does not answer.
    """

    state: str
    role: str
    timeline: int
    version: str
    system_identifier: str
    pending_restart: bool
    paused: bool
    receiving: bool
    replicas: tuple[Replica, ...]
    scope: str = ""
    name: str = ""
    started: str = ""

    @property
    def leads(self) -> bool:
        """Return whether this node runs PostgreSQL as the leader."""
        return self.role in LEADER_ROLES and self.state == "running"

    @property
    def runs(self) -> bool:
        """Return whether PostgreSQL has just answered Patroni: what does not is `unknown` (patroni/api.py)."""
        return self.state in ("running", "streaming", "in archive recovery")


@dataclass(frozen=True)
class Member:
    """One line of `GET /cluster`; `lag` in bytes, None where unknown."""

    name: str
    role: str
    state: str
    host: str
    timeline: int
    lag: int | None
    pending_restart: bool


@dataclass(frozen=True)
class NodeFact(RestFact[NodeStatus]):
    """The node's own status. It answers with 503 while PostgreSQL is not running, and the body says so."""

    port: int
    path: str = "/patroni"
    live = True

    def parse(self, status: int, body: Any) -> NodeStatus:
        """Read the answer; raises `NotKnown` where there is no status in it."""
        if not isinstance(body, dict) or "state" not in body:
            raise NotKnown(f"Patroni answered {status} without a status")
        return NodeStatus(
            state=str(body["state"]),
            role=str(body.get("role", "unknown")),
            timeline=int(body.get("timeline") or 0),
            version=str(body.get("patroni", {}).get("version", "unknown")),
            system_identifier=str(body.get("database_system_identifier") or ""),
            pending_restart=bool(body.get("pending_restart")),
            paused=bool(body.get("pause")),
            receiving=body.get("replication_state") == "streaming",
            replicas=tuple(_replicas(body.get("replication") or ())),
            scope=str(body.get("patroni", {}).get("scope", "")),
            name=str(body.get("patroni", {}).get("name", "")),
            started=str(body.get("postmaster_start_time") or ""),
        )


def _replicas(rows: Iterable[Mapping[str, Any]]) -> Iterable[Replica]:
    for row in rows:
        yield Replica(
            str(row["application_name"]),
            str(row["state"]),
            str(row["sync_state"]),
            str(row.get("usename") or ""),
        )


@dataclass(frozen=True)
class ClusterFact(RestFact[tuple[Member, ...]]):
    """The cluster as this node remembers it: stale on a node that was cut off or just restarted."""

    port: int
    path: str = "/cluster"
    live = True

    def parse(self, status: int, body: Any) -> tuple[Member, ...]:
        """Read the answer; raises `NotKnown` where there are no members in it."""
        if status != 200 or not isinstance(body, dict):
            raise NotKnown(f"Patroni answered {status} to /cluster")
        return tuple(_member(row) for row in body.get("members", ()))


def _member(row: Mapping[str, Any]) -> Member:
    lag = row.get("lag")
    return Member(
        name=str(row["name"]),
        role=str(row["role"]),
        state=str(row["state"]),
        host=str(row.get("host", "")),
        timeline=int(row.get("timeline") or 0),
        lag=lag if isinstance(lag, int) else None,
        pending_restart=bool(row.get("pending_restart")),
    )


@dataclass(frozen=True)
class ConfigFact(RestFact[Mapping[str, Any]]):
    """Patroni's dynamic configuration."""

    port: int
    path: str = "/config"
    live = True

    def parse(self, status: int, body: Any) -> Mapping[str, Any]:
        """Read the answer; raises `NotKnown` where there is none."""
        if status != 200 or not isinstance(body, dict):
            raise NotKnown(f"Patroni answered {status} to /config")
        return body


def leader_of(facts: Facts, fact: NodeFact, hosts: Iterable[str]) -> str:
    """Return the host that says of itself that it leads.

    A node's word about itself is current, its memory of the others may not be. Raises `NotKnown` when no
    host says so, or more than one.
    """
    leaders = [host for host in hosts if (node := facts.known(fact, host)) and node.leads]
    if not leaders:
        raise NotKnown("waits for a leader")
    if len(leaders) > 1:
        raise NotKnown(f"{' and '.join(leaders)} both say that they lead")
    return leaders[0]


def streaming_of(facts: Facts, fact: NodeFact, leader: str) -> dict[str, Replica]:
    """Return the replicas that stream from `leader`, by name. Raises `NotKnown`."""
    return {s.name: s for s in facts.get(fact, leader).replicas if s.state == "streaming"}
