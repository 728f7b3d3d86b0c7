"""Taking a proven cluster over: what is written when, and what is refused at the last moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from kbpg.adoption.takeover import Adopted, AdoptionDone, AdoptionOrder, HandoverFirst, KeptAside
from kbpg.engine.compare import compare
from kbpg.errors import HostError, Refused
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.inventory import load
from kbpg.model import CLUSTER, Impact, Placed, Status
from kbpg.patroni import ConfigFact, NodeFact, NodeStatus
from kbpg.resources.directory import ListingFact
from kbpg.resources.docker import LABEL_SPEC, ContainersFact
from kbpg.resources.file import File, FileFact, FileState
from kbpg.resources.foreign import DataFact, DataState
from kbpg.resources.rolling import OneProxyAtATime
from kbpg.resources.sql import Role
from kbpg.steps import s02_patroni

from .certificates import placeholders
from .fake_docker import with_docker
from .small_cluster import DATABASES, context, knowing, site

CONTEXT = context()
MINE, OTHER = "7711358168570589216", "1234567890123456789"
RECORD = "/opt/keybuzz/kbpg/cluster.json"
NODE = NodeFact(8008)
DATA = DataFact("/opt/keybuzz/postgres/data")
PGDATA = "/opt/keybuzz/postgres/data/pgdata"


def answers(record: object = None, *, data: str = MINE) -> dict[str, dict[str, object]]:
    """Return what is known: db-1 leads `MINE`, db-2 has this record and data of this system."""
    state = NodeStatus("running", "replica", 1, "4.1.5", MINE, False, False, True, ())
    found: dict[str, dict[str, object]] = {name: {NODE.key: state} for name in DATABASES}
    found["db-1"][NODE.key] = dataclasses.replace(state, role="primary")
    text = FileState("0:0", 0o600, "", json.dumps(record)) if record is not None else None
    found["db-2"] |= {FileFact(RECORD).key: text, DATA.key: DataState(PGDATA, True, "16", data)}
    return found


def adopt(known: dict[str, dict[str, object]]) -> FakeHost:
    """Compare and fix on db-2, and return the host."""
    resource, host = Adopted(CONTEXT), with_docker(FakeHost("db-2"), "/opt/keybuzz/kbpg")
    place = site("db-2", {"db-2": host}, known)
    change = compare(Placed("db-2", resource), place.facts).change
    assert change is not None
    resource.fix(place, change)
    return host


@pytest.mark.parametrize("record", [None, {"cluster": "kb", "system_identifier": ""}])
def test_the_record_has_the_leaders_identifier_at_once(record: object) -> None:
    host = adopt(answers(record))
    written = json.loads(host.files[RECORD].content)
    assert (written["system_identifier"], written["adopting"]) == (MINE, True)
    # once every node is replaced
    known = answers(written)
    place = site("db-2", {"db-2": host}, known)
    change = compare(Placed("db-2", AdoptionDone(CONTEXT)), place.facts).change
    assert change is not None
    AdoptionDone(CONTEXT).fix(place, change)
    assert json.loads(host.files[RECORD].content) == {k: v for k, v in written.items() if k != "adopting"}


def test_a_host_that_is_recorded_is_left_alone() -> None:
    known = answers({"cluster": "kb", "system_identifier": MINE})
    assert compare(Placed("db-2", Adopted(CONTEXT)), knowing(known, "db-2")).status is Status.OK


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (answers(data=OTHER), f"the data here is of the system {OTHER}, and not of {MINE}"),
        (answers({"cluster": "shop", "system_identifier": MINE}), "this host belongs to another cluster"),
        (answers({"cluster": "kb", "system_identifier": OTHER}), "this host belongs to another system"),
    ],
)
def test_what_is_not_this_systems_is_refused(known: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(Refused, match=said):
        adopt(known)


def test_without_a_leader_nothing_is_known() -> None:
    known = answers()
    known["db-1"][NODE.key] = known["db-3"][NODE.key]
    assert compare(Placed("db-2", Adopted(CONTEXT)), knowing(known, "db-2")).unknown


# --- the order -------------------------------------------------------------------------------------------

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")


def test_roles_then_records_then_one_node_after_another_with_its_files() -> None:
    adopting = dataclasses.replace(CONTEXT, inventory=INVENTORY, adopting=True, pki=placeholders(INVENTORY))
    stages = [stage for stage in s02_patroni.stages(adopting) if not stage.requirement]
    titles = [stage.title for stage in stages]
    assert titles[1:6] == ["roles in use", "rewind in use", "handover", "adopt", "nodes"]
    assert titles[6] == "adopted"
    assert "files" not in titles
    assert "claim" not in titles
    roles = {item.resource.id for item in stages[1].items if isinstance(item.resource, Role)}
    assert roles == {"role:kb_admin", "role:replicator", "role:rewind_user", "role:kb_app"}
    nodes = stages[5]
    assert isinstance(nodes.rollout, AdoptionOrder)
    mine = [item.resource for item in nodes.items if item.place == "db-slave-01"]
    assert [type(resource).__name__ for resource in mine] == [
        "KeptAside",
        *["File"] * 6,
        "NodeContainer",
        "MemoryLimit",
        "Loaded",
    ]
    # nothing initialises a cluster where one is taken over
    assert not any(
        isinstance(item.resource, File) and item.resource.path.endswith("bootstrap.yml")
        for stage in stages
        for item in stage.items
    )


# --- what is kept ------------------------------------------------------------------------------------------

CONTAINERS = ContainersFact(("patroni",))
KEPT, FILES = ListingFact("/opt/keybuzz/kbpg/before-adoption"), ListingFact("/opt/keybuzz/patroni")


def kept(labels: dict[str, str], there: set[str], files: set[str]) -> list[str]:
    resource = KeptAside(CONTEXT, "patroni", "/opt/keybuzz/patroni")
    container = {"patroni": {"Config": {"Labels": labels}}}
    known = {CONTAINERS.key: container, KEPT.key: frozenset(there), FILES.key: frozenset(files)}
    found = compare(Placed("db-2", resource), knowing({"db-2": known}, "db-2")).change
    return found.lines() if found else []


def test_what_is_left_to_be_kept() -> None:
    own = {LABEL_SPEC: "0123"}
    assert kept({}, {"patroni.json"}, {"patroni.yml", "secrets.yml", "notes.txt"}) == []
    assert kept(own, set(), {"patroni.yml", "old.yml"}) == []
    assert len(kept({}, set(), {"patroni.yml"})) == 1
    assert len(kept({}, {"patroni"}, {"patroni.yml"})) == 1  # the copy was cut off
    (line,) = kept({}, {"patroni.json"}, {"patroni.yml", "db1.yaml", "old.yml"})
    assert "db1.yaml, old.yml" in line


def test_a_copy_that_was_cut_off_is_made_again_before_anything_is_taken_away() -> None:
    host, cut = with_docker(FakeHost("db-2"), "/opt/keybuzz/kbpg"), [True]

    def copy(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        return Output(137, "", "") if cut else Output(0, "")

    host.programs |= {"cp": copy, "docker": lambda host, argv, stdin: Output(0, "[]")}

    def fix(there: set[str]) -> list[str]:
        resource, container = (
            KeptAside(CONTEXT, "patroni", "/opt/keybuzz/patroni"),
            {"Config": {"Labels": {}}},
        )
        known = {CONTAINERS.key: {"patroni": container}, KEPT.key: there, FILES.key: {"db1.yml"}}
        place = site("db-2", {"db-2": host}, {"db-2": known})
        change = compare(Placed("db-2", resource), place.facts).change
        assert change is not None
        host.journal.clear()
        resource.fix(place, change)
        return [argv[0] for argv in host.journal]

    with pytest.raises(HostError):
        fix(set())
    assert not any(argv[0] == "rm" for argv in host.journal)
    cut.clear()
    assert fix({"patroni"}) == ["install", "docker", "cp", "write", "rm"]
    assert fix({"patroni", "patroni.json"}) == ["rm"]


def test_a_directory_that_is_not_there_is_empty() -> None:
    assert FILES.parse(Output(0, "")) == frozenset()
    assert FILES.parse(Output(0, "a.yml\n.hidden\n")) == {"a.yml", ".hidden"}


# --- a handover --------------------------------------------------------------------------------------------

TIMERS = {"loop_wait": 2, "retry_timeout": 5, "ttl": 20}


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (
            {"ttl": 30, "loop_wait": 10, "retry_timeout": 10},
            {"ttl", "loop_wait", "retry_timeout", "synchronous"},
        ),
        (TIMERS | {"synchronous_mode": False}, {"synchronous"}),
        (TIMERS | {"synchronous_mode": "off"}, {"synchronous"}),
        (TIMERS | {"synchronous_mode": True}, set()),
        (TIMERS | {"synchronous_mode": "quorum"}, set()),
        ({**TIMERS, "ttl": 30, "synchronous_mode": "quorum"}, {"ttl"}),
    ],
)
def test_what_a_handover_needs(config: dict[str, object], wrong: set[str]) -> None:
    known = answers()
    known["db-1"][ConfigFact(8008).key] = config
    change = compare(Placed(CLUSTER, HandoverFirst(CONTEXT)), knowing(known, CLUSTER)).change
    assert (set(change.names()) if change else set()) == wrong


# --- proxies -----------------------------------------------------------------------------------------------


def test_proxies_are_replaced_one_after_another() -> None:
    rollout = OneProxyAtATime(lambda name: pytest.fail(f"{name} is not waited for here"))
    facts = knowing({}, CLUSTER)
    restart = {"px-1": Impact.RESTART, "px-2": Impact.RESTART}
    assert rollout.waves(restart, facts) == [["px-1"], ["px-2"]]
    assert rollout.waves({"px-1": Impact.NONE, "px-2": Impact.RELOAD}, facts) == [["px-1", "px-2"]]
    mixed = {"px-1": Impact.RESTART, "px-2": Impact.RELOAD, "px-3": Impact.NONE}
    assert rollout.waves(mixed, facts) == [["px-2", "px-3"], ["px-1"]]
    rollout.after(site("px-1", {}), Impact.RELOAD)
