"""The line that a host's login shell gets: a command as root, with its deadline, under the lock."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kbpg.hosts.settings import Guard

KILL_AFTER = 5
"""Seconds between the TERM and the KILL that end a command at its deadline."""

EXPIRED = (124, 137)
"""Exit statuses of timeout(1) when it ended the command with TERM, or had to use KILL."""


def command_line(argv: Sequence[str], timeout: float, *, become: Sequence[str], guard: Guard | None) -> str:
    """Return the line that runs `argv` for `timeout` seconds at most, whatever becomes of the controller.

    `become` goes in front (sudo, or nothing); the `guard`'s file is kept locked while the command runs.
    Messages come in English, and text in UTF-8.
    """
    # 0 would be no limit at all
    limit = ("timeout", f"--kill-after={KILL_AFTER}", f"{max(timeout, 0.001):g}")
    return "LC_ALL=C.UTF-8 " + shlex.join((*become, *_locked(guard), *limit, *argv))


def holding_line(argv: Sequence[str], *, become: Sequence[str], guard: Guard | None) -> str:
    """Return the line that runs `argv` until it ends by itself; the rest as in `command_line`."""
    return "LC_ALL=C.UTF-8 " + shlex.join((*become, *_locked(guard), *argv))


def _locked(guard: Guard | None) -> tuple[str, ...]:
    # --close: flock itself keeps the lock while the command runs; a daemon that the command starts would
    # inherit it and keep it for ever.
    return ("flock", "--shared", "--close", guard.path) if guard else ()
