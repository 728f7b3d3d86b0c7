"""The data directory: PostgreSQL is strict about whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbpg.health.check import HOST_FAULT, Check, Seen
from kbpg.health.checks.containers import last_lines
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.resources.datadir import DataDirectoryOwner


def permissions(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the data directories with a wrong owner or mode, or with files of somebody else."""
    for _, found in snapshot.differing(DataDirectoryOwner):
        host, change = found.placed.place, found.change
        if change is None or not isinstance(change.have, Mapping):
            continue
        node = snapshot.node(host)
        works = node is not None and node.state in ("running", "streaming")
        evidence = tuple(line for line in last_lines(snapshot, host, PATRONI) if "permission" in line.lower())
        yield Seen(
            host,
            f"{snapshot.paths.pgdata}: {'; '.join(found.lines)}",
            evidence,
            f"{{kbpg}} step 01 --limit {host}",
            severity=Severity.WARNING if works else Severity.CRITICAL,
            repair=Repair(
                Action.OWN_DATA,
                host,
                f"give {snapshot.paths.pgdata} back to its owner with mode 0700, and let Patroni start PostgreSQL",
                parameters={"path": snapshot.paths.pgdata, "container": PATRONI},
            ),
        )


CHECKS = (
    Check(
        "data-permissions",
        "data directory with a wrong owner or mode",
        Severity.CRITICAL,
        "PostgreSQL refuses to start on a data directory that others may read or that is not its own",
        "{kbpg} step 01 --limit {host}",
        permissions,
        explained_by=HOST_FAULT,
    ),
)
