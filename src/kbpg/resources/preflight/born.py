"""The preflight's check of a cluster that is born: enough of its data is there."""

from __future__ import annotations

from kbpg.inventory import Inventory
from kbpg.patroni import NodeFact
from kbpg.resources.foreign import Ownership
from kbpg.resources.identity import record_path
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
