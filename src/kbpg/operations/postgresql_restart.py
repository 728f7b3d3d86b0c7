"""PostgreSQL is restarted on one node, through Patroni; where it leads, clients of the PgBouncers wait meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.operations.clients_wait import LENIENT, Manner, clients_wait
from kbpg.operations.patroni_change import change_by_rest
from kbpg.operations.pause_guard import bound
from kbpg.operations.switchover import checkpoint
from kbpg.operations.writable import Search
from kbpg.patroni import NodeFact

RETURN_DEADLINE = 120.0
"""Seconds for a node to stream again after a restart: crash recovery of a busy node takes a while."""
INTERVAL = 0.25
"""Seconds between two looks."""
START_TIMEOUT = 90
"""Seconds for a leader that is restarted in place to start, before Patroni gives its leadership away; without
a word of ours that would be primary_start_timeout, which is 0: it is meant for crashes."""


def restart_postgresql(site: Site, manner: Manner = LENIENT) -> dict[str, str]:
    """Restart PostgreSQL on `site.place` and return when Patroni says that it runs.

    A leader is restarted in place; clients of the connected PgBouncers wait, in this `manner`, until a write through
    their proxy has succeeded, and for the bound of a pause at most. Returns what is known of clients that may wait
    longer, by proxy, and says it. Raises `HostError`, `NotConverged` where transactions do not end.
    """
    node = NodeFact(site.context.inventory.ports.patroni)
    status = site.look({site.place: [node]}).known(node)
    if status is None or not status.leads:
        _ask(site, {})
        return {}
    checkpoint(site, site.place)
    with clients_wait(
        site, site.place, f"restart of PostgreSQL on {site.place}", manner, stays=True
    ) as clients:
        _ask(site, {"timeout": START_TIMEOUT})
        search = Search(site, site.place, clients.go_on)
        late = search.run(list(clients.each), clients.since + bound(site.context))
        site.say(
            f"{site.place} was restarted in place; clients waited {time.monotonic() - clients.since:.1f} s"
        )
    problems = {name: search.missed(name) for name in late} | clients.problems
    for name, problem in problems.items():
        site.say(f"{name}: {problem}")
    return problems


def _ask(site: Site, body: Mapping[str, int]) -> None:
    """Ask Patroni, and again where it still does something else with PostgreSQL, such as to demote it."""
    ends = time.monotonic() + RETURN_DEADLINE
    while True:
        try:
            change_by_rest(site.context, site.host, "POST", "/restart", body, RETURN_DEADLINE)
            return
        except HostError as error:
            if "already in progress" not in error.reason or time.monotonic() > ends:
                raise
        time.sleep(INTERVAL)
