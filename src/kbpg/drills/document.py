"""Drills as a JSON document, of which screen and report are made. Holds no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kbpg import __version__
from kbpg.drills.attempt import Access
from kbpg.drills.explaining import difference, events, gap, predicted, timelines
from kbpg.drills.figures import counts, errors, series
from kbpg.drills.run import Drilled
from kbpg.drills.tally import Term
from kbpg.drills.workload import Crowd
from kbpg.inventory import Inventory

Document = dict[str, Any]


@dataclass(frozen=True)
class Drills:
    """All drills of a command. `seconds` of all of it; `seed` of a random order, None without one."""

    started: datetime
    seconds: float
    done: Sequence[Drilled]
    crowd: Crowd
    seed: int | None = None
    planned: int = 0
    broken_off: str = ""

    @property
    def passed(self) -> bool:
        """Return whether all that were to be run were, and passed."""
        return not self.broken_off and all(found.passed for found in self.done)


def build(drills: Drills, inventory: Inventory) -> Document:
    """Return the document; docs/json.md describes it."""
    names = [found.drill.name for found in drills.done]
    runs = [(names[: index + 1].count(name), names.count(name)) for index, name in enumerate(names)]
    return {
        "kbpg": __version__,
        "cluster": inventory.cluster.name,
        "inventory": str(inventory.path),
        "started": _time(drills.started),
        "seconds": round(drills.seconds, 1),
        "passed": drills.passed,
        "broken_off": drills.broken_off or None,
        "seed": drills.seed,
        "ports": {
            "pooled": inventory.ports.pgbouncer,
            "direct": inventory.ports.primary,
            "reads": inventory.ports.replicas,
        },
        "workload": drills.crowd.document(),
        "drills": [_drill(found, inventory, *run) for found, run in zip(drills.done, runs, strict=True)],
    }


def _drill(found: Drilled, inventory: Inventory, run: int, of: int) -> Document:
    expected, drill = predicted(found, inventory), found.drill
    pooled = gap(found, Access.POOLED).seconds
    ways = {way.value: found.attempts.get(way, []) for way in (Access.POOLED, Access.DIRECT, Access.READS)}
    fast = drill.goal is not None and inventory.failover == "fast"
    return {
        "name": drill.name,
        "title": drill.title,
        "summary": drill.summary,
        "run": run,
        "of": of,
        "target": found.target or None,
        "started": _time(found.started),
        "seconds": round(found.seconds, 1),
        "passed": found.passed,
        "problems": list(found.problems),
        "fault_at": round(found.fault_at, 3),
        "events": [{"at": round(e.at, 3), "kind": e.kind, "text": e.text} for e in events(found)],
        "figures": _figures(found),
        "predicted": None
        if expected is None
        else {
            "fault": expected.fault.value,
            "low": expected.low,
            "high": expected.high,
            "formula": expected.formula,
        },
        "difference": difference(found, inventory),
        "goal": {"rto": drill.goal, "met": pooled <= (drill.goal or 0.0)} if fast else None,
        "errors": {way: errors(tried) for way, tried in ways.items()},
        "series": series(ways, found.seconds),
    }


def _figures(found: Drilled) -> Document:
    figures: Document = {}
    for way in Access:
        tried = found.attempts.get(way, [])
        if way is Access.INSIDE and not tried:
            continue
        longest = gap(found, way)
        figures[way.value] = {
            "rto": round(longest.seconds, 2),
            "rto_at": round(longest.begin, 3),
            **counts(tried),
        }
    tally = found.tally
    whole = [event.at for event in found.events if event.kind == "redundant"]
    return {
        **figures,
        "lost": tally.lost if tally else None,
        "duplicated": tally.duplicated if tally else None,
        "unknown_kept": tally.unknown_there if tally else None,
        "unknown_gone": tally.unknown - tally.unknown_there if tally else None,
        "timelines": timelines(found),
        "terms": {str(timeline): _term(term) for timeline, term in (tally.terms if tally else {}).items()},
        "redundant_after": round(whole[-1] - found.fault_at, 1) if whole else None,
    }


def _term(term: Term) -> Document:
    return {"first": round(term.first, 6), "last": round(term.last, 6)}


def _time(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
