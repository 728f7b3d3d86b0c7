"""No pause of PgBouncer's clients was left by a kbpg that could not end it itself."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import Change, Resource, Want
from kbpg.operations.left_pauses import end
from kbpg.operations.pause_guard import Left, note_fact, read_note


class PauseEnded(Resource):
    """No note of a pause is on this proxy: a guard that had to act leaves it, to be told of once."""

    id = "pgbouncer:pause"

    def __init__(self, context: Context) -> None:
        self._fact = note_fact(context)
        self.facts = (self._fact,)

    def left(self, facts: Facts) -> Left | None:
        """Return what was left; None where nothing was."""
        found = facts.get(self._fact)
        return read_note(found.text) if found else None

    def want(self, facts: Facts) -> Want:
        """Return that there is none."""
        return {"unfinished": False}

    def have(self, facts: Facts) -> Want:
        """Return whether there is one."""
        return {"unfinished": self.left(facts) is not None}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what the note says."""
        left = self.left(facts)
        return ["an earlier kbpg did not end a pause of PgBouncer:", *(left.lines if left else ())]

    def fix(self, site: Site, change: Change) -> None:
        """Let clients go on where the guard could not, and forget it."""
        left = self.left(site.facts)
        end(site, site.place, resume=left is None or not left.ended)
