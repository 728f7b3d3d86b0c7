"""What a command does that finds a rotation of passwords not ended (`credentials/rotation.py`).

The one place for it: `session.py` asks here. Commands that only look work with the passwords of both files; which of
the two is in force, the logins find out (`Context.login`, `operations/patroni_change.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from kbpg.credentials import check_users, complete, rotation
from kbpg.errors import CredentialsError, LockHeld

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.credentials import Found


class Amid(Enum):
    """What a command that holds the lock does where a rotation was broken off.

    Those that MEND what may keep the rotation from being ended go on, with the passwords of both files; the one that
    ROTATEs ends it; all others REFUSE.
    """

    REFUSE = "refuse"
    MEND = "mend"
    ROTATE = "rotate"


def amid_rotation(context: Context, found: Found | None) -> Context:
    """Return the context with the new passwords, and those of before, where a rotation is not ended.

    `found` is the old file. Raises `CredentialsError` where the new file cannot be used, or is all that is left.
    """
    inventory = context.inventory
    new = rotation.left(inventory.credentials_path, inventory.login_roles)
    if new is None:
        return context
    if found is None:
        raise CredentialsError(
            f"{inventory.credentials_path}: no such file, but {new.path.name} of a rotation that was broken off",
            hint=f"put the old file back from your copy, then: {rotation.RESUME}",
        )
    changed = rotation.changed(found, new)
    if rotation.ALONE in changed and len(changed) > 1:
        raise CredentialsError(
            f"{new.path}:{new.lines[rotation.ALONE]}: {rotation.ALONE} is not that of {found.path.name}, and neither "
            "are others: kbpg rotates it by itself",
            hint=f"give both files the same {rotation.ALONE}",
        )
    check_users(new, superuser=inventory.cluster.superuser, app_user=inventory.cluster.app_user)
    return replace(context, credentials=complete(new), former=context.credentials)


def tell_or_refuse(context: Context, *, changing: bool, tell: Callable[[str], None]) -> None:
    """Say that a rotation is not ended. Raises `CredentialsError` or `LockHeld` for what is `changing` something."""
    path = context.inventory.credentials_path
    new, running = rotation.new_path(path), rotation.under_way(path)
    if running and changing:
        raise LockHeld("passwords are being rotated", hint="wait for its end")
    text = f"a rotation of passwords {'is under way' if running else 'was broken off'}"
    if changing:
        raise CredentialsError(f"{new}: {text}", hint=rotation.RESUME)
    go_on = "" if running else f"; {rotation.RESUME} ends it"
    tell(f"{text}: each password in force is that of {path.name} or of {new.name}{go_on}")
