"""The preflight's checks of a cluster that is born: enough of its data is there, what is fixed is as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbpg.adoption.proof import covers, sources
from kbpg.inventory import Inventory
from kbpg.layout import DATA_INSIDE, PATRONI, Layout
from kbpg.patroni import NodeFact
from kbpg.resources.docker import LABEL_SPEC
from kbpg.resources.foreign import Ownership
from kbpg.resources.identity import fixed_ports, read_record, record_path
from kbpg.resources.preflight.data import data_fact, record_fact
from kbpg.resources.preflight.subject import Problem, Subject


def node_fact(inventory: Inventory) -> NodeFact:
    """Return the question whether a db host leads."""
    return NodeFact(inventory.ports.patroni)


def survivors(subject: Subject) -> Problem | None:
    """A cluster that is recorded is led, or a majority of the db hosts that tell hold its data.

    Empty hosts that are a majority have a quorum without those that hold the data. Where a node leads they only
    clone; hosts that do not tell are not held against the others.
    """
    inventory = subject.inventory
    records = subject.all(record_fact(inventory), db=True).values()
    recorded = {Ownership.of(record.text).system_identifier for record in records if record} - {""}
    nodes = subject.all(node_fact(inventory), db=True).values()
    if not recorded or any(node.leads and node.system_identifier in recorded for node in nodes):
        return None
    states = subject.all(data_fact(inventory), db=True)
    without = [name for name, state in states.items() if state.system_identifier not in recorded]
    holding = [name for name in states if name not in without]
    if 2 * len(without) < len(inventory.db):
        return None
    options = " ".join(f"--without {name}" for name in without)
    path = record_path(inventory.cluster.base_dir)
    return Problem(
        f"no node leads, and of the cluster that is recorded (system identifier {'/'.join(sorted(recorded))}) "
        f"{', '.join(without)} {'holds' if len(without) == 1 else 'hold'} no data: "
        "wanted it on a majority of the db hosts",
        f"bring the hosts with its data back, or `kbpg raft rebuild {options}` and then kbpg again: they clone"
        if holding
        else f"bring the hosts with its data back; to begin a new, empty cluster remove {path} on every db host",
    )


def fixed(subject: Subject) -> Problem | None:
    """What a running cluster cannot change is as it was when the cluster was born."""
    inventory = subject.inventory
    found = subject.facts.known(record_fact(inventory), subject.host.name)
    differing = _ports(inventory, read_record(found.text if found else None))
    containers = subject.facts.known(subject.needs.containers, subject.host.name) or {}
    mount = data_fact(inventory).mount
    if PATRONI in containers and (source := _source(containers[PATRONI], mount)) != mount:
        base = source.removesuffix(Layout("").data) or "unknown"
        differing.insert(0, f"cluster.base_dir: recorded {base}, wanted {inventory.cluster.base_dir}")
    if not differing:
        return None
    verb = "is" if len(differing) == 1 else "are"
    return Problem(
        f"{'; '.join(differing)}: {verb} fixed once the cluster is born",
        "put the recorded value back into the inventory",
    )


def _source(container: Mapping[str, Any], mount: str) -> str:
    """Return the host's directory that the container mounts for data, "" without one.

    One that was started by hand may mount it elsewhere, or what it is in.
    """
    if LABEL_SPEC not in ((container.get("Config") or {}).get("Labels") or {}) and any(
        covers(source, mount) for source in sources(container)
    ):
        return mount
    binds = (container.get("HostConfig") or {}).get("Binds") or []
    mounts = [bind.split(":") for bind in binds]
    return next((parts[0] for parts in mounts if parts[1:2] == [DATA_INSIDE]), "")


def _ports(inventory: Inventory, record: Mapping[str, Any]) -> list[str]:
    """Return the ports that are not as recorded; a record of an older kbpg has none, and says nothing."""
    recorded = record.get("ports")
    if not isinstance(recorded, dict):
        return []
    return [
        f"ports.{name}: recorded {recorded[name]}, wanted {port}"
        for name, port in fixed_ports(inventory).items()
        if name in recorded and recorded[name] != port
    ]
