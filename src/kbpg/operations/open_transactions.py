"""Transactions that have been open for a while: PAUSE would wait for them, and all other clients with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.errors import NotConverged
from kbpg.resources.sql_facts import RowsFact

QUIET_DEADLINE = 30.0
"""Seconds to wait for a moment without a long one, while clients go on."""
INTERVAL = 0.5
"""Seconds between two looks."""

# Long is what is open for a second: shorter ones end within a pause that nobody minds. The address is the proxy's
# for whoever comes through one. Never the statement: it may hold data.
_QUERY = (
    "select pid, usename, datname, state, extract(epoch from clock_timestamp() - xact_start)::int,"
    " host(client_addr) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    " and xact_start < clock_timestamp() - interval '1 s' and usename is not null order by xact_start"
)


@dataclass(frozen=True)
class Open:
    """A transaction on the leader that has been open for `seconds`; `proxy` is where it came through."""

    pid: int
    user: str
    database: str
    state: str
    seconds: int
    proxy: str

    def text(self) -> str:
        """Return it in a line."""
        return (
            f"pid {self.pid}: {self.user} on {self.database} through {self.proxy}, {self.state}, "
            f"open for {self.seconds} s"
        )


def long_open(site: Site, leader: str, proxies: Sequence[str]) -> list[Open]:
    """Return the long transactions on `leader` that came through these proxies, the oldest first."""
    fact = RowsFact(site.context.superuser(), "open transactions", _QUERY, live=True)
    rows = site.look({leader: (fact,)}).known(fact, leader) or ()
    names = {str(site.context.inventory.host(name).address): name for name in proxies}
    return [
        Open(int(pid), str(user), str(database), str(state), int(seconds), names[str(address)])
        for pid, user, database, state, seconds, address in rows
        if str(address) in names
    ]


def await_quiet(site: Site, leader: str, proxies: Sequence[str]) -> None:
    """Wait until no long transaction is open. Raises `NotConverged` with those that are, at the deadline."""
    ends, told = time.monotonic() + QUIET_DEADLINE, False
    while found := long_open(site, leader, proxies):
        if time.monotonic() > ends:
            raise NotConverged(
                f"transactions on {leader} did not end within {QUIET_DEADLINE:g} s, so nothing was done",
                detail=[each.text() for each in found],
                hint=f"wait until they have ended, or end one: select pg_terminate_backend({found[0].pid})",
            )
        if not told:
            site.say(f"waits for {len(found)} open transactions, such as {found[0].text()}")
            told = True
        time.sleep(INTERVAL)
