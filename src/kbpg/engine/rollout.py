"""In which order the hosts of a stage are changed, and what must hold before and after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts
from kbpg.model import Impact


class Rollout(Protocol):
    """The order of a stage's hosts; `facts` are read on every db host before `waves` is asked."""

    facts: tuple[Fact[object], ...]

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return the places in groups; a group is changed side by side, the groups one after another."""
        ...

    def before(self, site: Site, impact: Impact) -> None:
        """Make sure that the host may be changed with this impact now, or raise `KbpgError`."""
        ...

    def after(self, site: Site, impact: Impact) -> None:
        """Wait until the host is back and the next may follow, or raise `KbpgError`."""
        ...


class AllAtOnce:
    """Every host side by side."""

    facts: tuple[Fact[object], ...] = ()

    def waves(self, impacts: Mapping[str, Impact], facts: Facts) -> Sequence[Sequence[str]]:
        """Return one group with every place."""
        return [list(impacts)]

    def before(self, site: Site, impact: Impact) -> None:
        """Nothing has to hold."""

    def after(self, site: Site, impact: Impact) -> None:
        """Nothing has to hold."""
