"""KEY=VALUE for the cluster's configuration: which key of the inventory each means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from kbpg.errors import UsageError
from kbpg.inventory.cluster import Timers
from kbpg.inventory.parameters import check_name

PARAMETERS = ("postgresql", "parameters")
_OWN_KEYS = {
    "failover": ("failover",),
    "max_connections": ("postgresql", "max_connections"),
    **{name: ("timers", name) for name in Timers.model_fields},
}
"""What has a key of its own in the inventory; every other name is a PostgreSQL setting under `parameters`."""
_PREFIXES = ("postgresql.parameters.", "postgresql.", "timers.")


@dataclass(frozen=True)
class Assignment:
    """A setting by the name that PostgreSQL or Patroni has for it, and its text; None takes it out."""

    name: str
    path: tuple[str, ...]
    value: str | None

    @property
    def of_postgresql(self) -> bool:
        """Return whether PostgreSQL reads it, rather than Patroni or the proxies."""
        return self.path[0] == "postgresql"

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value is not None else f"{self.name} taken out"


def assignments(words: Sequence[str], unset: Sequence[str] = ()) -> tuple[Assignment, ...]:
    """Return what `KEY=VALUE …` and the names to take out mean. Raises `UsageError` with every mistake."""
    found: list[Assignment] = []
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            problems.append(f"wanted KEY=VALUE, got {word}")
        elif not value:
            problems.append(f"{name}: has no value; --unset {name} takes it out of the inventory")
        else:
            found.append(_assignment(name, value, problems))
    found += [_assignment(name, None, problems) for name in unset]
    names = [each.name for each in found]
    problems += [f"{name}: given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    refuse(problems)
    if not found:
        raise UsageError("nothing to set", hint="kbpg config set KEY=VALUE …, or --unset KEY")
    return tuple(found)


def refuse(problems: Sequence[str]) -> None:
    """Raise `UsageError` with these problems, if there are any."""
    if len(problems) == 1:
        raise UsageError(problems[0])
    if problems:
        raise UsageError(f"{len(problems)} settings cannot be set", detail=problems)


def _assignment(name: str, value: str | None, problems: list[str]) -> Assignment:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name in _OWN_KEYS:
        return Assignment(name, _OWN_KEYS[name], value)
    try:
        check_name(name)
    except ValueError as error:
        problems.append(f"{name}: {error}")
    return Assignment(name, (*PARAMETERS, name), value)


def similar(name: str, known: Sequence[str]) -> str:
    """Return a guess for an unknown name, as the end of a sentence; empty where nothing is like it."""
    close = difflib.get_close_matches(name, [*known, *_OWN_KEYS], n=1)
    return f", did you mean {close[0]}?" if close else ""
