"""The read side, tried: reads come from a replica, and a write is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from kbpg import sql
from kbpg.health.validation.acceptance import Acceptance, Verdict, judged
from kbpg.health.validation.aside import NoResult, each
from kbpg.health.validation.live import insert
from kbpg.inventory import read_name

if TYPE_CHECKING:
    from kbpg.facts import Login
    from kbpg.health.validation.subject import Subject

READ_ONLY = "25006"
"""SQLSTATE read_only_sql_transaction."""


def read_direct(subject: Subject) -> Verdict:
    """Judge reads through HAProxy."""
    port = subject.context.inventory.ports.replicas
    return read_only(subject, subject.login(port), str(port))


def read_pooled(subject: Subject) -> Verdict:
    """Judge reads through PgBouncer."""
    inventory = subject.context.inventory
    name = read_name(inventory.cluster.database)
    return read_only(subject, subject.login(inventory.ports.pgbouncer, database=name), name)


def read_only(subject: Subject, login: Login, way: str) -> Verdict:
    """Judge whether this login to every proxy reads, from a replica, and is refused a write."""
    subject.trial.make()

    def attempt(proxy: str) -> str:
        with sql.connect(subject.hosts[proxy], login, pooled=True) as connection:
            replica, address = sql.ask(connection, "select pg_is_in_recovery(), host(inet_server_addr())")[0]
            host = subject.snapshot.by_address.get(str(address), str(address))
            if not replica:
                raise NoResult(f"leads to {host}, which takes writes")
            try:
                connection.execute(insert(subject, "read-only"))
            except psycopg.errors.ReadOnlySqlTransaction as error:
                return (
                    f"reads from {host}; a write is refused ({error.sqlstate}: {error.diag.message_primary})"
                )
        raise NoResult(f"{host} took a write")

    names = subject.context.proxy_names
    lost = subject.without(names)
    said, reasons = each([name for name in names if name not in lost], attempt)
    problems = [f"{proxy}: {reason}" for proxy, reason in {**lost, **reasons}.items()]
    problems += [f"{proxy}: {text}" for proxy, text in said.items() if f"({READ_ONLY}:" not in text]
    summary = f"{way} reads from a replica and refuses writes ({READ_ONLY})"
    return judged(problems, summary, [f"{proxy}: {text}" for proxy, text in said.items()])


CHECKS = (
    Acceptance(
        "read-only",
        "read-only endpoint {ports.replicas} is really read-only",
        "Live tests",
        read_direct,
        ("leader",),
    ),
    Acceptance(
        "read-only-pooled",
        "read-only database {reads} on {ports.pgbouncer} is really read-only",
        "Live tests",
        read_pooled,
        ("leader",),
    ),
)
