"""One drill from beginning to end: the cluster is whole, clients work, something breaks, and all is well again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from kbpg import sql
from kbpg.drills import note
from kbpg.drills.attempt import Access, Attempt
from kbpg.drills.catalogue import Drill
from kbpg.drills.client import TABLE, monotonic_since
from kbpg.drills.ground import Ground
from kbpg.drills.mending import perform
from kbpg.drills.observer import Look, Observer
from kbpg.drills.tally import Row, Tally, compare
from kbpg.drills.undo import Kind, Undo
from kbpg.drills.waiting import await_whole
from kbpg.drills.workload import DATABASE, Crowd, Workload
from kbpg.errors import KbpgError, Unreachable

WARM = 3.0
"""Seconds that clients work before something breaks: what is usual has to be seen first."""
TAIL = 2.0
"""Seconds that clients work after all is well."""
BEGIN = 30.0
"""Seconds for the first success of every client."""
AGAIN = 90.0
"""Seconds for every client to go on after a fault: four times the slowest that was measured."""
INSIDE_PAUSE = 0.05
"""Seconds between two writes of the client that is connected to the old leader itself."""
INSIDE_LONGEST = 300.0
"""Seconds that it stays connected at most."""
COUNT_TIMEOUT = 120.0
"""Seconds to read all rows."""


BETWEEN = note.Note("between two", "", (Undo(Kind.DATABASE),))
"""What is left to be taken back while nothing is broken."""


@dataclass(frozen=True)
class Event:
    """What happened when, in the drill's seconds."""

    at: float
    kind: str
    text: str


@dataclass
class Drilled:
    """A drill that was run. `problems` are why it did not pass; times in seconds."""

    drill: Drill
    target: str
    started: datetime
    fault_at: float = 0.0
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    attempts: dict[Access, list[Attempt]] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    tally: Tally | None = None
    problems: list[str] = field(default_factory=list)
    whole: bool = False

    @property
    def passed(self) -> bool:
        """Return whether nothing was lost and all is well."""
        return not self.problems

    @property
    def system_identifier(self) -> str:
        """Return that of the cluster's PostgreSQL, by the word of the node that led last; "" where none told it."""
        told = [look.node.system_identifier for look in self.looks if look.node and look.leads]
        return next((each for each in reversed(told) if each), "")


def run(ground: Ground, drill: Drill, crowd: Crowd, state: Path) -> Drilled:
    """Run one drill; `state` is where the note of it is kept. Raises `KbpgError` where it cannot even begin."""
    await_whole(ground)
    target = drill.aim(ground)
    undo = drill.undo(ground.context, target)
    note.write(state, note.Note(drill.name, target, (*undo, *BETWEEN.undo)))
    drill.prepare(ground, target)
    _fresh_table(ground)
    found = Drilled(drill, target, datetime.now(UTC))
    clock = monotonic_since(time.monotonic())
    workload = Workload(ground.context, crowd, clock)
    with Observer(ground.context, ground.links, clock) as observer:
        with _working(workload):
            _go_through(ground, found, workload, observer, clock)
        found.seconds = clock()
    found.attempts = {access: workload.attempts(access) for access in Access}
    found.looks = sorted(observer.looks, key=lambda look: look.at)
    _count(ground, found, workload.attempts(Access.POOLED, Access.DIRECT, Access.INSIDE))
    return found


@contextmanager
def _working(workload: Workload) -> Iterator[None]:
    workload.start()
    try:
        yield
    finally:
        workload.stop()


def _go_through(
    ground: Ground, found: Drilled, workload: Workload, observer: Observer, clock: Callable[[], float]
) -> None:
    """Warm up, break, wait, mend, wait; what goes wrong on the way is a problem of the drill, and it is mended."""
    drill, target = found.drill, found.target

    def happened(kind: str, text: str) -> None:
        found.events.append(Event(clock(), kind, text))
        ground.say(f"{clock() - found.fault_at:6.1f} s  {text}")

    workload.go_on(0.0, BEGIN)
    time.sleep(WARM)
    if drill.inside:
        workload.join(Access.INSIDE, lambda failed: _inside(ground, target), INSIDE_PAUSE)
        time.sleep(1.0)
    found.fault_at = clock()
    happened("fault", f"{target}: {drill.summary}" if target else drill.summary)
    try:
        _strike(ground, found, workload, happened, clock)
    except KbpgError as error:
        found.problems.append(error.message)
    if drill.mends:
        _mend(ground, found, happened)
    try:
        leader = await_whole(ground, observer)
        found.whole = True
        happened("redundant", f"{leader} leads, every other node streams, Raft is whole, both proxies serve")
        workload.go_on(clock() + TAIL, clock() + TAIL + BEGIN)
    except KbpgError as error:
        found.problems.append(error.message)


