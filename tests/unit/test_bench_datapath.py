"""The benchmark of the data path: what pgbench 16.11 printed, and what is made of it."""

from __future__ import annotations

import pytest

from datapath import arguments, counts, options_of
from datapath_figures import Cell, Figures, Goal, goals, judge, parse, ratios, spread, summary, table
from datapath_lab import client, pgpass

# Recorded: pgbench 16.11, -n -M simple -j 2, with -S / -N / -S -C.
SELECT_ONLY = """\
pgbench (16.11)
transaction type: <builtin: select only>
scaling factor: 1
query mode: simple
number of clients: 2
number of threads: 2
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 18590
number of failed transactions: 0 (0.000%)
latency average = 0.212 ms
initial connection time = 34.363 ms
tps = 9441.513405 (without initial connection time)
"""
RECONNECT = """\
pgbench (16.11)
transaction type: <builtin: select only>
scaling factor: 1
query mode: simple
number of clients: 40
number of threads: 2
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 76
number of failed transactions: 0 (0.000%)
latency average = 1080.785 ms
average connection time = 41.207 ms
tps = 37.010145 (including reconnection times)
"""
# The same run, and one without --connect, past max_connections.
NO_SLOT = (
    'pgbench: error: connection to server at "127.0.0.1", port 55432 failed: '
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute\n"
)
NO_SLOT_RECONNECT = f"""\
{NO_SLOT}pgbench: error: client 8 aborted while establishing connection
{NO_SLOT}pgbench: error: client 6 aborted while establishing connection
pgbench: error: Run was aborted; the above results are incomplete.
"""
NO_SLOT_AT_ONCE = f"{NO_SLOT}pgbench: error: could not create connection for client 7\n"


def cell(number: int, workload: str, clients: int, way: str, tps: float, errors: int = 0) -> Cell:
    return Cell(number, workload, clients, way, Figures(1000, 0, 1.0, 10.0, tps), errors)


def test_figures_of_a_run() -> None:
    figures = parse(SELECT_ONLY)
    assert figures == Figures(
        transactions=18590, failed=0, latency_ms=0.212, connect_ms=34.363, tps=9441.513405
    )
    assert figures.seconds == pytest.approx(1.969, abs=0.001)


def test_figures_of_a_run_that_reconnects() -> None:
    figures = parse(RECONNECT)
    assert (figures.tps, figures.connect_ms, figures.latency_ms) == (37.010145, 41.207, 1080.785)


def test_failed_transactions_are_counted_and_pgbench_14_prints_none() -> None:
    failed = "number of failed transactions: 0 (0.000%)\n"
    some = SELECT_ONLY.replace(failed, "number of failed transactions: 3 (0.016%)\n")
    some = some.replace("0.212 ms", "0.212 ms (including failures)")
    assert (parse(some).failed, parse(some).latency_ms) == (3, 0.212)
    assert parse(SELECT_ONLY.replace(failed, "")).failed == 0


@pytest.mark.parametrize("name", ["number of transactions", "latency", "initial", "tps"])
def test_a_missing_figure_is_an_error(name: str) -> None:
    text = "\n".join(line for line in SELECT_ONLY.splitlines() if not line.startswith(name))
    with pytest.raises(ValueError, match="pgbench printed no"):
        parse(text)


def test_a_good_run_has_no_errors() -> None:
    assert judge("direct", 0, SELECT_ONLY, "") == (parse(SELECT_ONLY), 0, "")


@pytest.mark.parametrize("way", ["direct", "haproxy"])
@pytest.mark.parametrize(
    ("out", "err"), [("pgbench (16.11)\n", NO_SLOT_AT_ONCE), (RECONNECT, NO_SLOT_RECONNECT)]
)
def test_past_the_pools_a_full_postgresql_is_no_error(way: str, out: str, err: str) -> None:
    assert judge(way, 2, out, err) == (None, 0, "not possible: PostgreSQL had no connection left")


def test_through_pgbouncer_it_is_one() -> None:
    figures, errors, why = judge("pgbouncer", 1, "pgbench (16.11)\n", NO_SLOT_AT_ONCE)
    assert (figures, errors) == (None, 1)
    assert why == NO_SLOT.strip().removeprefix("pgbench: error: ")


def test_clients_that_gave_up_are_counted() -> None:
    assert judge("pgbouncer", 2, RECONNECT, NO_SLOT_RECONNECT)[:2] == (parse(RECONNECT), 2)


def test_an_exit_code_alone_is_an_error() -> None:
    assert judge("direct", 124, "", "") == (None, 1, "pgbench printed no transactions")
    assert judge("direct", 1, SELECT_ONLY, "") == (parse(SELECT_ONLY), 1, "1 failed")


def test_spread() -> None:
    assert spread([]) is None
    found = spread([3.0, 1.0, 2.0])
    assert found is not None
    assert (found.min, found.median, found.max, found.text(1)) == (1, 2, 3, "1.0 / 2.0 / 3.0")


