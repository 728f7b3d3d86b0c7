"""A cluster that is born: a majority of its data is there, and what cannot change has not changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kbpg.facts import NotKnown
from kbpg.patroni import NodeStatus
from kbpg.resources.file import FileState

from .test_preflight_checks import BASE, DATA, MINE, RECORD, lines, one, record

NODE = "rest:8008/patroni"
BORN: dict[str, Any] = {DATA: MINE, RECORD: record()}
LEADER = NodeStatus("running", "primary", 1, "4.1.5", "111", False, False, False, ())
SILENT = NotKnown("db-3 is not connected")


def all_at(host: str, settings: str = "", **changed: dict[str, Any]) -> list[str]:
    return [line.strip() for line in lines(host, settings, **changed)]


@pytest.mark.parametrize(
    "rest",
    [
        {"db_1": BORN, "db_2": BORN, "db_3": BORN},
        {"db_1": BORN, "db_2": BORN},  # one empty host of three
        {"db_1": BORN, "db_2": BORN | {DATA: replace(MINE, system_identifier="")}, "db_3": BORN},
        {"db_1": BORN | {NODE: LEADER}},  # the others clone from it
        {"db_1": BORN, "db_3": {DATA: SILENT, RECORD: SILENT}},  # left out
        {"db_1": {RECORD: record(identifier="")}},  # claimed, not born
    ],
    ids=["whole", "one-empty", "one-clone", "led", "left-out", "claimed"],
)
def test_enough_data_is_there(rest: dict[str, Any]) -> None:
    assert one("db-2", **rest) == ""


@pytest.mark.parametrize(
    "node",
    [NotKnown("no answer"), replace(LEADER, role="replica"), replace(LEADER, system_identifier="222")],
    ids=["silent", "replica", "other-cluster"],
)
def test_two_empty_hosts_of_three_are_no_cluster(node: object) -> None:
    for host in ("db-1", "db-2", "db-3"):
        assert all_at(host, db_3=BORN, db_1={NODE: node}) == [
            "survivors: no node leads, and of the cluster that is recorded (system identifier 111) db-1, db-2 hold "
            "no data: wanted it on a majority of the db hosts",
            "hint: bring the hosts with its data back, or `kbpg raft rebuild --without db-1 --without db-2` and then "
            "kbpg again: they clone",
        ]


def test_records_alone_are_no_data() -> None:
    said = all_at("db-1", **{host: {RECORD: record()} for host in ("db_1", "db_2", "db_3")})
    assert said[-1] == (
        "hint: bring the hosts with its data back; to begin a new, empty cluster remove "
        f"{BASE}/kbpg/cluster.json on every db host"
    )


def test_a_proxy_is_not_asked() -> None:
    assert lines("px-1", db_3=BORN) == []


# --- what is fixed -----------------------------------------------------------------------------------


def container(source: str = f"{BASE}/postgres/data") -> dict[str, Any]:
    binds = [f"{BASE}/patroni:/etc/patroni:ro", f"{source}:/var/lib/postgresql/data:rw"]
    return {"patroni": {"HostConfig": {"Binds": binds}}}


def with_ports(**ports: int) -> FileState:
    text = json.dumps({"cluster": "kb", "system_identifier": "111", "ports": ports})
    return FileState("0:0", 0o600, "", text)


PORTS = {"postgresql": 5432, "patroni": 8008, "raft": 7000}


@pytest.mark.parametrize("kept", [record(), with_ports(**PORTS), with_ports(raft=7000)])
def test_a_cluster_that_is_as_it_was_born(kept: FileState) -> None:
    assert one("db-1", db_1=BORN | {"containers:patroni": container(), RECORD: kept}, db_2=BORN) == ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {RECORD: with_ports(**PORTS | {"raft": 7001})},
            "fixed settings: ports.raft: recorded 7001, wanted 7000: is fixed once the cluster is born",
        ),
        (
            {RECORD: with_ports(**PORTS | {"postgresql": 5433, "patroni": 8009})},
            "fixed settings: ports.postgresql: recorded 5433, wanted 5432; ports.patroni: recorded 8009, wanted "
            "8008: are fixed once the cluster is born",
        ),
        (
            {"containers:patroni": container("/srv/old/postgres/data")},
            f"fixed settings: cluster.base_dir: recorded /srv/old, wanted {BASE}: is fixed once the cluster is born",
        ),
        (
            {"containers:patroni": {"patroni": {"HostConfig": {"Binds": None}}}},
            f"fixed settings: cluster.base_dir: recorded unknown, wanted {BASE}: is fixed once the cluster is born",
        ),
    ],
    ids=["raft", "two-ports", "base-dir", "no-mount"],
)
def test_what_is_fixed_is_refused(changed: dict[str, Any], said: str) -> None:
    assert all_at("db-1", db_1=BORN | changed, db_2=BORN) == [
        said,
        "hint: put the recorded value back into the inventory",
    ]


def test_another_base_dir_finds_nothing_there_but_the_container() -> None:
    """As on a live cluster: at the new place there is neither record nor data."""
    moved = container("/srv/old/postgres/data")
    assert one("db-1", db_1={"containers:patroni": moved}).startswith("fixed settings: cluster.base_dir")
