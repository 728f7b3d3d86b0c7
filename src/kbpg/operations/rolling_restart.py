"""PostgreSQL is restarted on one node after another, gated as every rollout is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.model import Impact
from kbpg.operations.candidates import leader
from kbpg.operations.clients_wait import LENIENT
from kbpg.operations.postgresql_restart import restart_postgresql
from kbpg.patroni import NodeFact
from kbpg.resources.rolling import RestartOrder


@dataclass
class Restarted:
    """The db hosts that were restarted, in order, and what is known of clients that may wait longer, by proxy."""

    hosts: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def restart_nodes(
    site: Site, hosts: Sequence[str], *, pending: bool = False, without: Sequence[str] = ()
) -> Restarted:
    """Restart PostgreSQL on these db hosts, replicas first, the leader last, and return what came of it.

    With `pending` only where a parameter waits for it. The leader hands over first, except where a parameter
    shrinks that only its restart in place can shrink; clients of PgBouncer wait either way, but for those of the
    proxies `without`. Raises `Refused` without a leader, or where a node is not connected or its Patroni silent,
    `NotConverged` where the others are not well.
    """
    leader(site)
    missing = [name for name in site.context.db_names if name not in site.hosts]
    if missing:
        raise Refused(
            f"nothing is restarted while {', '.join(missing)} cannot be reached: it may be the only other copy",
            hint="kbpg diagnose",
        )
    manner = replace(LENIENT, without=without)
    node, rollout = NodeFact(site.context.inventory.ports.patroni), RestartOrder(site.context, manner)
    facts = site.look(dict.fromkeys(site.context.db_names, (node, *rollout.facts)))
    silent = [name for name in site.context.db_names if facts.known(node, name) is None]
    if silent:
        raise Refused(
            f"not restarted: Patroni on {' and '.join(silent)} does not answer", hint="kbpg diagnose"
        )
    chosen = [n for n in hosts if not pending or ((s := facts.known(node, n)) and s.pending_restart)]
    done = Restarted()
    for (place,) in rollout.waves(dict.fromkeys(chosen, Impact.RESTART), facts):
        there = site.at(place)
        rollout.before(there, Impact.RESTART)
        if not pending or _waits(there, node):
            site.say(f"{place}: PostgreSQL restarts")
            done.problems |= restart_postgresql(there, manner)
            done.hosts.append(place)
        rollout.after(there, Impact.RESTART)
    done.problems |= rollout.problems
    return done


def _waits(site: Site, node: NodeFact) -> bool:
    """Return whether a parameter waits for a restart here: a switchover has restarted the old leader."""
    status = site.look({site.place: [node]}).known(node)
    return status is None or status.pending_restart
