"""Archived WAL: what the inventory's `archive_command` does not take away stays on the leader's disk."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.check import NODE_FAULT, Check, Seen
from kbpg.health.checks.containers import last_lines
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI


def failing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that the leader's last attempt to archive a segment failed."""
    leader = snapshot.leader
    rows = snapshot.facts.known(snapshot.ask.views.archiver, leader) if leader else None
    for mode, failed, segment, archived, waiting in rows or ():
        if leader and mode != "off" and failed:
            last = f"the last one archived is {archived}" if archived else "none was ever archived"
            yield Seen(
                leader,
                f"archive_command fails for {segment}; {waiting} segments wait, {last}",
                last_lines(snapshot, leader, PATRONI),
                f"{{kbpg}} logs {leader} patroni",
            )


CHECKS = (
    Check(
        "archive-failing",
        "WAL is not archived",
        Severity.WARNING,
        "what is not archived is kept until the disk is full, and backups end where the archive does",
        "{kbpg} logs HOST patroni",
        failing,
        explained_by=(*NODE_FAULT, "disk-full"),
    ),
)
