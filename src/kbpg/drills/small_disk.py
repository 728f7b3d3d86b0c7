"""Before and after the drill with the full disk: a standby on a small file system leads for a while."""

from __future__ import annotations

from kbpg.drills import disk
from kbpg.drills.ground import Ground
from kbpg.drills.waiting import await_whole
from kbpg.operations.switchover import switchover


def begin(ground: Ground, target: str) -> None:
    """Put the target's data on a small file system, and let it lead. Raises `KbpgError`."""
    ground.say(f"{target} gets a small file system, and leads")
    ground.links.ask(target, lambda host: disk.make_small(ground.context, host))
    await_whole(ground)
    switchover(ground.site, leaving=ground.leader(), to=target)
    await_whole(ground)


def end(ground: Ground, target: str) -> None:
    """See that the target is a standby, so that it may run on its own data again. Raises `KbpgError`."""
    if ground.leader() == target:
        switchover(ground.site, leaving=target)
        await_whole(ground)