def test_ratios_are_of_the_same_round_and_of_clean_runs() -> None:
    cells = [
        cell(1, "reconnect", 8, "direct", 100),
        cell(1, "reconnect", 8, "pgbouncer", 150),
        cell(2, "reconnect", 8, "direct", 200),
        cell(2, "reconnect", 8, "pgbouncer", 400),
        cell(3, "reconnect", 8, "direct", 200),
        cell(3, "reconnect", 8, "pgbouncer", 900, errors=1),
    ]
    assert ratios(cells, ("reconnect", 8, "pgbouncer"), ("reconnect", 8, "direct")) == [1.5, 2.0]


def test_summary_keeps_the_order_of_the_ways_and_says_why() -> None:
    cells = [
        cell(1, "select-only", 8, "pgbouncer", 50, errors=2),
        cell(1, "select-only", 8, "direct", 100),
        Cell(1, "select-only", 1000, "direct", why="not possible: max_connections 240, 231 free"),
    ]
    direct, pooled, many = summary(cells)
    assert (direct.way, direct.of_direct) == ("direct", spread([1.0]))
    assert (pooled.way, pooled.tps, pooled.of_direct, pooled.errors) == ("pgbouncer", None, None, 2)
    assert (many.clients, many.tps, many.errors, many.why) == (
        1000,
        None,
        0,
        "not possible: max_connections 240, 231 free",
    )


def reached(*more: Cell) -> list[Goal]:
    return goals(
        [cell(1, "select-only", 8, "direct", 100), cell(1, "select-only", 8, "pgbouncer", 45), *more]
    )


def test_goals_that_were_not_measured_are_neither_met_nor_missed() -> None:
    assert [goal.met for goal in reached()] == [True, None, None]


def test_goals_are_met() -> None:
    met = reached(
        cell(1, "reconnect", 8, "direct", 50),
        cell(1, "reconnect", 8, "pgbouncer", 100),
        cell(1, "select-only", 1000, "pgbouncer", 36),
    )
    assert [(goal.met, goal.got and goal.got.median) for goal in met] == [
        (True, 0.45),
        (True, 2.0),
        (True, 0.8),
    ]


def test_goals_are_missed_by_speed_or_by_one_error_in_one_round() -> None:
    slow = reached(
        cell(1, "reconnect", 8, "direct", 51),
        cell(1, "reconnect", 8, "pgbouncer", 100),
        cell(1, "select-only", 1000, "pgbouncer", 40),
        cell(2, "select-only", 1000, "pgbouncer", 40, errors=1),
    )
    assert [goal.met for goal in slow] == [True, False, False]


def test_a_goal_whose_runs_all_failed_is_missed() -> None:
    assert reached(Cell(1, "select-only", 1000, "pgbouncer", errors=1, why="no"))[2].met is False


def test_table() -> None:
    cells = [
        cell(1, "select-only", 8, "direct", 100),
        cell(1, "select-only", 8, "pgbouncer", 45),
        Cell(1, "select-only", 1000, "direct", why="not possible: max_connections 240, 231 free"),
        Cell(1, "select-only", 1000, "pgbouncer", errors=1, why="no route"),
    ]
    assert table(summary(cells), goals(cells)).splitlines() == [
        "workload      clients  way        transactions per second    of direct            latency, ms"
        "                errors",
        "select-only         8  direct     100 / 100 / 100            1.00 / 1.00 / 1.00   1.00 / 1.00 / 1.00"
        "         0",
        "select-only         8  pgbouncer  45 / 45 / 45               0.45 / 0.45 / 0.45   1.00 / 1.00 / 1.00"
        "         0",
        "select-only      1000  direct     not possible: max_connections 240, 231 free",
        "select-only      1000  pgbouncer  1: no route",
        "",
        "select-only, 8 clients, pgbouncer: PgBouncer of direct, wanted 0.45: 0.45 / 0.45 / 0.45, met",
        "reconnect, 8 clients, pgbouncer: PgBouncer of direct, wanted 2: not measured",
        "select-only, 1000 clients, pgbouncer: 1000 clients of 8, wanted 0.8: missed",
    ]


def test_arguments_of_pgbench() -> None:
    assert arguments("reconnect", 1000, 5) == [
        "--no-vacuum",
        "--protocol=simple",
        "--select-only",
        "--connect",
        "--client=1000",
        "--jobs=2",
        "--time=5",
    ]
    assert "--jobs=1" in arguments("simple-update", 1, 5)


def test_the_client_runs_beside_a_proxy_and_never_pulls_an_image() -> None:
    argv = client("kbpg-haproxy-02", "image", 125, ["-h", "192.0.2.1"])
    assert argv[argv.index("--network") + 1] == "container:kbpg-haproxy-02"
    assert argv[argv.index("--pull") + 1] == "never"
    assert argv[-5:] == ["sh", "125", "pgbench", "-h", "192.0.2.1"]


def test_a_password_file_escapes_what_libpq_separates_by() -> None:
    assert pgpass("kb_app", r"a:b\c") == "*:*:*:kb_app:a\\:b\\\\c\n"


def test_options() -> None:
    given = options_of(["--clients", "8,1000", "--only", "reconnect", "--only", "select-only"])
    assert (given.clients, given.only, given.seconds) == ([8, 1000], ["reconnect", "select-only"], 5)
    assert options_of([]).only is None
    assert counts("1") == [1]
    for wrong in ("0", "x", "8,-1"):
        with pytest.raises(SystemExit):
            options_of(["--clients", wrong])
