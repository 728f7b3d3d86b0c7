"""Logs are read where something is wrong and nowhere else; a host's Docker is asked once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest

from kbpg.facts import NotKnown
from kbpg.health.asking import of_docker, placed, wanted
from kbpg.health.diagnose import Diagnosis, examine, judge, judge_with_logs
from kbpg.health.looking import DEADLINE, LOGS
from kbpg.health.questions import LogsFact
from kbpg.health.snapshot import Snapshot
from kbpg.hosts.port import Output, Question, Reader

from .health_world import World

CHECKPOINT = "PANIC:  could not locate a valid checkpoint record"


class Docker(Reader):
    """A host whose Docker shows one log, and that counts who asks."""

    def __init__(self, name: str) -> None:
        self.name, self.address = name, "192.0.2.2"
        self.asked: list[str] = []

    def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
        self.asked += [each.key for each in questions]
        return {key: Output(0, f"kbpg-log-of patroni\n{CHECKPOINT}\n") for key in self.asked}

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        raise NotImplementedError

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        raise NotImplementedError


def without_logs(world: World) -> Snapshot:
    for answers in world.answers.values():
        for key in [key for key in answers if key.startswith("logs:")]:
            del answers[key]
    return world.snapshot()


def test_nothing_is_read_on_a_healthy_cluster() -> None:
    snapshot = without_logs(World())
    assert judge_with_logs(snapshot, {}).healthy
    assert snapshot.unread == set()


def test_the_log_of_what_is_wrong_is_read_and_names_the_cause() -> None:
    world = World()
    world.lost("db-2")
    snapshot = without_logs(world)
    assert [finding.id for finding in judge(snapshot).findings if finding.host == "db-2"] == [
        "replica-not-streaming"
    ]
    assert snapshot.unread == {"db-2"}
    host, other = Docker("db-2"), Docker("db-3")
    found = judge_with_logs(without_logs(world), {"db-2": host, "db-3": other})
    (finding,) = [finding for finding in found.findings if finding.host == "db-2"]
    assert finding.id == "replica-no-checkpoint"
    assert CHECKPOINT in "\n".join(finding.evidence)
    assert (host.asked, other.asked) == ([LogsFact(("patroni",)).key], [])
    # What is judged from its snapshot later, as a report does, sees the same
    assert found.snapshot is not None
    assert judge(found.snapshot).findings == found.findings


def test_a_docker_that_does_not_answer_is_not_asked_for_logs() -> None:
    """It would cost the deadline once more."""
    world = World()
    world.lost("db-2")
    world.silence("db-2", world.containers("db-2"), "no answer within 5 s")
    snapshot = without_logs(world)
    judge(snapshot)
    assert "db-2" in snapshot.unread
    host = Docker("db-2")
    assert snapshot.with_logs({"db-2": host}) is snapshot
    assert host.asked == []


def test_a_docker_that_hangs_when_logs_are_wanted_costs_the_deadline_and_the_logs() -> None:
    free = threading.Event()

    class Hanging(Docker):
        def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
            free.wait(30)
            return super().read(questions, timeout=timeout)

    world = World()
    world.lost("db-2")
    started = time.monotonic()
    try:
        found = judge_with_logs(without_logs(world), {"db-2": Hanging("db-2")}, 0.2)
    finally:
        free.set()
    assert time.monotonic() - started < 5
    assert found.findings == judge(without_logs(world)).findings


@pytest.mark.parametrize(
    ("given", "took", "left"),
    [
        (LOGS, 0.5, DEADLINE),
        (LOGS, 4.0, LOGS + 1.0),
        (LOGS, DEADLINE, LOGS),
        (LOGS, DEADLINE + 1, LOGS),
        (DEADLINE, 0.5, DEADLINE),
        (DEADLINE, DEADLINE, DEADLINE),
    ],
)
def test_logs_have_what_the_pass_left_of_its_time_and_some_of_their_own(
    monkeypatch: pytest.MonkeyPatch, given: float, took: float, left: float
) -> None:
    world, now, deadlines = World(), [100.0], list[float]()

    def take(*_: object) -> Snapshot:
        now[0] += took
        return world.snapshot()

    def with_logs(snapshot: Snapshot, hosts: Mapping[str, Reader], deadline: float) -> Diagnosis:
        deadlines.append(deadline)
        return judge(snapshot)

    monkeypatch.setattr("kbpg.health.diagnose.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("kbpg.health.diagnose.take", take)
    monkeypatch.setattr("kbpg.health.diagnose.judge_with_logs", with_logs)
    assert examine(world.context, {}, logs=given).seconds == took
    assert deadlines == [left]


def test_a_log_that_cannot_be_read_is_no_log_and_is_not_asked_again() -> None:
    world = World()
    world.silence("db-2", LogsFact(("patroni",)), "Docker does not answer")
    snapshot = world.snapshot()
    assert snapshot.log("db-2", "patroni") == ()
    assert snapshot.unread == set()
    assert isinstance(world.get("db-2", LogsFact(("patroni",))), NotKnown)


def test_what_is_asked_early_is_what_a_pass_asks() -> None:
    """Else a host would be asked twice."""
    world = World()
    questions = wanted(world.context, placed(world.context))
    for host in world.context.inventory.hosts:
        early = {fact.key for fact in of_docker(world.context, host.name)}
        assert len(early) == 4
        assert early <= {fact.key for fact in questions[host.name]}
