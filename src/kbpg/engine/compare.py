"""The one comparison: what a resource wants against what is."""

from __future__ import annotations

from dataclasses import dataclass

from kbpg.engine.unexpected import explained
from kbpg.facts import Facts, NotKnown
from kbpg.model import Change, Impact, Placed, Status, Unknown


@dataclass(frozen=True)
class Comparison:
    """A placed resource, its difference (None when there is none) and what mending it would do.

    `lines` are the difference; without one, what is worth a remark all the same.
    """

    placed: Placed
    change: Change | None
    impact: Impact = Impact.NONE
    lines: tuple[str, ...] = ()

    @property
    def unknown(self) -> bool:
        """Return whether the present state could not be read."""
        return self.change is not None and isinstance(self.change.have, Unknown)

    @property
    def fixable(self) -> bool:
        """Return whether there is a difference that the resource's fix can work on now."""
        return self.change is not None and (not self.unknown or self.placed.resource.waits)

    @property
    def status(self) -> Status:
        """Return how the resource stands."""
        if self.change is None:
            return Status.OK
        return Status.UNKNOWN if self.unknown else Status.DIFFERS


def compare(placed: Placed, facts: Facts) -> Comparison:
    """Compare one resource; what cannot be known yet is a difference with a reason. Raises nothing."""
    try:
        return _compared(placed, facts)
    except NotKnown as silence:
        reason = silence.reason
    except Exception as error:  # noqa: BLE001 (one resource that fails here must not hide all the others)
        shown = explained(error)
        reason = "; ".join([shown.message, *shown.detail])
    change = Change(Unknown(reason), {})
    return Comparison(placed, change, lines=tuple(change.lines()))


def _compared(placed: Placed, facts: Facts) -> Comparison:
    resource = placed.resource
    want, have = resource.want(facts), resource.have(facts)
    if have == want:
        return Comparison(placed, None, lines=tuple(resource.remarks(facts)))
    change = Change(have, want)
    return Comparison(placed, change, resource.impact(change, facts), tuple(resource.diff(change, facts)))
