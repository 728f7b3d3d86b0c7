"""A query is cancelled through either PgBouncer: also when the request reaches another one than the query did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from kbpg import sql
from kbpg.health.validation.acceptance import Acceptance, Verdict, judged
from kbpg.health.validation.aside import NoResult, each
from kbpg.hosts.forward import Forward

if TYPE_CHECKING:
    import socket

    from kbpg.health.validation.subject import Subject
    from kbpg.hosts.port import Reader

SLEEP = 20
"""Seconds the query would sleep; nothing waits for the end of it."""
STARTED_DEADLINE = 5.0
"""Seconds until the query is seen running."""
CANCELLED = 5.0
"""Seconds from the request until the client knows; measured: milliseconds."""


@dataclass
class _Way:
    """Where the next connection of a forwarder leads: libpq sends a cancel request to where the query went."""

    host: Reader
    port: int

    def dial(self) -> socket.socket:
        return self.host.dial(self.port)


def cancel(subject: Subject) -> Verdict:
    """Judge whether every query is cancelled, from its own proxy and from the next one."""
    names = [name for name in subject.context.proxy_names if name in subject.hosts]
    lost = subject.without(subject.context.proxy_names)
    pairs = [(a, b) for i, a in enumerate(names) for b in dict.fromkeys((a, names[(i + 1) % len(names)]))]
    took, reasons = each(pairs, lambda pair: _cancel(subject, *pair))
    problems = [f"{name}: {reason}" for name, reason in lost.items()]
    problems += [f"query through {a}, cancel through {b}: {reason}" for (a, b), reason in reasons.items()]
    evidence = [
        f"query through {a}, cancel through {b}: cancelled after {ms:.0f} ms (57014)"
        for (a, b), ms in took.items()
    ]
    worst = max(took.values(), default=0.0)
    figures = {f"cancel of {a} through {b}": ms for (a, b), ms in took.items()}
    return judged(problems, f"all {len(took)} ways, after at most {worst:.0f} ms", evidence, **figures)


def _cancel(subject: Subject, query: str, request: str) -> float:
    """Run a query through one proxy and cancel it through another; return the milliseconds it took."""
    mark = f"{subject.trial.name} {query} {request}"
    way = _Way(subject.hosts[query], subject.context.inventory.ports.pgbouncer)
    with (
        Forward(way.dial) as local,
        sql.through(way.host, subject.login(way.port), local, named=False) as connection,
    ):
        way.host = subject.hosts[request]

        def ask_to_cancel() -> float:
            _await_running(subject, mark)
            asked = time.monotonic()
            connection.cancel_safe(timeout=CANCELLED)
            return asked

        parts = {"sleep": lambda: _sleep(connection, mark), "cancel": ask_to_cancel}
        moments, reasons = each(parts, lambda part: parts[part](), deadline=STARTED_DEADLINE + CANCELLED)
    if reasons:
        raise NoResult("; ".join(reasons.values()))
    return 1000 * (moments["sleep"] - moments["cancel"])


def _sleep(connection: psycopg.Connection[Any], mark: str) -> float:
    """Sleep in the server until somebody cancels it; return when that was. Raises `NoResult` without a cancel."""
    try:
        connection.execute(f"select pg_sleep({SLEEP}) /* {mark} */".encode())
    except psycopg.errors.QueryCanceled:
        return time.monotonic()
    raise NoResult(f"was not cancelled within {SLEEP} s")


def _await_running(subject: Subject, mark: str) -> None:
    """Wait until the leader runs the query; a request that comes before it would be lost."""
    host = subject.hosts[str(subject.snapshot.leader)]
    login = subject.login(subject.context.inventory.ports.postgresql, admin=True)
    query = (
        "select count(*) from pg_catalog.pg_stat_activity"
        " where state = 'active' and pid <> pg_backend_pid() and query like '%%' || %s || '%%'"
    )
    ends = time.monotonic() + STARTED_DEADLINE
    with sql.connect(host, login) as connection:
        while time.monotonic() < ends:
            row = connection.execute(query, (f"/* {mark} */",)).fetchone()
            if row and row[0]:
                return
            time.sleep(0.02)
    raise NoResult(f"the query did not run within {STARTED_DEADLINE:g} s")


CHECKS = (Acceptance("cancel", "cancel works through either PgBouncer", "Live tests", cancel, ("leader",)),)
