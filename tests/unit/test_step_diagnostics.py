"""Step 06, and the probes of 02 to 05: what each check says of a cluster that is well, and of one that is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from kbpg import scram
from kbpg.context import Context
from kbpg.engine.compare import Comparison, compare
from kbpg.errors import NotConverged
from kbpg.model import ABSENT, Change, Placed
from kbpg.operations.patience import ClonePatience
from kbpg.patroni import ClusterFact, Member, NodeFact, NodeStatus, Replica
from kbpg.raft import RaftFact, RaftStatus
from kbpg.resources import probe
from kbpg.resources.probe import Probe
from kbpg.resources.sql_facts import RolesFact, RowsFact
from kbpg.secret import Secret
from kbpg.steps import ALL

from .small_cluster import CREDENTIALS, DATABASES, context, knowing, site

CONTEXT = context()
NODE, CLUSTER, RAFT = NodeFact(8008), ClusterFact(8008), RaftFact(7000, CREDENTIALS.raft_password)
ROLES = RolesFact(CONTEXT.superuser())
LEADER = "db-1"
Answers = dict[str, dict[str, object]]
ROWS: Mapping[str, tuple[tuple[object, ...], ...]] = {
    "protective settings": (
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("password_encryption", "scram-sha-256"),
        ("max_parallel_maintenance_workers", "0"),
    ),
    "extensions": (("plpgsql", "1.0"), ("vector", "0.8.1")),
    "route": ((True,),),
    "vector": (("1",),),
    "reads": ((1,),),
    "answers": ((1,),),
    "replication": tuple((name, 0) for name in DATABASES if name != LEADER),
}


def node(name: str) -> NodeStatus:
    replicas = tuple(Replica(other, "streaming", "quorum") for other in DATABASES if other != LEADER)
    plain = NodeStatus("running", "replica", 3, "4.1.5", "77", False, False, True, ())
    return replace(plain, role="primary", replicas=replicas) if name == LEADER else plain


def members() -> tuple[Member, ...]:
    return tuple(
        Member(
            name,
            "leader" if name == LEADER else "quorum_standby",
            "running",
            "",
            3,
            None if name == LEADER else 0,
            False,
        )
        for name in DATABASES
    )


def well() -> Answers:
    """Return what is known of a cluster that is well."""
    verifier = scram.verifier(Secret("x"))
    role = {"login": True, "superuser": False, "replication": False, "verifier": verifier, "valid": True}
    names = ("kb_admin", "kb_app", "replicator", "rewind_user", "pgbouncer_auth", "somebody")
    partners = {f"192.0.2.{number}:7000": True for number in (1, 2, 3)}
    found: Answers = {}
    for number, name in enumerate(DATABASES, 1):
        others = {
            address: up for address, up in partners.items() if not address.startswith(f"192.0.2.{number}:")
        }
        found[name] = {
            NODE.key: node(name),
            CLUSTER.key: members(),
            RAFT.key: RaftStatus("192.0.2.1:7000", True, 1, 1, 1, others),
            ROLES.key: {each: dict(role) for each in names},
        }
    for step in ALL:
        for stage in step.stages(CONTEXT):
            for item in stage.items:
                for place, fact in item.resource.asks(item.place, CONTEXT):
                    if isinstance(fact, RowsFact) and fact.name in ROWS:
                        found.setdefault(place, {})[fact.key] = ROWS[fact.name]
    return found


def probes(given: Context) -> Mapping[tuple[int, str, str], Placed]:
    """Return the probes of all steps, by step, place and id."""
    return {
        (step.number, item.place, item.resource.id): item
        for step in ALL
        for stage in step.stages(given)
        for item in stage.items
        if isinstance(item.resource, Probe)
    }


PROBES = probes(CONTEXT)


def check(probe: Placed, answers: Answers) -> Comparison:
    return compare(probe, knowing(answers, probe.place))


@pytest.mark.parametrize("which", PROBES, ids=str)
def test_a_cluster_that_is_well_passes_every_check(which: tuple[int, str, str]) -> None:
    assert check(PROBES[which], well()).change is None


@pytest.mark.parametrize("which", PROBES, ids=str)
def test_where_nothing_answers_no_check_passes(which: tuple[int, str, str]) -> None:
    found = check(PROBES[which], {})
    assert found.unknown
    assert "unexpected" not in found.lines[0]


def roles(answers: Answers) -> dict[str, dict[str, object]]:
    return answers[LEADER][ROLES.key]  # type: ignore[return-value]


def become(host: str, **changes: object) -> Callable[[Answers], object]:
    def change(answers: Answers) -> None:
        answers[host][NODE.key] = replace(answers[host][NODE.key], **changes)  # type: ignore[type-var]

    return change


def raft(**changes: object) -> Callable[[Answers], object]:
    def change(answers: Answers) -> None:
        answers["db-2"][RAFT.key] = replace(answers["db-2"][RAFT.key], **changes)  # type: ignore[type-var]

    return change


def lag(name: str, behind: int) -> Callable[[Answers], object]:
    def change(answers: Answers) -> None:
        (key,) = (key for key in answers[LEADER] if key.endswith(":replication"))
        answers[LEADER][key] = ((name, behind),)

    return change


def member(host: str, name: str, **changes: object) -> Callable[[Answers], object]:
    def change(answers: Answers) -> None:
        seen: tuple[Member, ...] = answers[host][CLUSTER.key]  # type: ignore[assignment]
        changed = [replace(m, **changes) if m.name == name else m for m in seen]  # type: ignore[arg-type]
        answers[host][CLUSTER.key] = tuple(changed)

    return change


def rows(name: str, answer: object) -> Callable[[Answers], object]:
    def change(answers: Answers) -> None:
        for found in answers.values():
            for key in found:
                if key.endswith(f":{name}"):
                    found[key] = answer

    return change


only_one = (Replica("db-2", "streaming", "quorum"), Replica("db-3", "catchup", "async"))
WRONG: list[tuple[int, str, Callable[[Answers], object], str]] = [
    (2, "1 leader, 2 streaming", become("db-1", replicas=only_one), "streaming: 1 → 2"),
    (
        2,
        "1 leader, 2 streaming",
        become("db-2", role="primary"),
        "not known yet: db-1 and db-2 both say that they lead",
    ),
    (
        6,
        "every node sees",
        member("db-3", "db-1", role="replica"),
        "leader: db-3 thinks it is nobody → agreed",
    ),
    (6, "every replica", become("db-1", replicas=only_one), "replicas: db-3 does not stream → streaming"),
    (6, "every replica", become("db-2", timeline=2), "replicas: db-2 is on timeline 2, not 3 → streaming"),
    (
        6,
        "every replica",
        lag("db-3", 1 << 30),
        "replicas: db-3 is 1073741824 bytes behind → streaming",
    ),
    (6, "Raft quorum", raft(has_quorum=False), "quorum: False → True"),
    (6, "Raft quorum", raft(partners={"a:1": True, "b:1": False}), "away: b:1 → none"),
    (6, "Raft quorum", raft(partners={"a:1": True, "b:1": True, "ghost:1": True}), "partners: 3 → 2"),
    (6, "roles use SCRAM", lambda a: roles(a).pop("kb_app"), "roles: kb_app is missing → SCRAM-SHA-256"),
    (
        6,
        "roles use SCRAM",
        lambda a: roles(a)["somebody"].update(verifier="md5" + "0" * 32),
        "roles: somebody has no SCRAM password → SCRAM-SHA-256",
    ),
    (
        6,
        "protective",
        rows("protective settings", (("fsync", "off"), *ROWS["protective settings"][1:])),
        "fsync: off → on",
    ),
    (6, "protective", rows("protective settings", ()), "not known yet: the leader shows no settings"),
    (6, "port 5432", rows("route", ((False,),)), "writable: False → True"),
    (6, "a vector query", rows("vector", (("2",),)), "distance: 2 → 1"),
    (6, "keybuzz_ro on port", rows("reads", ((2,),)), "answers: False → True"),
    (6, "vector 0.8.1 here", rows("extensions", (("vector", "0.7.0"),)), "vector: 0.7.0 → 0.8.1"),
    (6, "vector 0.8.1 here", rows("extensions", ()), "not known yet: vector is not there"),
    (5, "vector 0.8.1 here", rows("extensions", (("vector", "0.7.0"),)), "vector: 0.7.0 → 0.8.1"),
    (5, "vector 0.8.1 here", rows("extensions", ()), "not known yet: vector is not there"),
    (4, "port 6432 answers", rows("answers", ((2,),)), "answers: False → True"),
    (3, "port 5432", rows("route", ((False,),)), "writable: False → True"),
]


@pytest.mark.parametrize(("step", "name", "change", "line"), WRONG, ids=[line for *_, line in WRONG])
def test_what_is_wrong_is_said(step: int, name: str, change: Callable[[Answers], object], line: str) -> None:
    answers = well()
    change(answers)
    probes = [p for (number, _, id), p in PROBES.items() if number == step and id.startswith(f"probe:{name}")]
    assert probes
    said = [line for each in probes for line in check(each, answers).lines]
    assert line in said
    assert set(said) == {line}


def test_roles_that_do_not_log_in_need_no_password() -> None:
    answers = well()
    roles(answers)["group"] = {"login": False, "verifier": None}
    probe = next(p for (_, _, id), p in PROBES.items() if id == "probe:roles use SCRAM")
    assert check(probe, answers).change is None


def test_parallel_index_builds_are_off_only_where_they_are_dangerous() -> None:
    """CVE-2026-3172, fixed in pgvector 0.8.2."""
    for version, wanted in (("0.8.1", True), ("0.8.2", False)):
        stages = ALL[6].stages(context(f"versions: {{pgvector: {version}}}\n"))
        (probe,) = [
            i.resource for s in stages for i in s.items if i.resource.id == "probe:protective settings"
        ]
        assert ("max_parallel_maintenance_workers" in probe.want(knowing({}, "cluster"))) is wanted  # type: ignore[operator]


# --- a host that --limit leaves out ----------------------------------------------------------------------

OTHERS = frozenset({"db-1", "db-2", "px-1", "px-2"})
LIMITED = replace(CONTEXT, limit=OTHERS)


def away() -> Answers:
    """Return what is known of a cluster whose db-3 has no power: its partners say so, nobody says anything of it."""
    answers = well()
    del answers["db-3"]
    become("db-1", replicas=(Replica("db-2", "streaming", "quorum"),))(answers)
    for name in ("db-1", "db-2"):
        status = answers[name][RAFT.key]
        partners = {address: address != "192.0.2.3:7000" for address in status.partners}  # type: ignore[attr-defined]
        answers[name][RAFT.key] = replace(status, partners=partners)  # type: ignore[type-var]
    return answers


def limited(answers: Answers, given: Context = LIMITED) -> dict[tuple[int, str, str], Comparison]:
    """Return how each probe stands that a run with this limit compares."""
    chosen = {*given.limit, "cluster"}
    return {which: check(probe, answers) for which, probe in probes(given).items() if which[1] in chosen}


def test_all_but_the_host_that_is_away_are_well() -> None:
    found = limited(away())
    assert [which for which, seen in found.items() if seen.change] == []
    said = {line for seen in found.values() for line in seen.lines}
    assert said == {"1 of 2 replicas streaming; db-3 is left out by --limit"}


def test_without_the_limit_the_host_that_is_away_is_missed() -> None:
    lines = {line for probe in PROBES.values() for line in check(probe, away()).lines}
    assert {"streaming: 1 → 2", "away: 192.0.2.3:7000 → none"} <= lines


def test_what_the_limit_names_has_to_be_well_all_the_same() -> None:
    answers = away()
    become("db-1", replicas=(Replica("db-2", "catchup", "async"),))(answers)
    lines = {line for seen in limited(answers).values() for line in seen.lines}
    assert {"not streaming: db-2 → none", "replicas: db-2 does not stream → streaming"} <= lines
    assert not any("left out" in line for line in lines)
    raft(has_quorum=False)(answers)
    assert "quorum: False → True" in {line for seen in limited(answers).values() for line in seen.lines}


def test_a_leader_that_is_left_out_leads_all_the_same() -> None:
    """It need not be asked about itself, but who streams streams from it."""
    given = replace(CONTEXT, limit=frozenset({"db-2", "db-3", "px-1", "px-2"}))
    assert not any(seen.change for seen in limited(well(), given).values())
    answers = well()
    become("db-1", replicas=only_one)(answers)
    lines = {line for seen in limited(answers, given).values() for line in seen.lines}
    assert "not streaming: db-3 → none" in lines


def test_where_nobody_leads_a_limit_helps_nothing() -> None:
    answers = away()
    del answers["db-1"]
    (formed,) = (seen for which, seen in limited(answers).items() if which[0] == 2)
    assert formed.lines == ("not known yet: waits for a leader",)


def test_a_replica_that_is_being_cloned_puts_the_deadline_of_the_cluster_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hour(ClonePatience):
        """A clone that took an hour and then failed."""

        def over(self) -> bool:
            self.seconds = 3600
            return True

    monkeypatch.setattr(probe, "ClonePatience", Hour)
    formed = next(p.resource for (step, _, _), p in PROBES.items() if step == 2)
    answers = well()
    become("db-1", replicas=only_one)(answers)
    with pytest.raises(NotConverged, match="not so within 3600 s: streaming: 1 → 2"):
        formed.fix(site("cluster", {}, answers), Change(ABSENT, {}))
