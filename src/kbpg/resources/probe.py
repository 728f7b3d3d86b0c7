"""Waiting is a resource: a condition that has to come true by itself, within a deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import NotConverged
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.model import Change, Have, Resource, State, Unknown, Want
from kbpg.operations.patience import ClonePatience, Patience

Sources = Sequence[tuple[str, Fact[object]]]


class Probe(Resource):
    """`see(facts)` must become `wanted` within `deadline` seconds.

    `sources` are the facts it looks at, each with its host. `evidence_of` tells more when it does not come
    true: "timeout" alone tells nobody anything. `remarks_of` tells what it does without where it is so. `clones`: a
    replica that is being cloned, which every db host's `NodeFact` among the sources tells, puts the deadline off.
    """

    waits = True

    def __init__(
        self,
        name: str,
        wanted: State,
        see: Callable[[Facts], State],
        sources: Sources,
        *,
        deadline: float,
        evidence_of: Callable[[Site], list[str]] | None = None,
        remarks_of: Callable[[Facts], list[str]] | None = None,
        clones: bool = False,
    ) -> None:
        self.id = f"probe:{name}"
        self._wanted, self._see, self._sources = wanted, see, tuple(sources)
        self._deadline, self._clones = deadline, clones
        self._evidence_of, self._remarks_of = evidence_of, remarks_of

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Return the sources."""
        return self._sources

    def want(self, facts: Facts) -> Want:
        """Return what must be seen."""
        return self._wanted

    def have(self, facts: Facts) -> Want:
        """Return what is seen. Raises `NotKnown`."""
        return self._see(facts)

    def remarks(self, facts: Facts) -> list[str]:
        """Return what is not asked for, as `--limit` leaves it out."""
        return self._remarks_of(facts) if self._remarks_of else []

    def _seen(self, facts: Facts) -> Have:
        try:
            return self._see(facts)
        except NotKnown as reason:
            return Unknown(reason.reason)

    def fix(self, site: Site, change: Change) -> None:
        """Look until it is so. Raises `NotConverged` at the deadline."""
        self.until(site)

    def until(self, site: Site) -> None:
        """Look until it is so. Raises `NotConverged` at the deadline, with what was seen last, `HostError` of a host
        whose connection has ended meanwhile.
        """
        patience = ClonePatience(site, self._deadline) if self._clones else Patience(self._deadline)
        by_host: dict[str, list[Fact[object]]] = {}
        for host, fact in self._sources:
            by_host.setdefault(host, []).append(fact)
        have: Have = Unknown("was not looked at")
        for _ in site.looks(each=by_host, over=patience.over):
            site.look(by_host)
            have = self._seen(site.facts)
            if have == self._wanted:
                return
        seen = "; ".join(Change(have, self._wanted).lines())
        raise NotConverged(f"not so within {patience.seconds:g} s: {seen}")

    def evidence(self, site: Site) -> list[str]:
        """Return what explains it."""
        return self._evidence_of(site) if self._evidence_of else []
