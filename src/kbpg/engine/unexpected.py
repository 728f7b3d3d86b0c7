"""Exceptions that nobody meant to raise: one line to show and where it came from, instead of a lost run."""

from __future__ import annotations

import traceback
from pathlib import PurePath

from kbpg.errors import KbpgError
from kbpg.facts import NotKnown

FRAMES = 3
"""Innermost places of the code that are named: enough to find it, little enough to read."""


def explained(error: Exception) -> KbpgError:
    """Return `error` as what a user can be shown; a `KbpgError` as it is.

    An `OSError` or `NotKnown` may be nobody's fault. Anything else is a defect of kbpg's, and is called one.
    """
    if isinstance(error, KbpgError):
        return error
    if isinstance(error, NotKnown):
        shown = KbpgError(error.reason)
    else:
        kind, frames = type(error).__name__, traceback.extract_tb(error.__traceback__)[-FRAMES:]
        where = [f"{PurePath(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
        hint = None if isinstance(error, OSError) else "this is a defect of kbpg: please report these lines"
        shown = KbpgError(f"unexpected {kind}: {error}", detail=where, hint=hint)
    shown.__cause__ = error
    return shown
