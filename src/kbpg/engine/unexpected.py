"""Exceptions that nobody meant to raise: one line to show and where it came from, instead of a lost run."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import PurePath

from kbpg.errors import ConnectionLost, HostError, KbpgError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Reader

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


def lost(error: Exception, hosts: Mapping[str, Reader]) -> HostError | None:
    """Return that the connection to the host that `error` names has ended, None where it has not, or says so itself.

    A service that is asked through the connection seems to close in the middle of its answer.
    """
    if not isinstance(error, HostError) or isinstance(error, ConnectionLost) or error.host not in hosts:
        return None
    ended = hosts[error.host].gone()
    if ended:
        ended.detail = (*ended.detail, error.reason)
    return ended
