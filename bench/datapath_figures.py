"""What pgbench printed, made into figures: ratios to the direct way, goals, a table. Pure; for bench/datapath.py."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WAYS = ("direct", "haproxy", "pgbouncer")
WORKLOADS: Mapping[str, tuple[str, ...]] = {
    "select-only": ("--select-only",),
    "simple-update": ("--skip-some-updates",),
    "reconnect": ("--select-only", "--connect"),
}
"""What is run, and pgbench's options for it; `reconnect` opens a connection for every transaction."""
FEW, MANY = 8, 1000
"""The numbers of clients that the goals speak of."""

_FIGURES = {
    "transactions": r"number of transactions actually processed: (\d+)",
    "failed": r"number of failed transactions: (\d+) ",
    "latency_ms": r"latency average = ([\d.]+) ms",
    "connect_ms": r"(?:initial|average) connection time = ([\d.]+) ms",
    "tps": r"tps = ([\d.]+) \((?:without initial connection time|including reconnection times)\)",
}
_NO_SLOT = re.compile("too many clients already|remaining connection slots are reserved")
_ABORTED = re.compile(r"client \d+ aborted")


@dataclass(frozen=True)
class Figures:
    """One run of pgbench. `connect_ms` is the time until all clients were in; with --connect, of one login."""

    transactions: int
    failed: int
    latency_ms: float
    connect_ms: float
    tps: float

    @property
    def seconds(self) -> float:
        """How long transactions were counted."""
        return self.transactions / self.tps


@dataclass(frozen=True)
class Cell:
    """One run, or why there was none. `errors` counts clients that gave up and transactions that failed."""

    round: int
    workload: str
    clients: int
    way: str
    figures: Figures | None = None
    errors: int = 0
    why: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        """What was measured, in whichever round."""
        return self.workload, self.clients, self.way

    @property
    def clean(self) -> Figures | None:
        """The figures of a run without an error; others say nothing about speed."""
        return None if self.errors else self.figures


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    min: float
    median: float
    max: float

    def text(self, digits: int) -> str:
        """Return it for people."""
        return " / ".join(f"{value:.{digits}f}" for value in (self.min, self.median, self.max))


@dataclass(frozen=True)
class Row:
    """All rounds of one cell."""

    workload: str
    clients: int
    way: str
    tps: Spread | None
    of_direct: Spread | None
    latency_ms: Spread | None
    connect_ms: Spread | None
    seconds: Spread | None
    errors: int
    why: str


@dataclass(frozen=True)
class Goal:
    """What was to be reached; `met` is None where it was not measured."""

    text: str
    wanted: float
    got: Spread | None
    met: bool | None


def parse(text: str) -> Figures:
    """Return the figures in what pgbench 14 to 16 print. Raises ValueError where one is missing."""
    found: dict[str, str] = {}
    for name, pattern in _FIGURES.items():
        match = re.search(f"^{pattern}", text, re.MULTILINE)
        if match is None:
            if name == "failed":  # printed since pgbench 15
                continue
            raise ValueError(f"pgbench printed no {name}")
        found[name] = match[1]
    return Figures(
        transactions=int(found["transactions"]),
        failed=int(found.get("failed", 0)),
        latency_ms=float(found["latency_ms"]),
        connect_ms=float(found["connect_ms"]),
        tps=float(found["tps"]),
    )


def judge(way: str, code: int, out: str, err: str) -> tuple[Figures | None, int, str]:
    """Return figures, errors and why of a run: past the pools, PostgreSQL's limit is no error but a fact."""
    if way != "pgbouncer" and _NO_SLOT.search(err):
        return None, 0, "not possible: PostgreSQL had no connection left"
    try:
        figures = parse(out)
    except ValueError as error:
        return None, max(1, len(_ABORTED.findall(err))), _first(err) or str(error)
    errors = figures.failed + len(_ABORTED.findall(err))
    if code and not errors:
        errors = 1
    return figures, errors, _first(err) or f"{errors} failed" if errors else ""


def _first(err: str) -> str:
    """Return the first thing that went wrong, in pgbench's or in the shell's words."""
    lines = [line for line in err.splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line or "FATAL" in line), lines[0] if lines else "")
    return said.removeprefix("pgbench: error: ")


