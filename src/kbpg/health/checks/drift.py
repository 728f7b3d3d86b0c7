"""Drift: whatever else the steps would change, found by the steps' own comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbpg.engine.compare import Comparison
from kbpg.health.check import HOST_FAULT, UNFINISHED, Check, Seen
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.model import ABSENT, CLUSTER, CONTROLLER, Resource, Step
from kbpg.resources.auth_query import AuthQuery
from kbpg.resources.birth import Removed
from kbpg.resources.container import Container
from kbpg.resources.datadir import DataDirectoryOwner
from kbpg.resources.file import File, FileFact
from kbpg.resources.half_done import NoRebuildLeft
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded
from kbpg.resources.package import Docker
from kbpg.resources.patroni import DynamicConfig, PendingRestart
from kbpg.resources.pause import NotPaused
from kbpg.resources.pause_ended import PauseEnded
from kbpg.resources.preflight.resource import Preflight
from kbpg.resources.probe import Probe
from kbpg.resources.roles import ManagedRole
from kbpg.resources.sql import Database, Extension, Role
from kbpg.steps.authority import PkiSafe, PkiUnchanged
from kbpg.steps.s00_credentials import CredentialsFact, CredentialsFile, Safe, Unchanged

OTHERS: tuple[type[Resource], ...] = (
    AuthQuery,
    Container,
    DataDirectoryOwner,
    Docker,
    Extension,
    Images,
    Loaded,
    NoRebuildLeft,
    NotPaused,
    PauseEnded,
    PendingRestart,
    PkiSafe,
    PkiUnchanged,
    Preflight,
    Probe,
    Removed,
    Safe,
    Unchanged,
)
"""What other checks look at, more closely, or another resource of the same step (`Removed`: a `File`)."""
LINES = 12


def drift(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield every other resource that is known not to be as the inventory and the templates say."""
    for step, found in snapshot.differing():
        if isinstance(found.placed.resource, OTHERS) or _told(snapshot, found):
            continue
        place = found.placed.place
        number = f"{step.number:02d}"
        limit = f" --limit {place}" if place not in (CLUSTER, CONTROLLER) else ""
        lines = found.lines[:LINES]
        more = (f"… {len(found.lines) - LINES} more lines",) if len(found.lines) > LINES else ()
        yield Seen(
            place,
            f"{found.placed.resource.id}: {lines[0] if lines else 'differs'}",
            (*lines, *more),
            f"{{kbpg}} step {number}{limit}",
            repair=_repair(step, found),
            subject=found.placed.resource.id,
        )


def _repair(step: Step, found: Comparison) -> Repair:
    resource, place = found.placed.resource, found.placed.place
    will = f"bring {resource.id} back to what the inventory says, by step {step.label}"
    return Repair(Action.APPLY_STEP, place, will, parameters={"step": f"{step.number:02d}"})


def _told(snapshot: Snapshot, found: Comparison) -> bool:
    """Return whether another check tells of this difference, or of all there is to it."""
    change, resource, place = found.change, found.placed.resource, found.placed.place
    if change is None:
        return True
    if isinstance(resource, (Role, ManagedRole)):
        have = change.have if isinstance(change.have, Mapping) else {}
        return change.have is ABSENT or have.get("password") == "differs"
    if isinstance(resource, Database):
        return change.have is ABSENT
    if isinstance(resource, CredentialsFile):
        own = snapshot.facts.known(CredentialsFact.of(snapshot.context), CONTROLLER)
        return change.only("mode") and own is not None and own.too_open
    if isinstance(resource, DynamicConfig):
        return change.names() == ["pause"]
    if isinstance(resource, File) and not resource.mode & 0o077 and change.only("mode"):
        state = snapshot.facts.known(FileFact(resource.path, resource.secret), place)
        return state is not None and bool(state.mode & 0o077)
    return False


CHECKS = (
    Check(
        "drift",
        "drift",
        Severity.WARNING,
        "somebody, or an unfinished run, changed what kbpg keeps: the next run changes it back",
        "{kbpg} apply-all",
        drift,
        explained_by=(*HOST_FAULT, *UNFINISHED),
    ),
)
