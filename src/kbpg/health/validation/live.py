"""Things that are tried: rows written and read again, a search by index."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from kbpg import sql
from kbpg.health.validation.acceptance import Acceptance, Verdict, judged, skipped
from kbpg.health.validation.aside import NoResult, each
from kbpg.health.validation.trial import DIMENSIONS

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject

REPLAY_DEADLINE = 5.0
"""Seconds until a replica shows a row that was just acknowledged; measured: milliseconds."""
VECTORS = 5000
"""Rows enough that the planner takes the index by itself."""
NEAREST = 5

_ANY = "select id, embedding::text from {} where embedding is not null limit 1"
_VECTORS = """
insert into {table} (through, embedding)
select 'vector', array_agg(random())::vector({dimensions})
  from generate_series(1, {rows}) as r, generate_series(1, {dimensions}) as d group by r
"""


def write(subject: Subject, port: int) -> Verdict:
    """Judge whether a row is written through this port of every proxy, and read back there."""
    subject.trial.make()

    def attempt(proxy: str) -> float:
        through = f"{proxy}:{port}"
        with sql.connect(subject.hosts[proxy], subject.login(port), pooled=True) as connection:
            started = time.monotonic()
            connection.execute(insert(subject, through))
            took = time.monotonic() - started
            query = SQL("select count(*) from {} where through = {}").format(
                subject.trial.table, Literal(through)
            )
            row = connection.execute(query).fetchone()
        if row is None or row[0] != 1:
            raise NoResult("the row that was written is not there")
        return 1000 * took

    names = subject.context.proxy_names
    lost = subject.without(names)
    took, reasons = each([name for name in names if name not in lost], attempt)
    problems = [f"{proxy}: {reason}" for proxy, reason in {**lost, **reasons}.items()]
    evidence = [
        f"{proxy}: one row written and read back, {ms:.1f} ms until the commit" for proxy, ms in took.items()
    ]
    summary = f"written and read back through {len(took)} proxies"
    figures = {f"write through {proxy}:{port}": ms for proxy, ms in took.items()}
    return judged(problems, summary, evidence, **figures)


def write_pooled(subject: Subject) -> Verdict:
    """Judge writes through PgBouncer."""
    return write(subject, subject.context.inventory.ports.pgbouncer)


def write_direct(subject: Subject) -> Verdict:
    """Judge writes through HAProxy."""
    return write(subject, subject.context.inventory.ports.primary)


def insert(subject: Subject, through: str) -> Any:
    """Return the statement that writes one row."""
    return SQL("insert into {} (through) values ({})").format(subject.trial.table, Literal(through))


def replicated(subject: Subject) -> Verdict:
    """Judge whether a row written through either port is seen on every replica, and measure how soon."""
    subject.trial.make()
    ports = subject.context.inventory.ports
    replicas = [name for name in subject.context.db_names if name != subject.snapshot.leader]
    lost = subject.without(replicas)
    problems = [f"{name}: {reason}" for name, reason in lost.items()]
    evidence, figures = [], {}
    for port in (ports.pgbouncer, ports.primary):
        found, reasons = _seen(subject, port, [name for name in replicas if name not in lost])
        problems += [f"{name}, row through {port}: {reason}" for name, reason in reasons.items()]
        for name, (delay, trip) in found.items():
            evidence.append(
                f"{name}: a row written through {port} is there {delay:.1f} ms after its commit was acknowledged"
                f" (a round trip is {trip:.1f} ms)"
            )
            figures[f"visible on {name}, written through {port}"] = delay
    worst = max(figures.values(), default=0.0)
    return judged(problems, f"on {len(replicas)} replicas after at most {worst:.1f} ms", evidence, **figures)


def _seen(
    subject: Subject, port: int, replicas: list[str]
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Write one row and await it on the replicas; return milliseconds until it was there, and of a round trip."""
    through = f"replicas:{port}"
    query = SQL("select count(*) from {} where through = {}").format(subject.trial.table, Literal(through))
    login = subject.login(subject.context.inventory.ports.postgresql, admin=True)
    proxy = subject.proxy
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(sql.connect(subject.hosts[proxy], subject.login(port), pooled=True))
        readers = {n: stack.enter_context(sql.connect(subject.hosts[n], login)) for n in replicas}
        trips = {name: _trip(connection) for name, connection in readers.items()}
        writer.execute(insert(subject, through))
        acknowledged = time.monotonic()

        def await_row(name: str) -> tuple[float, float]:
            while True:
                with contextlib.suppress(psycopg.errors.UndefinedTable):
                    row = readers[name].execute(query).fetchone()
                    if row and row[0] == 1:
                        return 1000 * (time.monotonic() - acknowledged), trips[name]
                if time.monotonic() - acknowledged > REPLAY_DEADLINE:
                    raise NoResult(f"not there after {REPLAY_DEADLINE:g} s")
                time.sleep(0.001)

        return each(replicas, await_row, deadline=REPLAY_DEADLINE + 1)


