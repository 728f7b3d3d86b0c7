"""From attempts to figures: the longest time without a success, counts, and the curves of the chart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from kbpg.drills.attempt import Attempt, Outcome

BIN = 0.25
"""Seconds of a point of the chart."""


def longest_gap(attempts: Iterable[Attempt], begin: float, end: float) -> tuple[float, float]:
    """Return the longest time that a single client was without a success, and when it began, in seconds.

    Looked at from `begin` to `end`; a client's time before its first success and after its last counts too. This is
    what one application notices: that others went on meanwhile does not help it.
    """
    successes: dict[int, list[float]] = {}
    for attempt in attempts:
        times = successes.setdefault(attempt.client, [])
        if attempt.outcome is Outcome.ACKNOWLEDGED and begin <= attempt.ended <= end:
            times.append(attempt.ended)
    worst = (0.0, begin)
    for times in successes.values():
        edges = [begin, *sorted(times), end]
        for before, after in pairwise(edges):
            worst = max(worst, (after - before, before))
    return worst


def counts(attempts: Iterable[Attempt]) -> dict[str, int]:
    """Return the rows acknowledged, refused and unknown, and the errors: attempts that failed, to connect too."""
    found = list(attempts)
    return {
        "acknowledged": sum(a.rows or 1 for a in found if a.outcome is Outcome.ACKNOWLEDGED),
        "refused": sum(a.rows for a in found if a.outcome is Outcome.REFUSED),
        "unknown": sum(a.rows for a in found if a.outcome is Outcome.UNKNOWN),
        "errors": sum(a.outcome is not Outcome.ACKNOWLEDGED for a in found),
        "failed_connects": sum(a.outcome is Outcome.NO_CONNECTION for a in found),
    }


def errors(attempts: Iterable[Attempt], most: int = 8) -> list[dict[str, Any]]:
    """Return the errors' texts with how often and when first, the most frequent first."""
    seen: dict[tuple[str, str], list[float]] = {}
    for attempt in attempts:
        if attempt.outcome is not Outcome.ACKNOWLEDGED:
            seen.setdefault((attempt.outcome.value, attempt.error), []).append(attempt.ended)
    ordered = sorted(seen.items(), key=lambda item: -len(item[1]))
    return [
        {"outcome": outcome, "text": text, "count": len(times), "first": round(min(times), 3)}
        for (outcome, text), times in ordered[:most]
    ]


def series(ways: Mapping[str, Sequence[Attempt]], end: float) -> dict[str, Any]:
    """Return the curves from 0 to `end` seconds: successes, failures and milliseconds of each point, by way."""
    points = max(1, int(end / BIN) + 1)
    return {"bin": BIN, "begin": 0.0, **{way: _curves(found, points) for way, found in ways.items()}}


def _curves(attempts: Iterable[Attempt], points: int) -> dict[str, list[Any]]:
    good: list[list[float]] = [[] for _ in range(points)]
    failed = [0] * points
    for attempt in attempts:
        point = min(max(int(attempt.ended / BIN), 0), points - 1)
        if attempt.outcome is Outcome.ACKNOWLEDGED:
            good[point].append((attempt.ended - attempt.begun) * 1000)
        else:
            failed[point] += 1
    return {
        "acknowledged": [len(each) for each in good],
        "failed": failed,
        "latency_ms": [round(median(each), 2) if each else None for each in good],
        "worst_ms": [round(max(each), 2) if each else None for each in good],
    }
