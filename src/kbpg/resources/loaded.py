"""That a running program has loaded the configuration on disk: a reload is a resource, not a trigger.

After a successful reload a marker is written that names the configuration's digest and the container that
loaded it. `File` removes the marker before it changes the file, so a run that dies in between leaves a
difference that the next run mends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts
from kbpg.model import ABSENT, Change, Impact, Resource, Want
from kbpg.resources.configuration import Configuration
from kbpg.resources.container import Container
from kbpg.resources.docker import ContainersFact
from kbpg.resources.file import File, FileFact

Reload = Callable[[Site], None]


class Loaded(Resource):
    """The container runs with the configuration on disk; `reload` makes it so.

    While a file is not yet as wanted, or the container is missing, nothing is said here: mending those makes
    the difference (or, by starting the container, removes it), and the next comparison finds it.
    """

    def __init__(
        self, config: Configuration, fact: ContainersFact, reload: Reload, files: Sequence[File] = ()
    ) -> None:
        self.id = f"loaded:{config.container}"
        self.config, self._containers, self._reload, self._files = config, fact, reload, tuple(files)
        self._marker = FileFact(config.marker)
        self.facts = (fact, self._marker)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask for the container, the marker, and the files."""
        yield from ((place, fact) for fact in self.facts)
        for file in self._files:
            yield from file.asks(place, context)

    def _running(self, facts: Facts) -> str | None:
        container = facts.get(self._containers).get(self.config.container)
        return str(container["Id"])[:12] if container else None

    def want(self, facts: Facts) -> Want:
        """Return the digest of the wanted files and the container there is."""
        return {"config": self.config.digest, "container": self._running(facts) or "none"}

    def have(self, facts: Facts) -> Want:
        """Return what the marker says was loaded last, and by which container."""
        if self._running(facts) is None or any(f.have(facts) != f.want(facts) for f in self._files):
            return self.want(facts)
        found = facts.get(self._marker)
        if found is None or found.text is None:
            return ABSENT
        words = dict(word.split("=", 1) for word in found.text.split() if "=" in word)
        return {"config": words.get("config", "?"), "container": words.get("container", "?")}

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return what a reload does."""
        return Impact.RELOAD

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return that they differ; digests over files with passwords are not shown."""
        return ["the configuration on disk is not loaded"]

    def fix(self, site: Site, change: Change) -> None:
        """Reload, then say so in the marker; nothing, where the container was just started in the same stage."""
        facts = site.look({site.place: self.facts})
        if self.have(facts) == self.want(facts):
            return
        self._reload(site)
        running = self._running(facts) or ""
        site.host.write(self.config.marker, self.config.text(running), owner="0:0", mode=0o600)


class LoadedAhead(Loaded):
    """The same, of a container that is about to be replaced: what the others need of it must not wait for that.

    `answers` tells whether the program takes a reload now; where it does not, or where the container stays, there is
    nothing to say: `Loaded` comes after the container.
    """

    def __init__(self, loaded: Loaded, container: Container, answers: Fact[object]) -> None:
        super().__init__(loaded.config, loaded._containers, loaded._reload, loaded._files)
        self.id = f"loaded ahead:{self.config.container}"
        self._container, self._answers = container, answers
        self.facts = (*self.facts, answers)

    def have(self, facts: Facts) -> Want:
        """Return what was loaded last, where that container runs, answers, and is not to stay."""
        stays = self._container.have(facts) == self._container.want(facts)
        if stays or facts.known(self._answers) is None:
            return self.want(facts)
        return super().have(facts)
