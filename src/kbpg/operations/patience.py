"""How long a wait lasts: to a deadline, which a replica that is visibly being cloned puts off."""

from __future__ import annotations

import time

from kbpg.engine.site import Site
from kbpg.facts import NotKnown
from kbpg.layout import layout
from kbpg.operations.reinit import CLONE_RATE
from kbpg.operations.standing import RoomFact
from kbpg.patroni import CREATING, NodeFact, leader_of

SAY_EVERY = 60.0
"""Seconds between two lines about what is waited for."""


class Patience:
    """A wait of `seconds`, from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    def over(self) -> bool:
        """Return whether the wait has ended."""
        return time.monotonic() >= self._began + self.seconds


class ClonePatience(Patience):
    """A wait that goes on while Patroni says of a replica that it is being created, and for `seconds` after that.

    At most for `seconds` and what a clone of the leader's data takes at `CLONE_RATE`: the rule of a reinit. Whoever
    waits looks at every node's `NodeFact` before each question; the leader's size is asked once.
    """

    def __init__(self, site: Site, seconds: float) -> None:
        super().__init__(seconds)
        self._site, self._after = site, seconds
        self._node = NodeFact(site.context.inventory.ports.patroni)
        self._size: int | None = None
        self._says_at = self._began

    def over(self) -> bool:
        """Return whether the wait has ended, and say from time to time for whom it goes on. Raises `HostError`."""
        names, facts = self._site.context.db_names, self._site.facts
        statuses = {name: facts.known(self._node, name) for name in names}
        cloned = [name for name, status in statuses.items() if status and status.state == CREATING]
        if cloned:
            self._go_on(cloned)
        return super().over()

    def _go_on(self, cloned: list[str]) -> None:
        names = self._site.context.db_names
        try:
            leader = leader_of(self._site.facts, self._node, names)
        except NotKnown:
            return
        if self._size is None:
            self._size = self._size_on(leader)
        most = self._after + self._size / CLONE_RATE
        now = time.monotonic()
        waited = now - self._began
        self.seconds = max(self.seconds, round(min(waited + self._after, most)))
        if now >= self._says_at:
            self._says_at = now + SAY_EVERY
            verb = "clones" if len(cloned) == 1 else "clone"
            what = f"{', '.join(cloned)} {verb} the data of {leader}, {self._size >> 20} MB"
            self._site.say(f"{what}: waiting, {max(most - waited, 0) / 60:.0f} minutes more at most")

    def _size_on(self, leader: str) -> int:
        """Return the bytes of the leader's data directory, 0 where it does not tell."""
        paths = layout(self._site.context)
        room = RoomFact(paths.data, paths.pgdata)
        return (self._site.look({leader: (room,)}).known(room, leader) or (0, 0))[0]
