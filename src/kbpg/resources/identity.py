"""Whose data this is: each db host records the cluster's name and PostgreSQL's system identifier.

Before the first start a host is claimed (a record without identifier, and only where there is no data): data
that appears afterwards is this cluster's own, even if kbpg is killed in between. When the cluster is born
the identifier is filled in. Data that no record explains is foreign, and step 01 stops there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.inventory import Inventory
from kbpg.model import ABSENT, Change, Resource, Want
from kbpg.patroni import NodeFact, leader_of
from kbpg.resources.file import FileFact

NOT_RECORDED = "not recorded"


def record_path(base_dir: str) -> str:
    """Return where the record is kept on a db host."""
    return f"{base_dir}/kbpg/cluster.json"


def read_record(text: str | None) -> dict[str, Any]:
    """Return the record in `text`; empty when there is none or it cannot be read."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def adopting(record: Mapping[str, Any]) -> bool:
    """Return whether a record says that its cluster is being taken over, and not all of its nodes are yet."""
    return bool(record.get("adopting"))


def fixed_ports(inventory: Inventory) -> dict[str, int]:
    """Return the ports that a cluster keeps for life: Patroni and Raft know each other by them."""
    ports = inventory.ports
    return {"postgresql": ports.postgresql, "patroni": ports.patroni, "raft": ports.raft}


class _Record(Resource):
    """The record on one db host."""

    def __init__(self, context: Context) -> None:
        self._ports = fixed_ports(context.inventory)
        self._name = context.inventory.cluster.name
        self._path = record_path(context.inventory.cluster.base_dir)
        self._fact = FileFact(self._path)
        self.facts = (self._fact,)

    def _read(self, facts: Facts) -> dict[str, Any]:
        found = facts.get(self._fact)
        return read_record(found.text if found else None)

    def _write(self, site: Site, identifier: str, **more: bool) -> None:
        record: dict[str, object] = {"cluster": self._name, "system_identifier": identifier, **more}
        if identifier:  # until the cluster is born its ports may still change
            record["ports"] = self._ports
        site.host.write(self._path, (json.dumps(record) + "\n").encode(), owner="0:0", mode=0o600)


class Claimed(_Record):
    """The host belongs to this cluster. A claim is written once, where the preflight found no data."""

    id = "identity:claimed"

    def want(self, facts: Facts) -> Want:
        """Return the cluster's name."""
        return {"cluster": self._name}

    def have(self, facts: Facts) -> Want:
        """Return the name recorded."""
        record = self._read(facts)
        return {"cluster": str(record["cluster"])} if "cluster" in record else ABSENT

    def fix(self, site: Site, change: Change) -> None:
        """Write the claim. Raises `Refused` where another cluster's record stands."""
        if change.have is not ABSENT:
            raise Refused(
                f"this host belongs to the cluster {change.lines()[0].split(' ')[1]}",
                hint=f"if that cluster is gone for good, look at {self._path} and remove it",
            )
        self._write(site, "")


class Identified(_Record):
    """The record holds the system identifier of the cluster that the leader leads, and the ports it was born with."""

    id = "identity:recorded"

    def __init__(self, context: Context, node: NodeFact) -> None:
        super().__init__(context)
        self._node, self._hosts = node, context.db_names

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask the record here and every node for itself."""
        return [(place, self._fact), *((host, self._node) for host in self._hosts)]

    def want(self, facts: Facts) -> Want:
        """Return the leader's system identifier and the ports. Raises `NotKnown` without a leader."""
        leader = leader_of(facts, self._node, self._hosts)
        identifier = facts.get(self._node, leader).system_identifier
        if not identifier:
            raise NotKnown(f"{leader} does not tell its system identifier yet")
        return {"system_identifier": identifier, "ports": _shown(self._ports)}

    def have(self, facts: Facts) -> Want:
        """Return the identifier and the ports recorded."""
        record = self._read(facts)
        identifier, ports = record.get("system_identifier"), record.get("ports")
        return {
            "system_identifier": str(identifier or NOT_RECORDED),
            "ports": _shown(ports) if isinstance(ports, dict) else NOT_RECORDED,
        }

    def fix(self, site: Site, change: Change) -> None:
        """Fill in what is not recorded. Raises `Refused` where another identifier or port stands."""
        assert isinstance(change.have, Mapping)  # noqa: S101 (`have` above)
        assert isinstance(change.want, Mapping)  # noqa: S101 (`want` above)
        if change.have["system_identifier"] not in (NOT_RECORDED, change.want["system_identifier"]):
            raise Refused(f"the data here belongs to another cluster: {'; '.join(change.lines())}")
        if change.have["ports"] not in (NOT_RECORDED, change.want["ports"]):
            raise Refused(f"the ports are fixed once the cluster is born: {'; '.join(change.lines())}")
        self._write(site, str(change.want["system_identifier"]))


def _shown(ports: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {port}" for name, port in ports.items())