def _trip(connection: psycopg.Connection[Any]) -> float:
    started = time.monotonic()
    connection.execute("select 1")
    return 1000 * (time.monotonic() - started)


def vector_search(subject: Subject) -> Verdict:
    """Judge whether nearest neighbours are found by an HNSW index that the planner takes by itself."""
    subject.trial.make()
    proxy = subject.proxy
    port = subject.context.inventory.ports.pgbouncer
    index = f"{subject.trial.name}_hnsw"
    with sql.connect(subject.hosts[proxy], subject.login(port), pooled=True) as connection:
        building = _fill(subject, connection, index)
        near = connection.execute(SQL(_ANY).format(subject.trial.table)).fetchone()
        if near is None:
            raise NoResult("the vectors that were written are not there")
        search = SQL("select id, embedding <-> {} as distance from {} order by 2 limit {}").format(
            Literal(near[1]), subject.trial.table, Literal(NEAREST)
        )
        explained = connection.execute(SQL("explain (format json) {}").format(search)).fetchone()
        started = time.monotonic()
        rows = connection.execute(search).fetchall()
        took = 1000 * (time.monotonic() - started)
    plan = _plan(explained[0] if explained else None)
    problems = [] if f"Index Scan using {index}" in plan else [f"the index is not used: {' → '.join(plan)}"]
    if not rows or rows[0] != (near[0], 0.0):
        problems.append(f"the nearest of a stored vector is not itself: {rows[:1]}")
    evidence = [
        f"{proxy} port {port}: {VECTORS} vectors of {DIMENSIONS}, index built in {building:.0f} ms",
        f"EXPLAIN: {' → '.join(plan)}",
        f"{len(rows)} nearest in {took:.1f} ms, distances {', '.join(f'{row[1]:.3f}' for row in rows)}",
    ]
    return judged(problems, f"the HNSW index answers in {took:.1f} ms", evidence, **{"vector search": took})


def _fill(subject: Subject, connection: psycopg.Connection[Any], index: str) -> float:
    """Write the vectors and build the index; return the milliseconds that the index took."""
    table = subject.trial.table
    connection.execute(
        SQL(_VECTORS).format(table=table, dimensions=Literal(DIMENSIONS), rows=Literal(VECTORS))
    )
    started = time.monotonic()
    connection.execute(
        SQL("create index {} on {} using hnsw (embedding vector_l2_ops)").format(Identifier(index), table)
    )
    took = time.monotonic() - started
    connection.execute(SQL("analyze {}").format(table))
    return 1000 * took


def _plan(explained: Any) -> list[str]:
    """Return the nodes of a plan, from the outermost."""
    document = json.loads(explained) if isinstance(explained, str) else explained
    node, names = (document or [{}])[0].get("Plan"), []
    while node:
        using = f" using {node['Index Name']}" if "Index Name" in node else ""
        names.append(f"{node['Node Type']}{using}")
        node = next(iter(node.get("Plans", ())), None)
    return names


def removed(subject: Subject) -> Verdict:
    """Judge whether the table that all this was tried on is gone again."""
    name = f"{subject.trial.schema}.{subject.trial.name}"
    if not subject.trial.made:
        return skipped("no table was made")
    found, reasons = each([name], lambda _: subject.trial.remove())
    problems = [text for text in (*found.values(), *reasons.values()) if text]
    return judged(problems, f"{name} is gone again", [f"drop table {name}"])


CHECKS = (
    Acceptance("write-pooled", "write through {ports.pgbouncer}", "Live tests", write_pooled, ("leader",)),
    Acceptance("write-direct", "write through {ports.primary}", "Live tests", write_direct, ("leader",)),
    Acceptance(
        "replicated", "what is written is read on every replica", "Live tests", replicated, ("leader",)
    ),
    Acceptance("vector", "vector query with an HNSW index", "Live tests", vector_search, ("leader",)),
)
LAST = Acceptance("removed", "the table of these tests is gone again", "Live tests", removed)
