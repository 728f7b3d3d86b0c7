"""Where a drill takes place: the cluster's hosts, and whoever leads it at the moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kbpg.context import Context
from kbpg.drills.links import Links
from kbpg.engine.site import Site
from kbpg.hosts.port import Writer
from kbpg.operations.candidates import candidates, leader
from kbpg.operations.place import site_of


@dataclass(frozen=True)
class Ground:
    """What a fault is made on. `say` gets a line for people."""

    context: Context
    links: Links
    controller: Writer
    say: Callable[[str], None]

    @property
    def site(self) -> Site:
        """Return the connected hosts as operations want them."""
        return site_of(
            self.context,
            self.links.connected,
            self.controller,
            lambda place, text: self.say(f"{place}: {text}"),
        )

    def leader(self) -> str:
        """Return who leads. Raises `Refused` without one."""
        return leader(self.site)

    def replica(self) -> str:
        """Return the best replica. Raises `Refused` without a leader."""
        site = self.site
        return candidates(site, leader(site))[0].name

    def proxy(self) -> str:
        """Return the first proxy."""
        return self.context.proxy_names[0]

    def everything(self) -> str:
        """Return "": the drill is about the whole cluster."""
        return ""
