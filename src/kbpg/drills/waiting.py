"""Waiting until a cluster has all of its redundancy: every node, and every way in."""

from __future__ import annotations

import time

import psycopg

from kbpg.drills.ground import Ground
from kbpg.drills.observer import Observer
from kbpg.drills.workload import application
from kbpg.errors import HostError, NotConverged
from kbpg.operations import raft_members

WHOLE = 120.0
"""Seconds for a cluster to be whole again: measured: 20 to 50, and 100 after a partition."""
INTERVAL = 0.25
"""Seconds between two looks."""


def await_whole(ground: Ground, observer: Observer | None = None, seconds: float = WHOLE) -> str:
    """Wait until one node leads, all others stream, Raft is whole and every proxy serves; return who leads.

    Raises `NotConverged` with what is missing after `seconds`.
    """
    if observer is None:
        with Observer(ground.context, ground.links, time.monotonic) as own:
            return await_whole(ground, own, seconds)
    ends = time.monotonic() + seconds
    while missing := observer.lacking() or _unserved(ground) or _apart(ground):
        if time.monotonic() > ends:
            raise NotConverged(f"not whole again within {seconds:g} s: {missing}", hint="kbpg diagnose")
        time.sleep(INTERVAL)
    return observer.leader


def _unserved(ground: Ground) -> str:
    """Return which way in does not lead to the drill's database, "" where all do."""
    ports = ground.context.inventory.ports
    for proxy in ground.context.inventory.proxies:
        for port in (ports.pgbouncer, ports.primary, ports.replicas):
            try:
                with application(ground.context, str(proxy.address), port) as connection:
                    connection.execute("select 1")
            except (OSError, psycopg.Error):
                return f"{proxy.name} does not serve port {port}"
    return ""


def _apart(ground: Ground) -> str:
    """Return which member of Raft is without a partner, "" where all are connected: two alone elect nobody."""
    try:
        return "; ".join(raft_members.look(ground.site).apart)
    except HostError as error:
        return error.message
