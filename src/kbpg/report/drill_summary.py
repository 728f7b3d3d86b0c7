"""All runs of a drill in one line, and all drills in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from kbpg.report.drill_words import NOT_SEEN, number, wait

if TYPE_CHECKING:
    from kbpg.report.document import Document

T = TypeVar("T")
WRITES = ("pooled", "direct")
PATHS = (*WRITES, "reads")


@dataclass(frozen=True)
class Spread:
    """Of several runs: the middle and the worst, None where none has a value."""

    middle: float | None
    worst: float | None
    of: int

    @property
    def text(self) -> str:
        """Return both as text, one where they are the same."""
        if self.of < 2:
            return wait(self.worst)
        return f"{wait(self.middle)} / {wait(self.worst)}"


@dataclass(frozen=True)
class Kind:
    """A drill and all its runs."""

    name: str
    title: str
    summary: str
    runs: tuple[Document, ...]

    @property
    def passed(self) -> int:
        """Return how many runs passed."""
        return sum(bool(run["passed"]) for run in self.runs)

    @property
    def waits(self) -> dict[str, Spread]:
        """Return the longest waits by path."""
        return {path: _spread(run["figures"][path]["rto"] for run in self.runs) for path in PATHS}

    @property
    def redundant(self) -> Spread:
        """Return after how long the cluster was redundant again."""
        return _spread(run["figures"]["redundant_after"] for run in self.runs)

    @property
    def errors(self) -> dict[str, int | None]:
        """Return the errors of all runs by path."""
        return {path: total(run["figures"][path]["errors"] for run in self.runs) for path in PATHS}

    @property
    def lost(self) -> int | None:
        """Return the acknowledged rows lost in all runs."""
        return total(run["figures"]["lost"] for run in self.runs)

    @property
    def duplicated(self) -> int | None:
        """Return the rows that are there twice, of all runs."""
        return total(run["figures"]["duplicated"] for run in self.runs)

    @property
    def predicted(self) -> str:
        """Return between which seconds the runs were predicted to be."""
        found = [run["predicted"] for run in self.runs if run["predicted"]]
        lows, highs = (_known(each[key] for each in found) for key in ("low", "high"))
        return f"{min(lows):.1f}–{max(highs):.1f} s" if lows and highs else NOT_SEEN

    @property
    def goal(self) -> tuple[str, str]:
        """Return the goal and the tone it is said in: `good` where every run reached it, else `bad`."""
        goals = [run["goal"] for run in self.runs if run["goal"] and run["goal"]["rto"] is not None]
        if not goals:
            return NOT_SEEN, ""
        met, judged = sum(bool(each["met"]) for each in goals), [g for g in goals if g["met"] is not None]
        text = f"≤ {goals[0]['rto']:g} s"
        if not judged:
            return text, ""
        if met == len(judged):
            return f"{text} ✓", "good"
        return f"{text} ✗{f' {met} of {len(judged)}' if len(judged) > 1 else ''}", "bad"


def whole(document: Document) -> Document:
    """Return the document with all figures of all paths; those it does not have are None."""
    return {
        **document,
        "drills": [{**drill, "figures": _figures(drill["figures"])} for drill in document["drills"]],
    }


def _figures(found: Document | None) -> Document:
    counted = ("lost", "duplicated", "unknown_kept", "unknown_gone", "timelines", "redundant_after")
    of_path = dict.fromkeys(("rto", "errors", "acknowledged", "refused", "unknown"))
    figures = {**dict.fromkeys((*counted, *PATHS)), **(found or {})}
    return {**figures, **{path: {**of_path, **(figures[path] or {})} for path in PATHS}}


def kinds(document: Document) -> tuple[Kind, ...]:
    """Return the drills in the order of their first runs."""
    found: dict[str, list[Document]] = {}
    for drill in whole(document)["drills"]:
        found.setdefault(drill["name"], []).append(drill)
    return tuple(
        Kind(name, runs[0]["title"], runs[0]["summary"], tuple(runs)) for name, runs in found.items()
    )


def verdict(document: Document) -> str:
    """Return the one sentence that counts."""
    drills = whole(document)["drills"]
    if not drills:
        return "no drill was run"
    failed = sum(not drill["passed"] for drill in drills)
    runs = f"{len(drills)} drill{'s' if len(drills) > 1 else ''}"
    parts = [f"{failed} of {runs} failed" if failed else runs]
    parts += [_rows(drills, "lost", "no acknowledged row lost", "{} acknowledged {} lost")]
    if total(drill["figures"]["duplicated"] for drill in drills):
        parts.append(_rows(drills, "duplicated", "", "{} {} written twice"))
    waits = [_known(drill["figures"][path]["rto"] for drill in drills) for path in WRITES]
    longest = max((value for each in waits for value in each), default=None)
    parts.append("longest wait not measured" if longest is None else f"longest wait {wait(longest)}")
    return ", ".join(parts)


def _rows(drills: Sequence[Document], key: str, none: str, some: str) -> str:
    """Return how many rows were lost or are there twice; that it was not counted everywhere is not kept back."""
    values = [drill["figures"][key] for drill in drills]
    count = total(values)
    if count is None:
        return f"{key} rows not counted"
    text = some.format(number(count), "row" if count == 1 else "rows") if count else none
    away = values.count(None)
    return f"{text} (not counted in {away})" if away else text


def total(values: Iterable[int | None]) -> int | None:
    """Return the sum of what is known; None where nothing is."""
    found = _known(values)
    return sum(found) if found else None


def _spread(values: Iterable[float | None]) -> Spread:
    found = list(values)
    known = _known(found)
    return Spread(median(known) if known else None, max(known, default=None), len(found))


def _known(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]
