"""Whose data it is: claims, identifiers, and what is refused."""

from __future__ import annotations

import json

import pytest

from kbpg.engine.compare import compare
from kbpg.engine.run import Run
from kbpg.errors import Refused
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.model import Placed, Status
from kbpg.patroni import NodeFact
from kbpg.resources.identity import Claimed, Identified, read_record, record_path

from .fake_docker import with_docker
from .small_cluster import context, site, stage, step

PATH = "/opt/keybuzz/kbpg/cluster.json"
MINE, OTHER = "7711358168570589216", "1234567890123456789"
CONTEXT = context()
PORTS = {"postgresql": 5432, "patroni": 8008, "raft": 7000}
NODE = NodeFact(CONTEXT.inventory.ports.patroni)


def host(record: object) -> FakeHost:
    made = with_docker(FakeHost("db-2"), "/opt/keybuzz/kbpg")
    if record is not None:
        text = record if isinstance(record, str) else json.dumps(record)
        made.files[PATH] = FakeFile(text.encode(), mode=0o600)
    return made


def kept(on: FakeHost) -> object:
    return json.loads(on.files[PATH].content)


def test_the_record_is_below_the_base_directory() -> None:
    assert record_path(CONTEXT.inventory.cluster.base_dir) == PATH


def claim(on: FakeHost) -> tuple[Status, BaseException | None]:
    run = Run(CONTEXT, {"db-2": on}, FakeHost("controller"))
    (outcome,) = run.apply([step(stage(("db-2", Claimed(CONTEXT))))]).outcomes
    return outcome.status, outcome.error


def test_a_bare_host_is_claimed_once() -> None:
    on = host(None)
    assert claim(on) == (Status.CHANGED, None)
    assert kept(on) == {"cluster": "kb", "system_identifier": ""}
    assert (on.files[PATH].owner, on.files[PATH].mode) == ("0:0", 0o600)
    assert claim(on) == (Status.OK, None)


def test_a_claim_leaves_the_identifier_of_its_own_cluster_alone() -> None:
    record = {"cluster": "kb", "system_identifier": MINE}
    on = host(record)
    assert claim(on) == (Status.OK, None)
    assert kept(on) == record


def test_a_host_of_another_cluster_is_refused_and_not_touched() -> None:
    on = host({"cluster": "shop", "system_identifier": OTHER})
    status, error = claim(on)
    assert status is Status.FAILED
    assert isinstance(error, Refused)
    assert error.message == "this host belongs to the cluster shop"
    assert PATH in str(error.hint)
    assert on.journal == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", "42", "null"])
def test_a_record_that_cannot_be_read_is_empty(text: str | None) -> None:
    assert read_record(text) == {}


# --- the identifier ----------------------------------------------------------------------------------


def identified(
    record: object, *, leader: str | None = "db-1", identifier: str = MINE
) -> tuple[Facts, FakeHost]:
    """Return what is known on db-2 with this record, and who leads a cluster with this identifier."""
    on = host(record)
    nodes: dict[str, dict[str, object]] = {}
    for name in CONTEXT.db_names:
        body = {
            "state": "running",
            "role": "primary" if name == leader else "replica",
            "database_system_identifier": identifier,
        }
        nodes[name] = {NODE.key: NODE.parse(200, body)}
    resource = Identified(CONTEXT, NODE)
    fact: Fact[object] = resource.facts[0]
    (output,) = on.read([fact]).values()  # type: ignore[list-item]
    nodes["db-2"][fact.key] = fact.parse(output)  # type: ignore[attr-defined]
    return site("db-2", {"db-2": on}, nodes).facts, on


def fix(facts: Facts, on: FakeHost) -> None:
    resource = Identified(CONTEXT, NODE)
    change = compare(Placed("db-2", resource), facts).change
    assert change is not None
    resource.fix(site("db-2", {"db-2": on}), change)


@pytest.mark.parametrize("record", [{"cluster": "kb", "system_identifier": ""}, {"cluster": "kb"}, None])
def test_the_identifier_is_filled_in_when_the_cluster_is_born(record: object) -> None:
    facts, on = identified(record)
    fix(facts, on)
    assert kept(on) == {"cluster": "kb", "system_identifier": MINE, "ports": PORTS}


def test_ports_are_added_once_to_the_record_of_an_older_kbpg() -> None:
    facts, on = identified({"cluster": "kb", "system_identifier": MINE})
    fix(facts, on)
    assert kept(on) == {"cluster": "kb", "system_identifier": MINE, "ports": PORTS}
    facts, _ = identified(kept(on))
    assert compare(Placed("db-2", Identified(CONTEXT, NODE)), facts).change is None


def test_other_ports_are_refused_and_not_touched() -> None:
    record = {"cluster": "kb", "system_identifier": MINE, "ports": PORTS | {"raft": 7001}}
    facts, on = identified(record)
    with pytest.raises(
        Refused, match=r"ports are fixed once the cluster is born: ports: .*raft 7001 → .*7000"
    ):
        fix(facts, on)
    assert on.journal == []


def test_the_identifier_that_is_there_is_right() -> None:
    facts, _ = identified({"cluster": "kb", "system_identifier": MINE, "ports": PORTS})
    resource = Identified(CONTEXT, NODE)
    shown = {"system_identifier": MINE, "ports": "postgresql 5432, patroni 8008, raft 7000"}
    assert resource.have(facts) == resource.want(facts) == shown


def test_another_identifier_is_refused_and_not_touched() -> None:
    facts, on = identified({"cluster": "kb", "system_identifier": OTHER})
    with pytest.raises(Refused, match=f"another cluster: system_identifier: {OTHER} → {MINE}"):
        fix(facts, on)
    assert on.journal == []


@pytest.mark.parametrize(
    ("leader", "identifier", "why"),
    [(None, MINE, "waits for a leader"), ("db-1", "", "db-1 does not tell its system identifier yet")],
)
def test_nothing_is_written_down_before_a_leader_tells(leader: str | None, identifier: str, why: str) -> None:
    facts, _ = identified(None, leader=leader, identifier=identifier)
    with pytest.raises(NotKnown, match=why):
        Identified(CONTEXT, NODE).want(facts)


def test_every_node_is_asked_who_leads_and_this_one_for_its_record() -> None:
    asked = list(Identified(CONTEXT, NODE).asks("db-2", CONTEXT))
    assert [(place, fact.key) for place, fact in asked] == [
        ("db-2", f"file:{PATH}"),
        *((name, NODE.key) for name in CONTEXT.db_names),
    ]
