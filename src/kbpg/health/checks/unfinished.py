"""What was begun on the db hosts and not finished, and what kbpg has not begun: clusters it did not start."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.adoption.proof import Proof
from kbpg.facts import NotKnown
from kbpg.health.check import HOST_FAULT, Check, Seen
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER
from kbpg.operations.raft_note import rebuild_note, started_in
from kbpg.resources.preflight.data import ADOPT, half_adopted, unrecorded
from kbpg.resources.preflight.subject import Subject
from kbpg.steps.s01_prepare import needs


def rebuild(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the rebuild of the consensus whose note is still on hosts."""
    found = {
        host: started_in(note) or "an unknown time"
        for host in snapshot.db
        if (note := snapshot.facts.known(rebuild_note(snapshot.context), host))
    }
    if found:
        since = ", ".join(dict.fromkeys(found.values()))
        containers = tuple(
            f"{host}: container {PATRONI} {snapshot.state(host, PATRONI)}" for host in snapshot.db
        )
        seen = f"a `kbpg raft rebuild` that began at {since} is not finished (noted on {', '.join(found)})"
        yield Seen(CLUSTER, seen, containers)


def unmanaged(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the cluster that runs on the db hosts and that no record of kbpg's explains."""
    adopt = f"{{kbpg}} {ADOPT.partition(' ')[2]}"
    if half := [name for name in snapshot.db if half_adopted(_subject(snapshot, name))]:
        yield Seen(CLUSTER, f"it is only taken over in part (noted on {', '.join(half)})", remedy=adopt)
        return
    hosts = [name for name in snapshot.db if _unrecorded(snapshot, name)]
    proof = Proof(snapshot.context, snapshot.facts)
    if not hosts or not proof.led:
        return
    doubts = {host: proof.doubts(host) for host in hosts}
    lines = dict.fromkeys(f"{host}: {line}" for host, found in doubts.items() for line in found)
    what = "what keeps it from being taken over is below" if lines else "it can be taken over as it is"
    yield Seen(
        CLUSTER,
        f"the cluster on {', '.join(hosts)} was not started by kbpg; {what}",
        tuple(lines),
        adopt,
    )


def _subject(snapshot: Snapshot, name: str) -> Subject:
    host, context = snapshot.inventory.host(name), snapshot.context
    return Subject(snapshot.inventory, host, needs(context, host), snapshot.facts, context)


def _unrecorded(snapshot: Snapshot, name: str) -> bool:
    try:
        return unrecorded(_subject(snapshot, name))
    except NotKnown:
        return False


CHECKS = (
    Check(
        "raft-rebuild-unfinished",
        "a rebuild of the consensus is not finished",
        Severity.CRITICAL,
        "some nodes remember the old consensus and some do not: nothing else may start them before it is finished",
        "{kbpg} raft rebuild",
        rebuild,
        explained_by=(),
    ),
    Check(
        "cluster-unmanaged",
        "the cluster is not managed by kbpg",
        Severity.WARNING,
        "it was made by hand, or its records are gone: kbpg changes nothing of it before it is told to take it over",
        "{kbpg} apply-all --adopt",
        unmanaged,
        explained_by=HOST_FAULT,
    ),
)
