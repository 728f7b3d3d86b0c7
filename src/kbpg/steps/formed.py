"""The wait for a whole cluster: one leader, every other node streaming from it."""

from __future__ import annotations

from kbpg import patroni
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown
from kbpg.layout import PATRONI
from kbpg.model import State
from kbpg.patroni import NodeFact
from kbpg.resources.container import log_lines
from kbpg.resources.probe import Probe

FORM_DEADLINE = 180.0
"""Seconds until one node leads and the others stream, besides what clones take. Measured on empty hosts: 7 s."""


def formed(context: Context) -> Probe:
    """Return the wait for one leader and every other node streaming from it, but for those `--limit` leaves out."""
    names, left = context.db_names, context.left_out
    node = NodeFact(context.inventory.ports.patroni)

    def lacking(facts: Facts) -> list[str]:
        """Return who neither leads nor streams. Raises `NotKnown`."""
        leader = patroni.leader_of(facts, node, names)
        streaming = patroni.streaming_of(facts, node, leader)
        return [name for name in names if name != leader and name not in streaming]

    def see(facts: Facts) -> State:
        away = lacking(facts)
        if left:
            return {"leaders": 1, "not streaming": ", ".join(n for n in away if n not in left) or "none"}
        return {"leaders": 1, "streaming": len(names) - 1 - len(away)}

    def remarks(facts: Facts) -> list[str]:
        try:
            away = lacking(facts)
        except NotKnown:
            return []
        missing = [name for name in away if name in left]
        streaming = f"{len(names) - 1 - len(away)} of {len(names) - 1} replicas streaming"
        return [f"{streaming}; {', '.join(missing)} {verb(missing)} left out by --limit"] if missing else []

    def evidence(site: Site) -> list[str]:
        lines = []
        for name in names:
            found = site.facts.known(node, name)
            shown = f"{found.role}, {found.state}" if found else "no answer from Patroni"
            lines += [f"{name}: {shown}", *(f"  {line}" for line in log_lines(site, PATRONI, name))]
        return lines

    title = f"1 leader, {len(names) - 1} streaming"
    wanted: State = {"leaders": 1, "streaming": len(names) - 1}
    if left:
        title = f"1 leader, the others streaming, {', '.join(left)} left out by --limit"
        wanted = {"leaders": 1, "not streaming": "none"}
    sources = [(name, node) for name in names]
    return Probe(
        title,
        wanted,
        see,
        sources,
        deadline=FORM_DEADLINE,
        evidence_of=evidence,
        remarks_of=remarks,
        clones=True,
    )


def verb(names: list[str]) -> str:
    """Return "is" or "are"."""
    return "is" if len(names) == 1 else "are"
