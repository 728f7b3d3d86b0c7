"""Files with secrets: readable by their owner alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from kbpg.health.check import HOST_FAULT, Check, Seen
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.model import CONTROLLER
from kbpg.pki import too_open
from kbpg.resources.file import File, FileFact
from kbpg.steps.s00_credentials import CredentialsFact


def readable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the files of mode 0600 that others may read or write."""
    for step, item in snapshot.placed:
        resource = item.resource
        if not isinstance(resource, File) or resource.mode & 0o077:
            continue
        found = snapshot.facts.known(FileFact(resource.path, resource.secret), item.place)
        if found is None or not found.mode & 0o077:
            continue
        yield Seen(
            item.place,
            f"{resource.path} has mode {found.mode:04o}, not {resource.mode:04o}",
            remedy=f"{{kbpg}} step {step.number:02d} --limit {item.place}",
            repair=Repair(
                Action.APPLY_STEP,
                item.place,
                f"set owner and mode of {resource.path}",
                parameters={"step": f"{step.number:02d}"},
            ),
            subject=resource.path,
        )
    path = snapshot.inventory.credentials_path
    own = snapshot.facts.known(CredentialsFact.of(snapshot.context), CONTROLLER)
    if own is not None and own.mode is not None and own.mode & 0o077:
        will = f"set the mode of {path}"
        yield Seen(
            CONTROLLER,
            f"{path} has mode {own.mode:04o}, not 0600",
            remedy=shlex.join(["chmod", "600", str(path)]),
            repair=Repair(Action.APPLY_STEP, CONTROLLER, will, parameters={"step": "00"}),
            subject=str(path),
        )
    yield from _keys(snapshot)


def _keys(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that others have a right to the keys of certificates on the controller, or to their directory.

    No repair: whatever changes something refuses to work with such a key.
    """
    exposed = snapshot.context.pki.exposed
    if not exposed:
        return
    seen = [too_open(path, mode) for path, mode in exposed.items()]
    more = f", and {len(seen) - 1} more" if len(seen) > 1 else ""
    yield Seen(
        CONTROLLER,
        f"{seen[0]}{more}",
        (*seen[1:], "what changes anything, --repair too, is refused until then"),
        shlex.join(["chmod", "go=", *map(str, exposed)]),
        why="whoever reads a key can pass for the host, or for kbpg, whose it is; with ca.key, for any of them",
        subject="keys",
    )


CHECKS = (
    Check(
        "secrets-readable",
        "a file with secrets is readable by others",
        Severity.WARNING,
        "other users of the machine can read the passwords of the cluster",
        "chmod 600 FILE",
        readable,
        explained_by=HOST_FAULT,
    ),
)