def _strike(
    ground: Ground,
    found: Drilled,
    workload: Workload,
    happened: Callable[[str, str], None],
    clock: Callable[[], float],
) -> None:
    """Break it, and wait until clients go on, or as long as it is to stay broken. Raises `KbpgError`."""
    drill = found.drill
    drill.strike(ground, found.target)
    after = clock() if drill.planned else found.fault_at
    if drill.planned:
        happened("done", "kbpg is done")
    if drill.recovers:
        workload.go_on(after + (drill.hold if drill.mends else 0.0), clock() + AGAIN)
    else:
        time.sleep(max(0.0, after + drill.hold - clock()))


def _mend(ground: Ground, found: Drilled, happened: Callable[[str, str], None]) -> None:
    """Take the fault back, by the acts that a killed drill is taken back by."""
    for act in found.drill.undo(ground.context, found.target):
        if act.kind is Kind.LARGE:
            continue  # once nobody works any more
        try:
            perform(act, ground.context, ground.links, ground.controller)
        except KbpgError as error:
            found.problems.append(error.message)
        else:
            happened("mended", act.text)


def end(ground: Ground, found: Drilled, state: Path) -> None:
    """Put away what the drill was prepared with. Raises `KbpgError`."""
    found.drill.finish(ground, found.target)
    for act in found.drill.undo(ground.context, found.target):
        if act.kind is Kind.LARGE:
            perform(act, ground.context, ground.links, ground.controller)
            await_whole(ground)
    note.write(state, BETWEEN)


# --- the drill's database ----------------------------------------------------------------------------------


def make_database(ground: Ground) -> None:
    """Make the drill's database, afresh, for the application's user. Raises `KbpgError`."""
    name, owner = Identifier(DATABASE), Identifier(ground.context.credentials.app_user)
    drop = SQL("drop database if exists {} with (force)").format(name)
    create = SQL("create database {} owner {}").format(name, owner)
    leader = ground.leader()
    ground.links.ask(leader, lambda host: sql.execute(host, ground.context.superuser(), drop, create))


def _fresh_table(ground: Ground) -> None:
    table, user = Identifier(TABLE), Identifier(ground.context.credentials.app_user)
    statements = (
        SQL("drop table if exists {}").format(table),
        SQL("create table {} (client int not null, n int not null)").format(table),
        # Not unique on purpose: a row that came twice must be seen
        SQL("create index on {} (client, n)").format(table),
        SQL("grant select, insert on {} to {}").format(table, user),
    )
    login, leader = ground.context.superuser(DATABASE), ground.leader()
    ground.links.ask(leader, lambda host: sql.execute(host, login, *statements))


def _inside(ground: Ground, name: str) -> AbstractContextManager[psycopg.Connection[Any]]:
    """Connect to the old leader's PostgreSQL itself, over SSH, past the proxies."""
    host = ground.links.connected.get(name)
    if host is None:
        raise Unreachable(name, "no connection")
    return sql.connect(host, ground.context.superuser(DATABASE), seconds=INSIDE_LONGEST)


def _count(ground: Ground, found: Drilled, attempts: Iterable[Attempt]) -> None:
    """Compare what clients were told with the rows on whoever leads now."""
    query = f"select client, n, count(*) from {TABLE} group by client, n"  # noqa: S608 (a constant)
    login = ground.context.superuser(DATABASE)
    try:
        leader = ground.leader()
        with sql.connect(ground.links.connected[leader], login, seconds=COUNT_TIMEOUT) as connection:
            rows = [Row(*row) for row in connection.execute(query.encode()).fetchall()]
    except (OSError, psycopg.Error, KbpgError, KeyError) as error:
        found.problems.append(f"the rows cannot be counted: {error}")
        return
    found.tally = compare(attempts, rows)
    found.problems += found.tally.problems
