"""Pauses of PgBouncer that kbpg made and could not end itself."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.health.check import CONTAINER_FAULT, Check, Seen
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PGBOUNCER
from kbpg.resources.pause_ended import PauseEnded


def unfinished(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies where a guard had to let clients go on, or cannot."""
    for _, found in snapshot.differing(PauseEnded):
        resource, place = found.placed.resource, found.placed.place
        left = resource.left(snapshot.facts.at(place)) if isinstance(resource, PauseEnded) else None
        if left is None or left.lasts(snapshot.taken or 0.0):
            continue
        ended = "clients go on since" if left.ended else "whether clients go on is not known"
        yield Seen(
            place,
            f"the kbpg that paused PgBouncer did not end that pause; {ended}",
            left.lines,
            repair=Repair(
                Action.APPLY_STEP,
                place,
                "forget it" if left.ended else "let clients go on, and forget it",
                parameters={"step": "04"},
            ),
        )


CHECKS = (
    Check(
        "pause-unfinished",
        "a pause was not ended by who began it",
        Severity.WARNING,
        "a switchover or restart was broken off: look who leads, and run it again",
        "{kbpg} step 04 --limit {host}",
        unfinished,
        explained_by=CONTAINER_FAULT,
        part=PGBOUNCER,
    ),
)
