"""What one run knows of its hosts: asked once, asked again where a fix has made it stale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kbpg.context import Context
from kbpg.engine.gather import gather, gather_again
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, Knowledge
from kbpg.hosts.port import Writer
from kbpg.model import CLUSTER, Placed

Wanted = Mapping[str, Sequence[Fact[object]]]


class Reading:
    """The connected hosts and all answers so far. `note(place, text)` is told what goes on at a place."""

    def __init__(
        self,
        context: Context,
        hosts: Mapping[str, Writer],
        controller: Writer,
        note: Callable[[str, str], None],
    ) -> None:
        self.context, self.hosts, self.controller = context, hosts, controller
        self.knowledge = Knowledge()
        self._note = note
        self._live: set[str] = set()

    def asks(self, item: Placed) -> list[tuple[str, Fact[object]]]:
        """Return what a resource needs asked, and where."""
        return list(item.resource.asks(item.place, self.context))

    def gather(self, items: Iterable[Placed]) -> None:
        """Ask, in one pass over all hosts, what `items` need and nobody has been asked yet."""
        wanted: dict[str, list[Fact[object]]] = {}
        for item in items:
            for name, fact in self.asks(item):
                wanted.setdefault(name, []).append(fact)
                if fact.live:
                    self._live.add(fact.key)
        self.ask(wanted)

    def ask(self, wanted: Wanted) -> None:
        """Ask what has not been asked yet."""
        gather(self.hosts, self.knowledge, wanted)

    def refresh(self, wanted: Wanted) -> None:
        """Ask again."""
        gather_again(self.hosts, self.knowledge, wanted)

    def forget(self, items: Iterable[Placed]) -> None:
        """Drop what fixes made stale: all of their hosts' facts, what they looked at, live facts anywhere."""
        for item in items:
            self.knowledge.forget(item.place)
            for name, fact in self.asks(item):
                self.knowledge.drop(name, {fact.key})
            if item.place == CLUSTER:
                for name in self.context.db_names:
                    self.knowledge.forget(name)
        self.knowledge.forget_keys(self._live)

    def facts(self, place: str) -> Facts:
        """Return what is known, as seen from a place."""
        return Facts(self.knowledge, place)

    def site(
        self, place: str, hosts: Mapping[str, Writer] | None = None, controller: Writer | None = None
    ) -> Site:
        """Return where a fix at `place` works; `hosts` and `controller` may be ones that record what is done."""
        note = self._note
        return Site(
            place,
            self.hosts if hosts is None else hosts,
            controller or self.controller,
            self.context,
            self.facts(place),
            self.refresh,
            lambda text: note(place, text),
        )
