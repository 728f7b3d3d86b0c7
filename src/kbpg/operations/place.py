"""A place to work on outside of a run of the engine: fresh facts, and a line for what is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kbpg.engine.gather import gather_again
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, Knowledge
from kbpg.model import CLUSTER

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.hosts.port import Writer

Say = Callable[[str, str], None]
"""Gets a place and what goes on there."""


def site_of(context: Context, hosts: Mapping[str, Writer], controller: Writer, say: Say) -> Site:
    """Return the cluster as a place; `site.at(host)` is one of its hosts. `hosts` are the connected ones."""
    knowledge = Knowledge()

    def refresh(wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        gather_again(hosts, knowledge, wanted)

    def tell(text: str) -> None:
        say(CLUSTER, text)

    return Site(CLUSTER, hosts, controller, context, Facts(knowledge, CLUSTER), refresh, tell)
