"""Going through the acceptance list: one pass over all hosts, then every check in its order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from kbpg import sql
from kbpg.context import Context
from kbpg.credentials import Found
from kbpg.engine.redactor import Redactor
from kbpg.errors import Exit, HostError
from kbpg.facts import NotKnown
from kbpg.health.validation.acceptance import Acceptance, Outcome, Result, Verdict, failed, skipped
from kbpg.health.validation.aside import NoResult, each
from kbpg.health.validation.catalogue import ALL
from kbpg.health.validation.subject import Subject, gather
from kbpg.hosts.port import Reader

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Validation:
    """All results; `looking` are the seconds of the pass, `seconds` of everything."""

    subject: Subject = field(repr=False)
    results: tuple[Result, ...]
    started: datetime
    looking: float
    seconds: float

    def count(self, outcome: Outcome) -> int:
        """Return how many checks ended so."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def passed(self) -> bool:
        """Return whether every check passed; one that was skipped did not."""
        return self.count(Outcome.PASSED) == len(self.results)

    @property
    def exit_code(self) -> Exit:
        """Return 0 where all passed, else 1."""
        return Exit.OK if self.passed else Exit.FAILED

    @property
    def mask(self) -> Callable[[str], str]:
        """Return what hides every secret in a text."""
        return Redactor.of(self.subject.context).mask


def validate(
    context: Context,
    found: Found | None,
    hosts: Mapping[str, Reader],
    unreachable: Mapping[str, HostError],
    say: Progress = _silent,
) -> Validation:
    """Go through the whole list on the connected `hosts` and return what was found; `say` is told what goes on.

    `found` is the credentials file. The one thing that is written is a table of its own, which is dropped at the end,
    also after an interruption.
    """
    started, began = datetime.now(UTC), time.monotonic()
    say("reading the hosts")
    subject = gather(context, found, hosts, unreachable)
    looking = time.monotonic() - began
    try:
        results = examine(subject, ALL, say)
    finally:
        # Nothing to do where the last check has done it
        each([subject.trial.name], lambda _: subject.trial.remove())
    return Validation(subject, tuple(results), started, looking, time.monotonic() - began)


def examine(subject: Subject, checks: Sequence[Acceptance], say: Progress = _silent) -> list[Result]:
    """Make the checks in their order and return their results, without a secret in any text."""
    mask = Redactor.of(subject.context).mask
    results: dict[str, Result] = {}
    titles = {check.id: check.title.format(**subject.words) for check in checks}
    for check in checks:
        say(titles[check.id])
        began = time.monotonic()
        away = [name for name in check.needs if results[name].outcome is not Outcome.PASSED]
        verdict = skipped(f"needs: {titles[away[0]]}") if away else _verdict(check, subject)
        results[check.id] = Result(
            check.id,
            titles[check.id],
            check.group,
            verdict.outcome,
            mask(verdict.summary),
            tuple(map(mask, verdict.evidence)),
            time.monotonic() - began,
            verdict.figures,
        )
    return list(results.values())


def _verdict(check: Acceptance, subject: Subject) -> Verdict:
    """Return what a check says; what it could not find out is a failure."""
    try:
        return check.examine(subject)
    except (NoResult, NotKnown) as reason:
        return failed(str(reason))
    except HostError as error:
        return failed(f"{error.host}: {error.reason}", *error.detail)
    except (OSError, psycopg.Error) as error:
        return failed(sql.short(error))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        return failed(f"an answer it was not written for: {type(error).__name__}: {error}")
