"""Waiting: a condition that comes true, one that does not, and one that cannot be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from kbpg.engine.run import Run
from kbpg.errors import ConnectionLost, NotConverged
from kbpg.facts import Fact, Facts
from kbpg.hosts.fake import FakeHost
from kbpg.model import Status
from kbpg.resources.probe import Probe

from .small_cluster import CountingHost, ValueFact, context, hosts, put, stage, step

A, B = ValueFact("a"), ValueFact("b")


def see(facts: Facts) -> Mapping[str, str]:
    return {"a": facts.get(A, "db-1") or "none", "b": facts.get(B, "db-2") or "none"}


SOURCES: Sequence[tuple[str, Fact[object]]] = [("db-1", A), ("db-2", B)]


def waiting(deadline: float, evidence: Sequence[str] = ()) -> Probe:
    wanted = {"a": "1", "b": "2"}
    return Probe("both", wanted, see, SOURCES, deadline=deadline, evidence_of=lambda site: list(evidence))


def run(world: dict[str, CountingHost], resource: Probe) -> Run:
    run = Run(context(), world, FakeHost("controller"))
    run.apply([step(stage(("db-1", resource)))])
    return run


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0.001)


def test_what_is_so_is_not_waited_for() -> None:
    world = hosts()
    put(world["db-1"], a="1")
    put(world["db-2"], b="2")
    (outcome,) = run(world, waiting(0)).report.outcomes
    assert outcome.status is Status.OK
    assert [len(world[name].reads) for name in ("db-1", "db-2")] == [1, 1]


@pytest.mark.parametrize("first", [None, "?", "0"], ids=["absent", "unknown", "different"])
def test_what_becomes_so_is_waited_for(first: str | None) -> None:
    """Also where it cannot be seen at all in the beginning."""
    world = hosts()
    put(world["db-2"], b="2")
    if first is not None:
        put(world["db-1"], a=first)
    read = world["db-1"].read

    def fifth(questions: object, *, timeout: float = 0) -> object:
        if len(world["db-1"].reads) == 4:
            put(world["db-1"], a="1")
        return read(questions, timeout=timeout)  # type: ignore[arg-type]

    world["db-1"].read = fifth  # type: ignore[method-assign, assignment]
    (outcome,) = run(world, waiting(10)).report.outcomes
    assert outcome.status is Status.CHANGED
    assert world["db-1"].asked(A.key) >= 5


@pytest.mark.parametrize(
    ("first", "seen"),
    [("0", "a: 0 → 1"), ("?", "not known yet: waits for something")],
)
def test_what_does_not_become_so_is_said_with_the_evidence(first: str, seen: str) -> None:
    world = hosts()
    put(world["db-1"], a=first)
    put(world["db-2"], b="2")
    (outcome,) = run(world, waiting(0.05, ["last lines of the container's log:", "  FATAL"])).report.outcomes
    assert outcome.status is Status.FAILED
    assert isinstance(outcome.error, NotConverged)
    assert outcome.error.message == f"not so within 0.05 s: {seen}"
    assert outcome.error.detail == ("last lines of the container's log:", "  FATAL")


def test_a_deadline_of_nothing_looks_once_more() -> None:
    world = hosts()
    put(world["db-2"], b="2")
    (outcome,) = run(world, waiting(0)).report.outcomes
    assert outcome.status is Status.FAILED
    assert world["db-1"].asked(A.key) == 2


def test_only_the_sources_are_looked_at() -> None:
    world = hosts()
    run(world, waiting(0))
    assert {name: len(host.reads) for name, host in world.items()} == {
        "db-1": 2,
        "db-2": 2,
        "db-3": 0,
        "px-1": 0,
        "px-2": 0,
    }


def test_a_host_whose_connection_has_ended_is_not_waited_for() -> None:
    world = hosts()
    put(world["db-1"], a="1")
    world["db-2"].ended = ConnectionLost("db-2", "the SSH connection was lost")
    (outcome,) = run(world, waiting(30)).report.outcomes
    assert outcome.error is not None
    assert outcome.error.message == "db-2: the SSH connection was lost"
    put(world["db-2"], b="2")
    (outcome,) = run(world, waiting(30)).report.outcomes
    assert outcome.status is Status.OK
