"""The preflight's checks of PostgreSQL data: whose it is, and that all db hosts hold the same cluster."""

from __future__ import annotations

from kbpg.adoption.proof import Proof
from kbpg.inventory import Inventory
from kbpg.layout import Layout
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact, Ownership, judge, odd_one_out, ways_to_look
from kbpg.resources.identity import adopting, read_record, record_path
from kbpg.resources.preflight.subject import Problem, Subject

ADOPT = "kbpg apply-all --adopt"
"""The command that says yes to taking over a cluster that kbpg did not start."""


def data_fact(inventory: Inventory) -> DataFact:
    """Return the question for a db host's PostgreSQL data."""
    return DataFact(Layout(inventory.cluster.base_dir).data)


def record_fact(inventory: Inventory) -> FileFact:
    """Return the question for a db host's record of whose it is."""
    return FileFact(record_path(inventory.cluster.base_dir))


def born(subject: Subject) -> bool:
    """Return whether this host belongs to a cluster that is born: its record has a system identifier.

    A proxy has no record, so that of any db host counts for it; a db host that is new still has to be installed.
    """
    records = subject.all(record_fact(subject.inventory), db=True)
    if subject.host.role == "db":
        records = {name: record for name, record in records.items() if name == subject.host.name}
    return any(record and Ownership.of(record.text).system_identifier for record in records.values())


def data(subject: Subject) -> Problem | None:
    """What lies in the data directory is this cluster's, or nothing."""
    inventory = subject.inventory
    seen, found = subject.see(data_fact(inventory)), subject.see(record_fact(inventory))
    record = Ownership.of(found.text if found else None)
    why = judge(seen, record, inventory.cluster.name, inventory.versions.postgresql)
    if why is None:
        half = half_adopted(subject) and subject.context is not None and not subject.context.adopting
        return Problem("its cluster is only taken over in part", f"{ADOPT} finishes it") if half else None
    looks = ways_to_look(seen, inventory.images.pgvector)
    detail = (
        ("look at it on the host, nothing is changed by:", *(f"  {line}" for line in looks)) if looks else ()
    )
    leave = "kbpg does not touch it: move it away, or choose another cluster.base_dir"
    proof = Proof(subject.context, subject.facts) if subject.context and unrecorded(subject) else None
    if proof is None or not (proof.led or proof.context.adopting):
        return Problem(why, leave, detail)
    if doubts := proof.doubts(subject.host.name):
        mend = f"{leave}; or mend what keeps it from being adopted (docs/adopting.md)"
        return Problem(why, mend, ("it is not adopted:", *(f"  {line}" for line in doubts), *detail))
    if proof.context.adopting:
        return None
    return Problem(why, f"its cluster runs: {ADOPT} takes it over, one node at a time (docs/adopting.md)")


def half_adopted(subject: Subject) -> bool:
    """Return whether this host's record says that its cluster is being taken over."""
    found = subject.facts.known(record_fact(subject.inventory), subject.host.name)
    return adopting(read_record(found.text if found else None))


def unrecorded(subject: Subject) -> bool:
    """Return whether there is data here with which nothing is wrong but that no record explains it."""
    inventory = subject.inventory
    seen, found = subject.see(data_fact(inventory)), subject.see(record_fact(inventory))
    if not seen.present or Ownership.of(found.text if found else None).cluster:
        return False
    ours = Ownership(inventory.cluster.name, "")
    return judge(seen, ours, inventory.cluster.name, inventory.versions.postgresql) is None


def identity(subject: Subject) -> Problem | None:
    """All db hosts hold the same cluster, by its system identifier."""
    inventory = subject.inventory
    states = subject.all(data_fact(inventory), db=True)
    records = subject.all(record_fact(inventory), db=True)
    identifiers = {}
    for host in inventory.db:
        state, record = states.get(host.name), records.get(host.name)
        found = {
            state.system_identifier if state else "",
            Ownership.of(record.text).system_identifier if record else "",
        }
        identifiers[host.name] = frozenset(found - {""})
    why = odd_one_out(subject.host.name, identifiers)
    if why is None:
        return None
    return Problem(
        f"{why}: wanted one cluster's data everywhere",
        f"find out which is right; kbpg does not touch {data_fact(inventory).mount}",
    )
