"""Before and after the drill with the full disk: a replica on a small file system leads for a while."""

from __future__ import annotations

import time

from kbpg.drills import disk
from kbpg.drills.ground import Ground
from kbpg.drills.waiting import await_whole
from kbpg.errors import NotConverged
from kbpg.operations.candidates import candidates
from kbpg.operations.switchover import switchover

FIT = 60.0
"""Seconds for a replica that has just started to be synchronous."""
INTERVAL = 0.5
"""Seconds between two looks."""


def begin(ground: Ground, target: str) -> None:
    """Put the target's data on a small file system, and let it lead. Raises `KbpgError`."""
    ground.say(f"{target} gets a small file system, and leads")
    ground.links.ask(target, lambda host: disk.make_small(ground.context, host))
    await_whole(ground)
    _await_fit(ground, target)
    switchover(ground.site, leaving=ground.leader(), to=target)
    await_whole(ground)


def _await_fit(ground: Ground, target: str) -> None:
    """Wait until the target may take over. Raises `NotConverged` with what it lacks."""
    ends = time.monotonic() + FIT
    while lack := next(c.why_not for c in candidates(ground.site, ground.leader()) if c.name == target):
        if time.monotonic() > ends:
            raise NotConverged(f"{target} cannot take over: {lack}", hint="kbpg diagnose")
        time.sleep(INTERVAL)


def end(ground: Ground, target: str) -> None:
    """See that the target is a replica, so that it may run on its own data again. Raises `KbpgError`."""
    if ground.leader() == target:
        switchover(ground.site, leaving=target)
        await_whole(ground)
