"""Compare the three ways to the leader with pgbench: straight, over HAProxy, over PgBouncer and HAProxy.

    .venv/bin/python bench/datapath.py [--lab .lab] [--rounds 3] [--seconds 5] [--clients 8,200,1000]
                                       [--only WORKLOAD] [--scale 10] [--json]

The lab must be up and its cluster whole (kbpg apply-all). pgbench runs as the application's user in a throw-away
container that shares the network of the last proxy, where applications may come from, and goes through the first
one. All ways use the simple query protocol. The tables are in a database of their own, dropped at the end.
Exit code 1: a goal was missed, a run had errors, or there was no measuring at all. docs/datapath.md says more.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from datapath_figures import FEW, MANY, WAYS, WORKLOADS, Cell, Figures, goals, judge, summary, table
from datapath_lab import DATABASE, IMAGE, Lab
from install import machine
from kbpg.errors import KbpgError

LOGIN, SLOWEST_LOGIN = 0.01, 0.03
"""Seconds that one login is thought to take at first, and at most: pgbench's clock starts before the logins."""


class Bench:
    """What is run on the lab, and how long."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.lab, self.options = lab, options
        self.login = LOGIN

    def cells(self) -> Iterator[Cell]:
        """Measure every cell in every round, the ways one after the other, each round beginning with another."""
        for number in range(self.options.rounds):
            first = number % len(WAYS)
            for workload in self.options.only or WORKLOADS:
                for clients in self.options.clients:
                    for way in (*WAYS[first:], *WAYS[:first]):
                        cell = self.cell(number + 1, workload, clients, way)
                        say(cell)
                        yield cell

    def cell(self, number: int, workload: str, clients: int, way: str) -> Cell:
        """Measure one cell, or say why it cannot be."""
        if way != "pgbouncer":
            most, free = self.lab.room(clients)
            if free < clients:
                why = f"not possible: max_connections {most}, {free} free"
                return Cell(number, workload, clients, way, why=why)
        return Cell(number, workload, clients, way, *self.run(workload, clients, way, self.options.seconds))

    def run(self, workload: str, clients: int, way: str, seconds: int) -> tuple[Figures | None, int, str]:
        """Run pgbench so that it counts about `seconds`, and learn from it how long a login takes."""
        again = "--connect" in WORKLOADS[workload]
        limit = seconds if again else seconds + math.ceil(clients * self.login)
        done = self.lab.pgbench(way, limit, *arguments(workload, clients, limit))
        figures, errors, why = judge(way, done.returncode, done.stdout, done.stderr)
        if figures and not again:
            seen = 1.5 * figures.connect_ms / 1000 / clients
            self.login = min(max(self.login, seen), SLOWEST_LOGIN)
        return figures, errors, why

    def prepare(self) -> None:
        """Make the tables, and take every way once: it works, and all is warm."""
        owner = '"' + self.lab.credentials.app_user.replace('"', '""') + '"'
        self.drop()
        self.lab.sql(f"create database {DATABASE} owner {owner}")
        made = self.lab.pgbench("direct", 600, "--initialize", "--quiet", f"--scale={self.options.scale}")
        if made.returncode:
            raise SystemExit(
                f"pgbench --initialize ended with {made.returncode}:\n{made.stdout}{made.stderr}"
            )
        self.lab.sql("checkpoint")
        for way in WAYS:
            _, errors, why = self.run("select-only", FEW, way, 2)
            if errors or why:
                raise SystemExit(f"{way} does not work: {why}")

    def drop(self) -> None:
        """Remove the database, whoever is connected to it."""
        self.lab.sql(f"drop database if exists {DATABASE} with (force)")


def arguments(workload: str, clients: int, seconds: int) -> list[str]:
    """Return pgbench's arguments for one run; two threads log in a thousand clients twice as fast as one."""
    sizes = [f"--client={clients}", f"--jobs={min(2, clients)}", f"--time={seconds}"]
    return ["--no-vacuum", "--protocol=simple", *WORKLOADS[workload], *sizes]


def counts(text: str) -> list[int]:
    """Return the numbers of clients in `8,200,1000`."""
    found = [int(each) for each in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("at least one client")
    return found


def say(cell: Cell) -> None:
    """Tell whoever waits how far it is."""
    figures = cell.figures
    said = f"{figures.tps:.0f} tps in {figures.seconds:.1f} s" if figures else cell.why
    errors = f", {cell.errors} errors: {cell.why}" if figures and cell.errors else ""
    print(f"round {cell.round}: {cell.workload}, {cell.clients}, {cell.way}: {said}{errors}", file=sys.stderr)


def measured(options: argparse.Namespace) -> tuple[dict[str, object], list[Cell]]:
    """Measure; return the conditions and the cells. The database is gone afterwards."""
    lab = Lab(options.lab, options.image)
    bench = Bench(lab, options)
    started = time.monotonic()
    try:
        bench.prepare()
        cells = list(bench.cells())
    finally:
        bench.drop()
    pools = lab.inventory.pgbouncer
    return {
        "protocol": "simple", "scale": options.scale, "seconds": options.seconds, "rounds": options.rounds,
        "leader": lab.leader, "proxy": lab.proxy.name, "client": lab.client.name, "pool_size": pools.pool_size,
        "reserve_pool_size": pools.reserve_pool_size, "took": round(time.monotonic() - started),
    }, cells  # fmt: skip


def options_of(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--lab", type=Path, default=Path(".lab"), help="the lab's directory")
    parser.add_argument("--rounds", type=int, default=3, help="how often each cell is measured")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of each cell")
    parser.add_argument("--clients", type=counts, default=[FEW, 200, MANY], help="such as 8,200,1000")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="this workload; may be repeated")
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale: 100,000 rows each")
    parser.add_argument("--image", default=IMAGE, help="an image here that has pgbench")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def main() -> int:
    """Run the benchmark; return an exit code."""
    options = options_of()
    try:
        conditions, cells = measured(options)
    except KbpgError as error:
        raise SystemExit("\n".join(error.lines())) from error
    rows, reached = summary(cells), goals(cells)
    if options.json:
        found = {"results": [asdict(row) for row in rows], "goals": [asdict(goal) for goal in reached]}
        print(json.dumps({"machine": machine(), "conditions": conditions, **found}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in {**machine(), **conditions}.items()))
        print(table(rows, reached))
    return int(any(goal.met is False for goal in reached) or any(cell.errors for cell in cells))


if __name__ == "__main__":
    raise SystemExit(main())
