"""One finding at a time, each repair at most once, a fresh look after each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from kbpg.errors import HostError, Refused
from kbpg.health.check import HOST_FAULT
from kbpg.health.diagnose import Diagnosis
from kbpg.health.finding import Action, Finding, Repair, Severity
from kbpg.health.repair.course import SETTLE, Attempt, Course, Verdict
from kbpg.model import CLUSTER


def finding(id_: str, host: str = "db-2", *, can: bool = True, step: str = "02") -> Finding:
    repair = Repair(Action.APPLY_STEP, host, f"mend {id_}", parameters={"step": step}) if can else None
    return Finding(id_, Severity.CRITICAL, host, id_, "seen", "why", "remedy", repair=repair)


@dataclass
class World:
    """Findings that are there until their repair is done; `stubborn` stay, `errors` are what a repair raises."""

    findings: list[Finding]
    stubborn: set[str] = field(default_factory=set)
    errors: dict[str, Exception] = field(default_factory=dict)
    declined: set[str] = field(default_factory=set)
    comes: dict[str, list[Finding]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    now: float = 0.0
    looks: int = 0

    def examine(self) -> Diagnosis:
        self.looks += 1
        return Diagnosis(tuple(self.findings), 1)

    def act(self, repair: Repair) -> str:
        name = repair.will.removeprefix("mend ")
        self.done.append(name)
        if name in self.errors:
            raise self.errors[name]
        if name not in self.stubborn:
            self.findings = [each for each in self.findings if each.id != name] + self.comes.pop(name, [])
        return f"mended {name}"

    def agrees(self, found: Finding, repair: Repair) -> bool:
        return found.id not in self.declined

    def ended(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self) -> list[tuple[str, Verdict]]:
        course = Course(self.examine, self.act, self, self.sleep, lambda: self.now)
        diagnosis, attempts = course.run()
        assert attempts == self.attempts
        assert diagnosis.findings == tuple(self.findings)
        return [(attempt.finding.id, attempt.verdict) for attempt in attempts]


def names(*findings: Finding) -> list[Finding]:
    return list(findings)


def test_each_is_mended_in_the_order_of_the_diagnosis() -> None:
    world = World(names(finding("a"), finding("b", "db-3")))
    assert world.run() == [("a", Verdict.MENDED), ("b", Verdict.MENDED)]
    assert world.done == ["a", "b"]


def test_what_kbpg_cannot_mend_is_left_alone() -> None:
    world = World(names(finding("a", can=False)))
    assert world.run() == []
    assert world.done == []


def test_a_repair_that_does_not_help_is_said_and_not_tried_again() -> None:
    world = World(names(finding("a"), finding("b", "db-3")), stubborn={"a"})
    assert world.run() == [("a", Verdict.USELESS), ("b", Verdict.MENDED)]
    assert world.done == ["a", "b"]
    assert world.now > SETTLE


def test_one_kind_of_repair_is_done_once_a_host() -> None:
    """A second finding with the same repair shows that the repair does not help."""
    world = World(names(finding("a")), comes={"a": [finding("b"), finding("c", step="01")]})
    assert world.run() == [("a", Verdict.MENDED), ("c", Verdict.MENDED)]


def test_what_shows_after_a_repair_is_mended_too() -> None:
    world = World(names(finding("a")), comes={"a": [finding("b", "db-3")]})
    assert world.run() == [("a", Verdict.MENDED), ("b", Verdict.MENDED)]


def test_a_refusal_and_a_failure_do_not_stop_the_others() -> None:
    errors: dict[str, Exception] = {"a": Refused("no leader"), "b": HostError("db-3", "disk full")}
    world = World(names(finding("a"), finding("b", "db-3"), finding("c", "db-1")), errors=errors)
    assert world.run() == [("a", Verdict.REFUSED), ("b", Verdict.FAILED), ("c", Verdict.MENDED)]
    assert [attempt.error for attempt in world.attempts[:2]] == list(errors.values())


def test_declined_is_declined() -> None:
    world = World(names(finding("a")), declined={"a"})
    assert world.run() == [("a", Verdict.DECLINED)]
    assert world.done == []


def test_a_finding_that_went_away_in_spite_of_an_error_counts_as_mended() -> None:
    world = World(names(finding("a")))
    real = world.act

    def act(repair: Repair) -> str:
        real(repair)
        raise HostError("db-2", "the connection was lost")

    world.act = act  # type: ignore[method-assign]
    assert world.run() == [("a", Verdict.MENDED)]


@pytest.mark.parametrize(
    ("of", "lost", "verdict"),
    [
        ("db-2", "db-2", Verdict.FAILED),
        ("db-2", "db-3", Verdict.MENDED),
        (CLUSTER, "db-2", Verdict.FAILED),
    ],
)
@pytest.mark.parametrize("fault", HOST_FAULT)
def test_a_finding_that_the_loss_of_its_host_hides_was_not_mended(
    of: str, lost: str, verdict: Verdict, fault: str
) -> None:
    """The repair itself failed with the connection: nobody has seen that it did anything."""
    world = World(names(finding("a", of)))

    def act(repair: Repair) -> str:
        world.findings = [finding(fault, lost, can=False)]
        raise HostError(lost, "the connection was lost")

    world.act = act  # type: ignore[method-assign]
    assert world.run() == [("a", verdict)]


def test_what_was_done_without_an_error_is_mended_though_a_host_is_away() -> None:
    away = finding("host-unreachable", can=False)
    assert World(names(finding("a"), away)).run() == [("a", Verdict.MENDED)]


def test_a_healthy_cluster_is_looked_at_once() -> None:
    world = World([])
    assert world.run() == []
    assert world.looks == 1


def test_an_attempt_as_json() -> None:
    attempt = Attempt(finding("a"), Verdict.REFUSED, error=Refused("no leader", hint="look"), seconds=1.23456)
    document = attempt.document()
    assert document["verdict"] == "refused"
    assert document["error"] == ["no leader", "hint: look"]
    assert document["seconds"] == 1.235


def test_a_finding_that_is_left_as_a_notice_is_mended() -> None:
    """pgvector with its hole is a warning while parallel index builds are on, and a notice afterwards."""
    world = World(
        names(finding("a")), comes={"a": [replace(finding("a", can=False), severity=Severity.NOTICE)]}
    )
    assert world.run() == [("a", Verdict.MENDED)]
