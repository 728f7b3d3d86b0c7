"""Whether the cluster is born: Patroni may initialise one only while no db host knows or holds any."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.layout import Layout
from kbpg.model import ABSENT, Change, Resource, Want
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact, Ownership
from kbpg.resources.identity import record_path


def _facts(base_dir: str) -> tuple[FileFact, DataFact]:
    return FileFact(record_path(base_dir)), DataFact(Layout(base_dir).data)


def signs(context: Context) -> Sequence[tuple[str, Fact[object]]]:
    """Return what has to be asked to know it: every db host's record and data."""
    both = _facts(context.inventory.cluster.base_dir)
    return [(name, fact) for name in context.db_names for fact in both]


def born(context: Context, facts: Facts) -> bool:
    """Return whether any db host records or holds a system identifier.

    A host that does not tell counts as one that does: two empty hosts are a quorum, and would give birth to a
    second cluster while the third, which holds the data, is away.
    """
    record, data = _facts(context.inventory.cluster.base_dir)
    for name in context.db_names:
        try:
            found, state = facts.get(record, name), facts.get(data, name)
        except NotKnown:
            return True
        if Ownership.of(found.text if found else None).system_identifier:
            return True
        if state.system_identifier or not state.readable:
            return True
    return False


class Removed(Resource):
    """Nothing is at `path` any more: what was there has served its purpose earlier in the same step."""

    def __init__(self, path: str) -> None:
        self.id = f"removed:{path}"
        self._path, self._fact = path, FileFact(path)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that nothing is there."""
        return ABSENT

    def have(self, facts: Facts) -> Want:
        """Return whether something is."""
        return ABSENT if facts.get(self._fact) is None else {"file": "present"}

    def fix(self, site: Site, change: Change) -> None:
        """Remove the file."""
        site.host.run(["rm", "-f", self._path])
