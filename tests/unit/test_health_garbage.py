"""Whatever hosts answer, a diagnosis ends with findings and not with a traceback."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kbpg.facts import NotKnown
from kbpg.haproxy import HaproxyFact
from kbpg.health import catalogue
from kbpg.health.check import Check, Seen
from kbpg.health.diagnose import judge
from kbpg.health.finding import Severity
from kbpg.health.questions import LogsFact, NeighboursFact, Usage, UsageFact
from kbpg.hosts.port import Output

from .health_world import World

GARBAGE: tuple[Any, ...] = (
    None,
    "",
    "garbage",
    0,
    -1,
    True,
    (),
    [],
    {},
    ((),),
    ((None,) * 9,),
    {"patroni": {}},
    1.5,
)


@pytest.fixture(scope="module")
def healthy() -> World:
    return World()


def test_nobody_answers(healthy: World) -> None:
    world = World()
    for host, facts in world.named.items():
        for fact in facts.values():
            world.silence(host, fact, "no answer within 5 s")
    ids = {finding.id for finding in world.diagnose().findings}
    assert "host-unreachable" in ids
    assert "check-failed" not in ids


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_every_answer_is_garbage(healthy: World, garbage: Any) -> None:
    world = World()
    for host, facts in world.named.items():
        for fact in facts.values():
            world.say(host, fact, garbage)
    assert world.diagnose().passed >= 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), share=st.floats(0.01, 0.6))
@example(seed=210459, share=0.5)  # a Raft member's partners are no texts
def test_some_answers_are_garbage(healthy: World, seed: int, share: float) -> None:
    """Each answer is kept, lost, replaced by garbage, or has one field replaced by it."""
    chance = random.Random(seed)  # noqa: S311 (reproducible, no secret)
    before = {host: dict(answers) for host, answers in healthy.answers.items()}
    try:
        for answers in healthy.answers.values():
            for key in answers:
                if chance.random() < share:
                    answers[key] = _spoilt(answers[key], chance)
        findings = healthy.diagnose().findings
        assert all(finding.seen for finding in findings)
        assert all(finding.document() for finding in findings)
    finally:
        healthy.answers = before


def _spoilt(answer: Any, chance: random.Random) -> Any:
    garbage = chance.choice([*GARBAGE, NotKnown("lost")])
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type) and chance.random() < 0.5:
        name = chance.choice([field.name for field in dataclasses.fields(answer)])
        return dataclasses.replace(answer, **{name: garbage})
    if isinstance(answer, dict) and answer and chance.random() < 0.5:
        return {**answer, chance.choice(sorted(answer, key=str)): garbage}
    return garbage


def test_a_check_that_fails_is_a_finding(healthy: World) -> None:
    def examine(snapshot: Any) -> list[Seen]:
        raise KeyError("Status")

    check = Check("odd", "odd", Severity.CRITICAL, "why", "do", examine)
    (finding,) = judge(healthy.snapshot(), (check,)).findings
    assert (finding.id, finding.subject, finding.severity) == ("check-failed", "odd", Severity.WARNING)


def test_ids_are_unique_and_causes_are_known() -> None:
    ids = [check.id for check in catalogue.ALL]
    assert len(ids) == len(set(ids))
    assert {cause for check in catalogue.ALL for cause in check.explained_by} <= set(ids)


# --- parsers, with what real programs print -------------------------------------------------------------

CSV = (
    "# pxname,svname,qcur,scur,status,check_status,last_chk,\n"
    "primary,FRONTEND,,3,OPEN,,,\n"
    "primary,db-1,0,3,UP,L7OK,,\n"
    'primary,db-2,0,0,DOWN 1/2,L7OK,"OK, nearly",\n'
    "primary,BACKEND,0,3,UP,,,\n"
)


def test_haproxys_statistics() -> None:
    servers = HaproxyFact(8404).parse(200, CSV)
    assert [(s.proxy, s.name, s.up, s.rising, s.sessions) for s in servers] == [
        ("primary", "db-1", True, False, 3),
        ("primary", "db-2", False, True, 0),
    ]
    assert servers[1].check == "L7OK OK, nearly"


@pytest.mark.parametrize(("status", "body"), [(404, CSV), (200, {"a": 1}), (200, "<html>"), (200, "")])
def test_what_is_no_statistics_is_not_known(status: int, body: Any) -> None:
    with pytest.raises(NotKnown):
        HaproxyFact(8404).parse(status, body)


def test_logs_are_told_apart() -> None:
    fact = LogsFact(("haproxy", "pgbouncer"))
    said = "kbpg-log-of haproxy\none\ntwo\nkbpg-log-of pgbouncer\nError: No such container: pgbouncer\n"
    assert fact.parse(Output(0, said)) == {
        "haproxy": ("one", "two"),
        "pgbouncer": ("Error: No such container: pgbouncer",),
    }
    with pytest.raises(NotKnown, match="not installed"):
        fact.parse(Output(45, ""))


def test_neighbours_and_usage() -> None:
    text = "patroni\tp:latest\t/opt/a\npostgres\tpostgres:16\t/opt/keybuzz/postgres/data,/x\n"
    (found,) = NeighboursFact(("patroni",)).parse(Output(0, text))
    assert (found.name, found.mounts) == ("postgres", ("/opt/keybuzz/postgres/data", "/x"))


def test_each_file_system_is_told_once_by_the_first_path_on_it() -> None:
    """What is not there is left out; without an answer at all nothing is known."""
    said = "8f01 100 25 4096 /opt/kb\n77 50 40 4096 /srv/b b\n8f01 100 24 4096 /var/lib/docker\n"
    fact = UsageFact(("/opt/kb", "/srv/b b"))
    found = fact.parse(Output(1, said, "stat: cannot read file system information for '/var/lib/containerd'"))
    assert found == (Usage("/opt/kb", 409600, 102400), Usage("/srv/b b", 204800, 163840))
    with pytest.raises(NotKnown):
        fact.parse(Output(1, "", "stat: cannot read"))