def spread(values: Iterable[float]) -> Spread | None:
    """Return minimum, median and maximum; None of nothing."""
    found = [round(value, 3) for value in values]
    return Spread(min(found), round(statistics.median(found), 3), max(found)) if found else None


def ratios(cells: Sequence[Cell], above: tuple[str, int, str], below: tuple[str, int, str]) -> list[float]:
    """Return how many times the throughput of `below` `above` reached, round by round, where both ran well."""
    base = {cell.round: cell.clean.tps for cell in cells if cell.key == below and cell.clean}
    tops = [(cell.round, cell.clean.tps) for cell in cells if cell.key == above and cell.clean]
    return [tps / base[number] for number, tps in tops if number in base]


def summary(cells: Sequence[Cell]) -> list[Row]:
    """Return one row for each workload, number of clients and way, in the order of `WAYS`."""
    keys = dict.fromkeys(cell.key for cell in cells)
    order = dict.fromkeys(key[:2] for key in keys)
    return [
        _row(cells, (workload, clients, way))
        for workload, clients in order
        for way in WAYS
        if (workload, clients, way) in keys
    ]


def _row(cells: Sequence[Cell], key: tuple[str, int, str]) -> Row:
    own = [cell for cell in cells if cell.key == key]
    clean = [cell.clean for cell in own if cell.clean]
    return Row(
        *key,
        tps=spread(each.tps for each in clean),
        of_direct=spread(ratios(cells, key, (*key[:2], "direct"))),
        latency_ms=spread(each.latency_ms for each in clean),
        connect_ms=spread(each.connect_ms for each in clean),
        seconds=spread(each.seconds for each in clean),
        errors=sum(cell.errors for cell in own),
        why=next((cell.why for cell in own if cell.why), ""),
    )


def goals(cells: Sequence[Cell]) -> list[Goal]:
    """Return the data path's three goals and what was reached, by the median of the rounds."""

    def few(workload: str, way: str) -> tuple[str, int, str]:
        return workload, FEW, way

    once, again = "select-only", "reconnect"
    many = (once, MANY, "pgbouncer")
    return [
        _goal(cells, "PgBouncer of direct", 0.45, few(once, "pgbouncer"), few(once, "direct")),
        _goal(cells, "PgBouncer of direct", 2.0, few(again, "pgbouncer"), few(again, "direct")),
        _goal(cells, f"{MANY} clients of {FEW}", 0.8, many, few(once, "pgbouncer")),
    ]


def _goal(
    cells: Sequence[Cell], what: str, wanted: float, above: tuple[str, int, str], below: tuple[str, int, str]
) -> Goal:
    text = f"{above[0]}, {above[1]} clients, {above[2]}: {what}"
    if not {above, below} <= {cell.key for cell in cells}:
        return Goal(text, wanted, None, None)
    got = spread(ratios(cells, above, below))
    errors = sum(cell.errors for cell in cells if cell.key == above)
    return Goal(text, wanted, got, got is not None and not errors and got.median >= wanted)


def table(rows: Sequence[Row], reached: Sequence[Goal]) -> str:
    """Return the figures and the goals for people; minimum, median and maximum where there are three."""
    lines = [
        f"{'workload':<14}{'clients':>7}  {'way':<11}{'transactions per second':<27}"
        f"{'of direct':<21}{'latency, ms':<27}errors"
    ]
    lines += [f"{row.workload:<14}{row.clients:>7}  {row.way:<11}{_figures(row)}".rstrip() for row in rows]
    return "\n".join([*lines, "", *map(_reached, reached)])


def _figures(row: Row) -> str:
    more = f"{row.errors}: {row.why}" if row.why else str(row.errors)
    if row.tps is None or row.latency_ms is None:
        return more if row.errors else row.why
    share = row.of_direct.text(2) if row.of_direct else "-"
    return f"{row.tps.text(0):<27}{share:<21}{row.latency_ms.text(2):<27}{more}"


def _reached(goal: Goal) -> str:
    said = {None: "not measured", True: "met", False: "missed"}[goal.met]
    figure = f"{goal.got.text(2)}, " if goal.got else ""
    return f"{goal.text}, wanted {goal.wanted:g}: {figure}{said}"
