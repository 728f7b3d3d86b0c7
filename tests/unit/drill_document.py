"""Documents of fault drills as `kbpg drill` makes them, with series that look like measured ones."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]
BIN = 0.25
RATES = {"pooled": 1450.0, "direct": 420.0, "reads": 380.0}
"""Acknowledged per second while all is well."""


def document(*drills: Document, **more: Any) -> Document:
    """Return the document of these drills."""
    return {
        "kbpg": "0.1.0",
        "cluster": "keybuzz",
        "inventory": "inventory.yaml",
        "started": "2026-11-28T07:00:00Z",
        "seconds": sum(each["seconds"] for each in drills) + 4.2,
        "passed": all(each["passed"] for each in drills),
        "seed": None,
        "workload": {"pooled": 16, "direct": 4, "reads": 4, "row_pause_ms": 5},
        "drills": list(drills),
        **more,
    }


def several() -> Document:
    """Return drills of five kinds, some of them several times, of which one did not pass."""
    return document(
        *(crash(run, 3) for run in (1, 2, 3)),
        *(poweroff(run, 2) for run in (1, 2)),
        switchover(),
        proxy(),
        broken(),
    )


def drill(name: str, title: str, events: Iterable[tuple[float, str, str]], **more: Any) -> Document:
    """Return one drill that passed, with nothing in its series yet."""
    return {
        "name": name,
        "title": title,
        "summary": "what is done to what, in one sentence",
        "run": 1,
        "of": 1,
        "target": "db-master-01",
        "started": "2026-11-28T07:01:10Z",
        "seconds": 62.1,
        "passed": True,
        "problems": [],
        "fault_at": 5.0,
        "events": [{"at": at, "kind": kind, "text": text} for at, kind, text in events],
        "figures": figures(),
        "predicted": None,
        "difference": None,
        "goal": None,
        "series": None,
        **more,
    }


def figures(pooled: float | None = None, direct: float | None = None, **more: Any) -> Document:
    """Return the figures of a drill in which nothing was lost."""
    return {
        "pooled": {"rto": pooled, "errors": 3, "acknowledged": 4210, "refused": 0, "unknown": 3},
        "direct": {"rto": direct, "errors": 8, "acknowledged": 900, "refused": 2, "unknown": 2},
        "reads": {"rto": 0.4, "errors": 1, "acknowledged": 5000},
        "lost": 0,
        "duplicated": 0,
        "unknown_kept": 2,
        "unknown_gone": 1,
        "timelines": [6, 7],
        "redundant_after": 46.0,
        **more,
    }


def series(seconds: float, **gaps: tuple[float, float] | None) -> Document:
    """Return series of that length; `gaps` are the times between which a path acknowledges nothing."""
    found: Document = {"bin": BIN, "begin": 0.0}
    for name, rate in RATES.items():
        found[name] = path(seconds, rate, gaps.get(name), random.Random(name))  # noqa: S311
    return found


def path(seconds: float, rate: float, gap: tuple[float, float] | None, chance: random.Random) -> Document:
    """Return the bins of one path: steady, nothing in the gap, slower for a while after it."""
    bins: Document = {"acknowledged": [], "failed": [], "latency_ms": [], "worst_ms": []}
    for index in range(int(seconds / BIN)):
        at = index * BIN
        away = gap is not None and gap[0] <= at < gap[1] - BIN
        again = gap is not None and gap[1] - BIN <= at < gap[1]
        count = 0 if away else round(rate * BIN * chance.uniform(0.82, 1.06) * _pace(at, gap))
        median = None if away else chance.uniform(6.0, 9.0) / _pace(at, gap)
        worst = None if median is None else median * chance.uniform(1.5, 6)
        if again and gap:
            worst = (gap[1] - gap[0]) * 1000
        broke = gap is not None and gap[0] <= at < gap[0] + BIN
        bins["acknowledged"].append(count)
        bins["failed"].append(8 if broke else 1 if away and index % 17 == 0 else 0)
        bins["latency_ms"].append(median)
        bins["worst_ms"].append(worst)
    return bins


def _pace(at: float, gap: tuple[float, float] | None) -> float:
    """Return how fast things are: slow at first after a gap."""
    return 1.0 if gap is None or at < gap[0] else min(1.0, max(0.2, 0.3 + (at - gap[1]) / 4))


def poweroff(run: int = 1, of: int = 1) -> Document:
    """Return a power cut of the leader: the long outage, as predicted."""
    end = 25.4 + 0.9 * run
    return drill(
        "leader-poweroff",
        "the leader's host loses power",
        [
            (5.0, "fault", "docker kill kbpg-db-master-01"),
            (end - 2.4, "detected", "the replicas see no leader"),
            (end - 1.3, "promoted", "db-slave-01 leads, timeline 7"),
            (end, "recovered", "first acknowledged write"),
            (35.0, "mended", "docker start kbpg-db-master-01"),
            (51.0, "redundant", "one leader, two streaming replicas"),
        ],
        summary="the host of the leader is switched off without a word to anybody, and on again after 30 s",
        run=run,
        of=of,
        figures=figures(round(end - 5, 1), round(end - 4.3, 1)),
        predicted={
            "fault": "leader-power-cut",
            "low": 18.3,
            "high": 26.5,
            "formula": "the lock expires 18–20 s + election, one member silent 0.1–2.5 s + promotion 0.2–1 s",
        },
        goal={"rto": 23.0, "met": True},
        series=series(62.1, pooled=(5.0, end), direct=(5.0, end + 0.7), reads=(5.25, 5.75)),
    )


def crash(run: int = 1, of: int = 1) -> Document:
    """Return a crash of PostgreSQL: a short outage, and events close to each other."""
    end = 6.9 + 0.3 * run
    return drill(
        "postmaster-crash",
        "PostgreSQL crashes on the leader",
        [
            (5.0, "fault", "kill -9 of the postmaster"),
            (5.8, "detected", "Patroni gives the lock away"),
            (6.2, "promoted", "db-slave-02 leads, timeline 8"),
            (end, "recovered", "first acknowledged write"),
            (9.0, "mended", "Patroni starts PostgreSQL as a replica"),
            (14.0, "redundant", "one leader, two streaming replicas"),
        ],
        summary="the postmaster of the leader is killed with signal 9",
        run=run,
        of=of,
        seconds=24.0,
        figures=figures(round(end - 5, 1), round(end - 4.8, 1), timelines=[7, 8], redundant_after=9.0),
        predicted={"fault": "postgresql-crash", "low": 0.3, "high": 5.5, "formula": "Patroni sees it 0–2 s"},
        goal={"rto": 3.0, "met": True},
        series=series(24.0, pooled=(5.0, end), direct=(5.0, end + 0.2)),
    )


def switchover() -> Document:
    """Return a planned switchover, which no client of PgBouncer sees an error of."""
    found = figures(2.6, 2.9, redundant_after=4.1)
    found["pooled"] |= {"errors": 0, "unknown": 0}
    return drill(
        "switchover",
        "planned switchover",
        [
            (5.0, "fault", "switchover to db-slave-01"),
            (6.9, "promoted", "db-slave-01 leads, timeline 9"),
            (7.6, "recovered", "first acknowledged write"),
            (9.1, "redundant", "one leader, two streaming replicas"),
        ],
        summary="the leader hands over to a replica that is not behind",
        seconds=20.0,
        figures=found,
        predicted={"fault": "switchover", "low": 1.3, "high": 10.6, "formula": "Patroni sees it 0–2 s"},
        series=series(20.0, pooled=(5.0, 7.6), direct=(5.0, 7.9)),
    )


def proxy() -> Document:
    """Return the loss of a proxy: no moment without writes, half of the clients wait for a little."""
    changed = series(30.0)
    for index in range(20, 26):
        changed["pooled"]["acknowledged"][index] //= 2
        changed["pooled"]["failed"][index] = 2
        changed["pooled"]["worst_ms"][index] = 900.0
    return drill(
        "proxy-poweroff",
        "a proxy's host loses power",
        [
            (5.0, "fault", "docker kill kbpg-haproxy-01"),
            (15.0, "mended", "docker start kbpg-haproxy-01"),
            (21.5, "redundant", "both proxies answer"),
        ],
        summary="one of the two proxies is switched off; clients have both addresses in their connection string",
        target="haproxy-01",
        seconds=30.0,
        figures=figures(0.9, 1.1, timelines=[9], redundant_after=16.5),
        goal={"rto": 2.0, "met": True},
        series=changed,
    )


def broken() -> Document:
    """Return a partition that went wrong: writes stay away, two rows are lost, the goal is missed."""
    return drill(
        "leader-partition",
        "the leader's host is cut off the network",
        [
            (5.0, "fault", "packets to and from db-master-01 are dropped"),
            (24.1, "detected", "the replicas see no leader"),
            (35.0, "mended", "packets pass again"),
        ],
        summary="packets to and from the leader are dropped, its interface stays up",
        seconds=60.0,
        passed=False,
        problems=[
            "2 acknowledged rows are lost: 4711 and 4712 of session pooled-3",
            "no acknowledged write for 55 s, the goal is 23 s",
        ],
        figures=figures(
            55.0, None, lost=2, duplicated=1, timelines=[9], redundant_after=None, unknown_gone=None
        ),
        predicted={"fault": "leader-network-cut", "low": 18.3, "high": 26.5, "formula": "the lock expires"},
        difference="nobody was promoted: two of five Raft members were away as well",
        goal={"rto": 23.0, "met": False},
        series=series(60.0, pooled=(5.0, 60.25), direct=(5.0, 60.25), reads=(6.0, 9.0)),
    )


def sequence(faults: int = 12) -> Document:
    """Return one long run with many faults, which has no single moment of the fault."""
    events = []
    for index in range(faults):
        at = 20.0 + index * 48
        events += [
            (at, "fault", f"fault of kind {index}"),
            (at + 1.4, "recovered", "first acknowledged write"),
        ]
        events.append((at + 9, "redundant", "one leader, two streaming replicas"))
    return drill(
        "random",
        "a random sequence of faults",
        events,
        summary="one fault after the other, drawn with a seed, for 10 minutes",
        target=None,
        seconds=620.0,
        fault_at=None,
        figures=figures(2.5, 3.1, timelines=[9, 10, 11, 12]),
        series=series(620.0, pooled=(116.0, 118.5)),
    )


def nothing() -> Document:
    """Return a drill of which nothing could be measured: None wherever it may stand."""
    empty = dict.fromkeys(("rto", "errors", "acknowledged", "refused", "unknown"))
    return drill(
        "patroni-frozen",
        "Patroni hangs",
        [],
        summary="",
        target=None,
        started=None,
        seconds=0.0,
        passed=False,
        problems=[],
        fault_at=None,
        figures={
            **{name: dict(empty) for name in RATES},
            **dict.fromkeys(("lost", "duplicated", "unknown_kept", "unknown_gone", "timelines")),
            "redundant_after": None,
        },
        predicted={"fault": None, "low": None, "high": None, "formula": None},
        goal={"rto": None, "met": None},
    )


def idle() -> Document:
    """Return a drill whose clients wrote no row at all: bins without anything in them."""
    bins: Document = {"acknowledged": [0] * 40, "failed": [0] * 40}
    bins |= {"latency_ms": [None] * 40, "worst_ms": [None] * 40}
    return drill(
        "replica-poweroff",
        "a replica's host loses power",
        [(5.0, "fault", "docker kill kbpg-db-slave-01")],
        seconds=10.0,
        series={"bin": BIN, "begin": 0.0, **{name: dict(bins) for name in RATES}},
    )
