"""What lets Patroni initialise a cluster is there only while no db host knows of one."""

from __future__ import annotations

from typing import Any

import pytest

from kbpg.engine.run import Run
from kbpg.facts import Facts, Knowledge, NotKnown
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.model import Status
from kbpg.resources.birth import Removed, born, signs
from kbpg.resources.file import File, FileState
from kbpg.resources.foreign import DataState

from .fake_docker import with_docker
from .small_cluster import DATABASES, context, stage, step

CONTEXT = context()
RECORD, DATA = (fact.key for _, fact in signs(CONTEXT)[:2])
PATH = "/opt/keybuzz/patroni/bootstrap.yml"
MARKER = "/opt/keybuzz/patroni/loaded"
EMPTY = DataState("/opt/keybuzz/postgres/data/pgdata", present=False)


def record(identifier: str) -> FileState:
    return FileState("0:0", 0o600, "", f'{{"cluster": "kb", "system_identifier": "{identifier}"}}')


def known(**changed: dict[str, Any]) -> Facts:
    """Return what bare hosts tell; `changed` are answers by host (`db_1`) and key."""
    knowledge = Knowledge()
    for name in DATABASES:
        knowledge.put(name, {RECORD: None, DATA: EMPTY} | changed.get(name.replace("-", "_"), {}))
    return Facts(knowledge, "db-1")


def test_all_db_hosts_are_asked_for_record_and_data() -> None:
    assert [(name, fact.key) for name, fact in signs(CONTEXT)] == [
        (name, key)
        for name in DATABASES
        for key in ("file:/opt/keybuzz/kbpg/cluster.json", "data:/opt/keybuzz/postgres/data")
    ]


@pytest.mark.parametrize(
    ("third", "is_born"),
    [
        ({}, False),
        ({RECORD: record("")}, False),  # claimed only
        ({DATA: DataState(EMPTY.path, True, "16")}, False),  # an initdb that was cut off
        ({RECORD: record("111")}, True),
        ({DATA: DataState(EMPTY.path, True, "16", "111")}, True),
        ({DATA: DataState(EMPTY.path, True, "16", readable=False)}, True),
        ({RECORD: NotKnown("db-3 is not connected")}, True),
        ({DATA: NotKnown("db-3 is not connected")}, True),
    ],
    ids=["bare", "claimed", "no-control", "recorded", "data", "unreadable", "no-record-told", "no-data-told"],
)
def test_one_host_that_knows_or_may_know_is_enough(third: dict[str, Any], is_born: bool) -> None:
    assert born(CONTEXT, known(db_3=third)) is is_born


def host(*there: str) -> FakeHost:
    made = with_docker(FakeHost("db-1"), "/opt/keybuzz/patroni")
    made.files |= {path: FakeFile(b"x\n") for path in there}
    return made


def apply(on: FakeHost, *, absent: bool) -> tuple[Status, tuple[str, ...]]:
    file = File(PATH, b"x\n", marker=MARKER, absent=lambda _: absent)
    (outcome,) = Run(CONTEXT, {"db-1": on}, FakeHost("c")).apply([step(stage(("db-1", file)))]).outcomes
    return outcome.status, outcome.lines


def test_a_file_that_must_not_be_is_removed_and_nothing_reloads() -> None:
    on = host(PATH, MARKER)
    assert apply(on, absent=True) == (Status.CHANGED, ("remove",))
    assert on.journal == [["rm", "-f", PATH]]
    assert apply(on, absent=True) == (Status.OK, ())


def test_a_file_that_must_be_is_written_and_loaded_anew() -> None:
    on = host(MARKER)
    assert apply(on, absent=False) == (Status.CHANGED, ("create",))
    assert PATH in on.files
    assert MARKER not in on.files


def test_what_has_served_its_purpose_is_removed_once() -> None:
    on = host(PATH)
    steps = [step(stage(("db-1", Removed(PATH))))]
    (outcome,) = Run(CONTEXT, {"db-1": on}, FakeHost("c")).apply(steps).outcomes
    assert (outcome.status, PATH in on.files) == (Status.CHANGED, False)
    (outcome,) = Run(CONTEXT, {"db-1": on}, FakeHost("c")).apply(steps).outcomes
    assert outcome.status is Status.OK
