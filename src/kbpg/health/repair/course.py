"""The course of a repair: one finding at a time, looked at again after each, nothing tried twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from kbpg.engine.unexpected import explained
from kbpg.errors import KbpgError, Refused
from kbpg.facts import NotKnown
from kbpg.health.check import HOST_FAULT
from kbpg.health.diagnose import Diagnosis
from kbpg.health.finding import Finding, Repair, Severity
from kbpg.model import CLUSTER

SETTLE = 20.0
"""Seconds for a finding to be gone after its repair: views of the cluster are a few of Patroni's loops old."""
STEADY = 8.0
"""Seconds for what is left to stay the same: members of Raft dial each other every second (ADR 0022; every 5 s
with an image of before), and Patroni looks every few seconds."""
PAUSE = 1.0
"""Seconds between two looks."""

Kind = tuple[str, str, tuple[tuple[str, str], ...]]


class Verdict(StrEnum):
    """What became of a repair."""

    MENDED = "mended"
    USELESS = "did not help"
    FAILED = "failed"
    REFUSED = "refused"
    DECLINED = "left alone"


@dataclass(frozen=True)
class Attempt:
    """One repair: what it was for, how it ended, in words, and how many seconds it took."""

    finding: Finding
    verdict: Verdict
    said: str = ""
    error: KbpgError | None = None
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "finding": self.finding.id,
            "host": self.finding.host,
            "repair": self.finding.repair.document() if self.finding.repair else None,
            "verdict": self.verdict.value,
            "said": self.said,
            "error": self.error.lines() if self.error else None,
            "seconds": round(self.seconds, 3),
        }


class Guide(Protocol):
    """Who decides, and who is told."""

    def agrees(self, finding: Finding, repair: Repair) -> bool:
        """Say what will be done and what it risks; return whether it may be done."""
        ...

    def ended(self, attempt: Attempt) -> None:
        """A repair ended, well or not."""
        ...


@dataclass
class Course:
    """What to look with, what to act with, and who goes along.

    `examine` looks at everything anew, `act` does a repair and returns what was done; `sleep` is the clock's.
    """

    examine: Callable[[], Diagnosis]
    act: Callable[[Repair], str]
    guide: Guide
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(self) -> tuple[Diagnosis, list[Attempt]]:
        """Mend until nothing is left that was not tried; return the last look and what was tried."""
        diagnosis, attempts, tried = self.examine(), list[Attempt](), set[Kind]()
        while finding := _next(diagnosis, tried):
            repair = finding.repair
            assert repair is not None  # noqa: S101 (`_next` returns no other)
            tried.add(_kind(repair))
            attempt, diagnosis = self._attempt(finding, repair, diagnosis)
            attempts.append(attempt)
            self.guide.ended(attempt)
        return diagnosis, attempts

    def _attempt(self, finding: Finding, repair: Repair, before: Diagnosis) -> tuple[Attempt, Diagnosis]:
        if not self.guide.agrees(finding, repair):
            return Attempt(finding, Verdict.DECLINED), before
        started, error, said = self.clock(), None, ""
        try:
            said = self.act(repair)
        except (KbpgError, NotKnown, OSError) as problem:
            error = explained(problem)
        diagnosis = self._settled(finding, hopeful=error is None)
        verdict = _verdict(finding, diagnosis, error)
        return Attempt(finding, verdict, said, error, self.clock() - started), diagnosis

    def _settled(self, finding: Finding, *, hopeful: bool) -> Diagnosis:
        """Look until all is well, or what is left no longer changes; once where nothing was done."""
        ends, since, before = self.clock() + SETTLE, self.clock(), None
        while True:
            diagnosis = self.examine()
            keys, now = _open(diagnosis), self.clock()
            since = since if keys == before else now
            steady = finding.key not in keys and now - since >= STEADY
            if not hopeful or diagnosis.healthy or steady or now > ends:
                return diagnosis
            before = keys
            self.sleep(PAUSE)


def _open(diagnosis: Diagnosis) -> set[tuple[str, str, str]]:
    """Return what is to be mended: a notice is what some findings become when they are."""
    return {each.key for each in diagnosis.findings if each.severity > Severity.NOTICE}


def _next(diagnosis: Diagnosis, tried: set[Kind]) -> Finding | None:
    """Return the worst finding that can be mended and whose kind of repair was not tried on its host."""
    for finding in diagnosis.findings:
        if finding.repair and _kind(finding.repair) not in tried:
            return finding
    return None


def _kind(repair: Repair) -> Kind:
    return repair.action.value, repair.host, tuple(sorted(repair.parameters.items()))


def _verdict(finding: Finding, after: Diagnosis, error: KbpgError | None) -> Verdict:
    if finding.key not in _open(after) and not (error and _hidden(finding, after)):
        return Verdict.MENDED
    if isinstance(error, Refused):
        return Verdict.REFUSED
    return Verdict.FAILED if error else Verdict.USELESS


def _hidden(finding: Finding, after: Diagnosis) -> bool:
    """Return whether a fault of its host, of any for one of the cluster, may be why a finding is no longer shown."""
    faults = {each.host for each in after.of(*HOST_FAULT)}
    return bool(faults if finding.host == CLUSTER else faults & {finding.host, *finding.about})
