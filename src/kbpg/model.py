"""The one abstraction: a resource says what it wants, recognises what is, and can fix the difference.

Plan, apply, verify and drift detection are the same comparison of two flat mappings, used in different ways.
Nothing here does anything: side effects are in `Resource.fix` alone, and the engine decides when.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.engine.rollout import Rollout
    from kbpg.engine.site import Site
    from kbpg.facts import Fact, Facts

Value = str | int | bool
State = Mapping[str, Value]
"""Flat, comparable, printable; never a secret."""


class Absent(Enum):
    """The state of what is not there."""

    ABSENT = "absent"

    def __str__(self) -> str:
        return "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True)
class Unknown:
    """The state of what cannot be read now, and why ("waits for PostgreSQL")."""

    reason: str


Want = State | Absent
Have = State | Absent | Unknown

CLUSTER: Final = "cluster"
"""The place of what exists once, on whichever host leads."""
CONTROLLER: Final = "controller"
"""The place of what exists where kbpg runs."""


class Impact(IntEnum):
    """What a change does to clients, worst last."""

    NONE = 0
    RELOAD = 1
    RESTART = 2
    SWITCHOVER = 3

    def __str__(self) -> str:
        return self.name.lower()


class Status(StrEnum):
    """How a resource ended, or stands."""

    OK = "ok"
    CHANGED = "changed"
    DIFFERS = "differs"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_ATTEMPTED = "not attempted"


@dataclass(frozen=True)
class Change:
    """What is, what must be: the difference that a fix has to remove."""

    have: Have
    want: Want

    def names(self) -> list[str]:
        """Return the names of the values that differ, in the order of `want`."""
        have = self.have if isinstance(self.have, Mapping) else {}
        want = self.want if isinstance(self.want, Mapping) else {}
        names = [*want, *(name for name in have if name not in want)]
        return [name for name in names if have.get(name) != want.get(name)]

    def only(self, *names: str) -> bool:
        """Return whether nothing but `names` differs between two present states."""
        both = isinstance(self.have, Mapping) and isinstance(self.want, Mapping)
        return both and set(self.names()) <= set(names)

    def lines(self) -> list[str]:
        """Return the difference as text, one line a value: `mode: 0755 → 0700`."""
        if isinstance(self.have, Unknown):
            return [f"not known yet: {self.have.reason}"]
        if not isinstance(self.have, Mapping):
            return ["create"]
        if not isinstance(self.want, Mapping):
            return ["remove"]
        return [f"{k}: {self.have.get(k, 'none')} → {self.want.get(k, 'none')}" for k in self.names()]


class Resource(ABC):
    """One thing that must be so.

    `id` names it within its place ("file:/opt/keybuzz/haproxy/haproxy.cfg"). `want` and `have` are pure; they
    may raise `NotKnown`, which the engine turns into `Unknown`.
    """

    id: str
    facts: tuple[Fact[object], ...] = ()
    waits: bool = False
    """Whether `fix` is also for a state that cannot be read yet: it waits until it can."""

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Return where each fact is read: at the place, or on every db host for the cluster."""
        names = context.db_names if place == CLUSTER else [place]
        return [(name, fact) for name in names for fact in self.facts]

    @abstractmethod
    def want(self, facts: Facts) -> Want:
        """Return what must be; may depend on facts (memory decides shared_buffers)."""

    @abstractmethod
    def have(self, facts: Facts) -> Want:
        """Return what is."""

    @abstractmethod
    def fix(self, site: Site, change: Change) -> None:
        """Remove the difference. The only place with side effects. Raises `KbpgError`."""

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return what the fix will do to clients."""
        return Impact.NONE

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return the difference as lines to show."""
        return change.lines()

    def advice(self, facts: Facts) -> str | None:
        """Return the hint for a difference that stayed after its fix; None where there is nothing to say."""
        return None

    def remarks(self, facts: Facts) -> list[str]:
        """Return what is worth a line though nothing differs; `plan` shows it."""
        return []

    def evidence(self, site: Site) -> list[str]:
        """Return what explains a failure, such as the last lines of a log; called after one."""
        return []


@dataclass(frozen=True)
class Placed:
    """A resource and where it belongs: a host's name, `CLUSTER` or `CONTROLLER`."""

    place: str
    resource: Resource


@dataclass(frozen=True)
class Stage:
    """Resources that are compared and fixed together: per place in order, the places side by side.

    `requirement`: compared for all steps before anything changes; a difference, or a state that cannot be
    read, stops the run. `unlimited`: compared on every host, also those that `--limit` leaves out.
    """

    title: str
    items: tuple[Placed, ...]
    rollout: Rollout | None = None
    requirement: bool = False
    unlimited: bool = False


@dataclass(frozen=True)
class Step:
    """A numbered phase of the installation: a pure function from the context to stages."""

    number: int
    name: str
    summary: str
    stages: Callable[[Context], Sequence[Stage]]

    @property
    def label(self) -> str:
        """Return the number and the name, as shown everywhere: `03 haproxy`."""
        return f"{self.number:02d} {self.name}"
