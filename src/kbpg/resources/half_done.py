"""A rebuild of the consensus that was left half-way: nothing else may start or stop nodes until it is finished."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Facts
from kbpg.model import Change, Resource, Want
from kbpg.operations.raft_note import rebuild_note, started_in


class NoRebuildLeft(Resource):
    """No note of an unfinished `kbpg raft rebuild` is on this host.

    Some nodes then have an empty Raft directory, one may be without partners, and others still remember the old
    consensus: to start them as they are could make two of one cluster.
    """

    id = "raft:rebuild"

    def __init__(self, context: Context) -> None:
        self._fact = rebuild_note(context)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that there is none."""
        return {"unfinished since": "never"}

    def have(self, facts: Facts) -> Want:
        """Return since when there is one."""
        found = facts.get(self._fact)
        return {"unfinished since": "never" if found is None else started_in(found) or "an unknown time"}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what it is, and what to do."""
        return [
            f"a rebuild of the consensus is not finished: {'; '.join(change.lines())}",
            "hint: kbpg raft rebuild finishes it",
        ]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("a rebuild of the consensus is not finished", hint="kbpg raft rebuild")
