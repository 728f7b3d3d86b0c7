"""What `kbpg drill` does and shows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kbpg.cli.opening import working
from kbpg.console import Console, Line, Style
from kbpg.drills import measured, note
from kbpg.drills import run as running
from kbpg.drills.catalogue import ALL, Drill
from kbpg.drills.document import Document, Drills, build
from kbpg.drills.ground import Ground
from kbpg.drills.links import Links
from kbpg.drills.mending import perform
from kbpg.drills.ordering import Order, allowed, sequence
from kbpg.drills.workload import Crowd
from kbpg.errors import Exit, KbpgError, Refused
from kbpg.inventory import Inventory, load
from kbpg.options import Options
from kbpg.report import prepare
from kbpg.report.files import DRILL_FILES, write


def listed(options: Options) -> int:
    """Print every drill, and return the exit code. No inventory is needed."""
    with Console(color=options.color, mask=options.masked) as console:
        if options.json:
            console.data(
                [{"name": drill.name, "title": drill.title, "summary": drill.summary} for drill in ALL]
            )
        else:
            width = max(len(drill.name) for drill in ALL)
            console.result([Line(f"{drill.name:<{width}}  {_described(drill)}") for drill in ALL])
            console.say(
                [Line("kbpg drill NAME..., kbpg drill all, kbpg drill random --minutes 10", Style.HINT)]
            )
    return int(Exit.OK)


def _described(drill: Drill) -> str:
    return drill.summary + (" (lab only)" if drill.lab else "")


def run(options: Options, order: Order, directory: Path | None, i_mean_it: str, clients: int) -> int:
    """Run drills, show what came of each, write the report, and return the exit code.

    Raises `InputError` before a connection is opened, `KbpgError`.
    """
    inventory = load(options.inventory)
    drills = allowed(order, inventory, i_mean_it)
    if order.random and order.seed is None:
        order = Order(order.names, order.times, order.minutes, random.randrange(1_000_000))  # noqa: S311
    if directory is not None:
        prepare(directory)
    crowd = Crowd(pooled=clients)
    with Console(color=options.color, mask=options.masked) as console:
        found = _all(options, console, order, drills, crowd)
        document = build(found, inventory)
        written = write(directory, document, DRILL_FILES) if directory is not None else []
        if options.json:
            console.data(document)
        else:
            console.result(shown(document))
            console.say([Line(f"wrote {path}", Style.QUIET) for path in written])
    return int(Exit.OK if found.passed else Exit.FAILED)


def _all(options: Options, console: Console, order: Order, drills: Sequence[Drill], crowd: Crowd) -> Drills:
    """Run them one after the other, until one leaves the cluster less than whole."""
    started, began, done, problem = datetime.now(UTC), time.monotonic(), list[running.Drilled](), ""
    with (
        working(options, console, "drill", lock=True, credentials_exist=True) as session,
        note.under_way(options.state),
        Links(session.context.inventory, options, session.journal, session.hosts) as links,
    ):
        console.rest()
        ground = Ground(session.context, links, session.controller, _says(console))
        with _database(ground, options.state):
            for drill in sequence(order, drills):
                console.say([Line(f"{drill.name}: {drill.title}", Style.TITLE)])
                try:
                    found = running.run(ground, drill, crowd, options.state)
                    done.append(found)
                    console.say(_result(found))
                    if not found.whole:
                        raise Refused(f"after {drill.name} the cluster is not whole", hint="kbpg diagnose")
                    running.end(ground, found, options.state)
                except KbpgError as error:
                    problem = error.message
                    console.say([Line(line, Style.BAD) for line in error.lines()])
                    break
        _remember(console, options.state, session.context.inventory, done)
    seconds = time.monotonic() - began
    return Drills(started, seconds, done, crowd, order.seed if order.random else None, broken_off=problem)


def _remember(console: Console, state: Path, inventory: Inventory, done: Sequence[running.Drilled]) -> None:
    """Keep what was measured for the report of `kbpg validate`; where that cannot be done, the drills were good."""
    identifier = next((each.system_identifier for each in reversed(done) if each.system_identifier), "")
    if not identifier:
        return  # nobody could tell later which cluster it was
    try:
        measured.remember(state, inventory, identifier, measured.measured(done))
    except OSError as error:
        text = (
            f"{state / measured.FILE}: not kept for kbpg validate: {(error.strerror or str(error)).lower()}"
        )
        console.say([Line(text, Style.WARNING)])


def _says(console: Console) -> Callable[[str], None]:
    def say(text: str) -> None:
        console.say([Line(f"  {text}", Style.QUIET)])

    return say


@contextmanager
def _database(ground: Ground, state: Path) -> Iterator[None]:
    """Have the drills' database, and drop it in the end; the note stays where not everything was undone."""
    note.write(state, running.BETWEEN)
    running.make_database(ground)
    try:
        yield
    finally:
        left = note.read(state)
        complete = True
        for act in left.undo if left else ():
            try:
                perform(act, ground.context, ground.links, ground.controller)
            except KbpgError as error:
                complete = False
                ground.say(f"not taken back: {act.text}: {error.message}; the next kbpg tries again")
        if complete:
            note.forget(state)


def _result(found: running.Drilled) -> list[Line]:
    from kbpg.drills.attempt import Access
    from kbpg.drills.explaining import gap

    pooled, direct = gap(found, Access.POOLED).seconds, gap(found, Access.DIRECT).seconds
    text = f"  longest wait {pooled:.2f} s through 6432, {direct:.2f} s through 5432"
    if found.tally:
        text += f"; {found.tally.acknowledged} rows acknowledged, {found.tally.lost} lost"
    return [
        Line(text, Style.GOOD if found.passed else Style.BAD),
        *(Line(f"  {problem}", Style.BAD) for problem in found.problems),
    ]


COLUMNS = (
    "drill",
    "runs",
    "6432",
    "worst",
    "predicted",
    "5432",
    "reads",
    "errors 6432/5432",
    "lost",
    "whole after",
)


def shown(document: Document) -> list[Line]:
    """Return the table: a line for each kind of drill, the median and the worst of its runs."""
    from statistics import median

    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in document["drills"]:
        kinds.setdefault(each["name"], []).append(each)
    rows = [COLUMNS]
    for name, runs in kinds.items():
        figures = [run["figures"] for run in runs]
        predicted = runs[0]["predicted"]
        whole = [f["redundant_after"] for f in figures if f["redundant_after"] is not None]
        rows.append(
            (
                name,
                str(len(runs)),
                f"{median(f['pooled']['rto'] for f in figures):.2f} s",
                f"{max(f['pooled']['rto'] for f in figures):.2f} s",
                f"{predicted['low']:.1f}–{predicted['high']:.1f} s" if predicted else "–",
                f"{max(f['direct']['rto'] for f in figures):.2f} s",
                f"{max(f['reads']['rto'] for f in figures):.2f} s",
                f"{max(f['pooled']['errors'] for f in figures)}/{max(f['direct']['errors'] for f in figures)}",
                str(sum(f["lost"] or 0 for f in figures)),
                f"{max(whole):.0f} s" if whole else "not",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    texts = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [Line(texts[0], Style.TITLE), *(Line(text) for text in texts[1:])]
    problems = [f"{each['name']}: {text}" for each in document["drills"] for text in each["problems"]]
    problems += [f"{each['name']}: {each['difference']}" for each in document["drills"] if each["difference"]]
    return [*lines, *(Line(text, Style.WARNING) for text in problems)]
