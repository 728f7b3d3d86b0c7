"""Patroni's pause: somebody works by hand on the cluster, and kbpg keeps out of it."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Facts
from kbpg.model import Change, Resource, Want
from kbpg.patroni import NodeFact


class NotPaused(Resource):
    """Patroni is not paused. A node that does not answer does not say that it is."""

    id = "patroni:pause"

    def __init__(self, context: Context) -> None:
        self._node = NodeFact(context.inventory.ports.patroni)
        self.facts = (self._node,)

    def want(self, facts: Facts) -> Want:
        """Return that it is not."""
        return {"paused": False}

    def have(self, facts: Facts) -> Want:
        """Return what the node says."""
        node = facts.known(self._node)
        return {"paused": bool(node and node.paused)}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what it means, and what to do."""
        return [
            "Patroni is paused: somebody works on this cluster by hand",
            "hint: when that is done: kbpg resume",
        ]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("Patroni is paused")
