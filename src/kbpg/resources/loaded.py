"""That a running program has loaded the configuration on disk: a reload is a resource, not a trigger.

After a successful reload a marker is written that names the configuration's digest and the container that
loaded it. `File` removes the marker before it changes the file, so a run that dies in between leaves a
difference that the next run mends.
"""

from __future__ import annotations

from collections.abc import Callable

from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown
from kbpg.model import ABSENT, Change, Impact, Resource, Want
from kbpg.resources.configuration import Configuration
from kbpg.resources.docker import ContainersFact
from kbpg.resources.file import FileFact

Reload = Callable[[Site], None]


class Loaded(Resource):
    """The container runs with the configuration on disk; `reload` makes it so."""

    def __init__(self, config: Configuration, fact: ContainersFact, reload: Reload) -> None:
        self.id = f"loaded:{config.container}"
        self.config, self._containers, self._reload = config, fact, reload
        self._marker = FileFact(config.marker)
        self.facts = (fact, self._marker)

    def _running(self, facts: Facts) -> str:
        container = facts.get(self._containers).get(self.config.container)
        if container is None:
            raise NotKnown(f"waits for container {self.config.container}")
        return str(container["Id"])[:12]

    def want(self, facts: Facts) -> Want:
        """Return the digest on disk and the container there is."""
        return {"config": self.config.digest, "container": self._running(facts)}

    def have(self, facts: Facts) -> Want:
        """Return what the marker says was loaded last, and by which container."""
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
        """Reload, then say so in the marker; nothing where the container was started since and has read it."""
        facts = site.look({site.place: self.facts})
        if self.have(facts) == self.want(facts):
            return
        running = self._running(facts)
        self._reload(site)
        site.host.write(self.config.marker, self.config.text(running), owner="0:0", mode=0o600)
