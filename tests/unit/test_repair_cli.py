"""What `diagnose --repair` says before and after each repair, and to whom it listens."""

from __future__ import annotations

import io
from typing import Any

import pytest

from kbpg.cli.repairing import Asking, closing
from kbpg.console import Console, plain
from kbpg.errors import HostError, Refused
from kbpg.health.finding import Action, Finding, Repair, Severity
from kbpg.health.repair.course import Attempt, Verdict
from kbpg.options import Options
from kbpg.secret import masked

REPAIR = Repair(Action.REINITIALIZE, "db-2", "clone db-2 anew from db-1", "its data is removed first")
FINDING = Finding(
    "replica-no-checkpoint",
    Severity.CRITICAL,
    "db-2",
    "no valid checkpoint record",
    "does not stream",
    "why",
    "remedy",
    repair=REPAIR,
)


def guide(err: io.StringIO, *, terminal: bool = True, **how: Any) -> Asking:
    options = Options(**how)
    console = Console(mask=options.masked, err=err, out=io.StringIO(), terminal=False)
    return Asking(console, options, terminal=terminal)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("yes\n", True), ("n\n", False), ("", False)])
def test_what_will_be_done_and_its_risk_are_said_before_the_question(
    monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert guide(err).agrees(FINDING, REPAIR) is agreed
    assert err.getvalue() == (
        "db-2: no valid checkpoint record: does not stream\n"
        "  will clone db-2 anew from db-1\n"
        "  risk: its data is removed first\n"
        "  go ahead? [y/N] "
    )


def test_yes_is_not_asked_again() -> None:
    err = io.StringIO()
    assert guide(err, yes=True, terminal=False).agrees(FINDING, REPAIR)
    assert "go ahead" not in err.getvalue()


def test_where_nobody_can_answer_nothing_is_done() -> None:
    err = io.StringIO()
    assert not guide(err, terminal=False).agrees(FINDING, REPAIR)
    assert "risk: its data is removed first" in err.getvalue()


def test_a_refusal_is_shown_with_its_reason_and_the_way_by_hand() -> None:
    err = io.StringIO()
    refusal = Refused("the data on db-2 is left alone: no healthy leader exists", hint="look")
    guide(err).ended(Attempt(FINDING, Verdict.REFUSED, error=refusal, seconds=1.2))
    assert err.getvalue() == (
        "  refused (1 s)\n    the data on db-2 is left alone: no healthy leader exists\n    hint: look\n"
    )


def test_a_password_in_an_error_is_masked() -> None:
    err = io.StringIO()
    attempt = Attempt(FINDING, Verdict.FAILED, error=HostError("db-2", "said hunter2"))

    def mask(text: str) -> str:
        return text.replace("hunter2", "***")

    guide(err, mask=mask).ended(attempt)
    assert "hunter2" not in err.getvalue()
    assert "said ***" in err.getvalue()
    document = masked(attempt.document(), mask)
    assert document["error"] == ["db-2: said ***"]
    assert document["repair"]["host"] == "db-2"


def test_the_end_counts_what_became_of_the_repairs() -> None:
    attempts = [Attempt(FINDING, verdict) for verdict in (Verdict.MENDED, Verdict.MENDED, Verdict.REFUSED)]
    assert plain(closing(attempts, True)) == "3 repairs: 2 mended, 1 refused\n"
    assert "--yes goes ahead" in plain(closing([Attempt(FINDING, Verdict.DECLINED)], False))
    assert plain(closing([], True)) == "nothing that kbpg can mend\n"
