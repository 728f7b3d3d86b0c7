"""How the answers of one pass become a standing: who is believed about what."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kbpg.context import Context
from kbpg.errors import Unreachable
from kbpg.facts import Facts, Knowledge, NotKnown
from kbpg.haproxy import Server
from kbpg.health.questions import Pooler
from kbpg.model import CLUSTER
from kbpg.patroni import Member, NodeStatus, Replica
from kbpg.raft import LOOK_AGAIN, RaftStatus
from kbpg.status import asking
from kbpg.status.answers import together
from kbpg.status.questions import Follower, Postgres, Questions
from kbpg.status.standing import Standing

from .small_cluster import context

SILENT = NotKnown("no answer within 2 s")
RAFT = [f"192.0.2.{number}:7000" for number in (1, 2, 3)]


def node(role: str, **more: Any) -> NodeStatus:
    known: dict[str, Any] = {
        "state": "running",
        "role": role,
        "timeline": 3,
        "version": "4.1.5",
        "system_identifier": "1",
        "pending_restart": False,
        "paused": False,
        "receiving": role == "replica",
        "replicas": (),
    }
    return NodeStatus(**{**known, **more})


def followers(*lags: tuple[int | None, float | None]) -> tuple[Follower, ...]:
    return tuple(
        Follower(f"db-{number}", "streaming", "quorum", *lag) for number, lag in enumerate(lags, start=2)
    )


def raft(term: int = 7, leader: str | None = RAFT[0], quorum: bool = True, **apart: bool) -> RaftStatus:
    partners = {RAFT[1]: apart.get("second", True), RAFT[2]: apart.get("third", True)}
    return RaftStatus(leader, quorum, term, 100, 10, partners)


POOLER = Pooler(
    pools=(
        {
            "database": "keybuzz",
            "user": "kb_app",
            "cl_active": 4,
            "cl_waiting": 2,
            "sv_active": 3,
            "sv_idle": 1,
            "sv_used": 1,
            "maxwait": 2,
            "maxwait_us": 500_000,
        },
        {"database": "pgbouncer", "user": "pgbouncer", "cl_active": 1},
    ),
    databases=({"name": "keybuzz", "paused": 0},),
    state={"active": "yes", "paused": "no"},
    version="PgBouncer 1.24.1",
)
SERVERS = (
    Server("primary", "db-1", "UP", "L7OK", 0),
    Server("primary", "db-2", "DOWN", "L7STS", 0),
    Server("replicas", "db-2", "UP", "L7OK", 0),
)


class Pass:
    """The answers of a healthy cluster; a test replaces some."""

    def __init__(self, settings: str = "", missing: tuple[str, ...] = ()) -> None:
        self.context: Context = context(settings)
        self.ask = Questions.of(self.context, missing)
        self.knowledge = Knowledge()
        leading = Postgres(False, "16.11", True, False, followers((0, None), (4096, 0.25)))
        self.says("node", node("primary"), node("replica"), node("replica"))
        self.says("cluster", (), (), ())
        self.says("postgres", leading, *[Postgres(True, "16.11", True)] * 2)
        self.says("raft", raft(), raft(), raft())
        for name in ("px-1", "px-2"):
            self.put(name, primary=True, pgbouncer=True, haproxy=SERVERS, pooler=POOLER)

    def says(self, what: str, *answers: object) -> None:
        for number, answer in enumerate(answers, start=1):
            self.put(f"db-{number}", **{what: answer})

    def put(self, host: str, **answers: object) -> None:
        facts = {name: getattr(self.ask, name) for name in answers}
        self.knowledge.put(host, {fact.key: answers[name] for name, fact in facts.items() if fact})

    def standing(self, *lost: str) -> Standing:
        errors = {name: Unreachable(name, "no route to it") for name in lost}
        return together(self.context, Facts(self.knowledge, CLUSTER), self.ask, errors)


def test_a_healthy_cluster() -> None:
    standing = Pass().standing()
    assert standing.summary == "db-1 leads, 2 of 2 replicas stream, RPO 0"
    lags = [(member.lag_bytes, member.lag_seconds, member.sync) for member in standing.members]
    assert lags == [(None, None, None), (0, 0.0, True), (4096, 0.25, True)]
    assert [member.postgresql for member in standing.members] == ["16.11"] * 3
    (pool,) = standing.proxies[0].pools or ()
    assert (pool.servers_active, pool.servers_idle, pool.max_wait_seconds) == (3, 2, 2.5)
    assert standing.proxies[0].routes_to == ("db-1",)
    assert standing.proxies[0].reads_from == ("db-2",)
    assert standing.raft is not None
    assert (standing.raft.leader, standing.raft.connected, standing.raft.missing) == ("db-1", 3, ())
    # Clients wait for longer than they should
    assert [problem.title for problem in standing.problems] == [
        "clients of PgBouncer on px-1 wait",
        "clients of PgBouncer on px-2 wait",
    ]


def test_only_the_leaders_word_counts_for_lag() -> None:
    answers = Pass()
    stale = Postgres(False, "16.11", True, False, followers((10**9, 99.0), (10**9, 99.0)))
    answers.put("db-3", postgres=stale)
    assert [member.lag_bytes for member in answers.standing().members] == [None, 0, 4096]


def test_without_postgresql_the_leaders_patroni_is_asked_for_lag_and_sync() -> None:
    answers = Pass(missing=("POSTGRES_SUPERPASS",))
    replicas = (Replica("db-2", "streaming", "quorum"), Replica("db-3", "streaming", "async"))
    answers.put("db-1", node=node("primary", replicas=replicas))
    answers.put("db-1", cluster=(Member("db-2", "replica", "streaming", "", 3, 77, False),))
    standing = answers.standing()
    assert [(member.lag_bytes, member.sync) for member in standing.members[1:]] == [(77, True), (None, False)]
    assert standing.rpo_zero is True
    assert standing.serves
    assert standing.notes


def test_a_lag_in_seconds_is_not_known_while_bytes_are_behind_and_none_was_measured() -> None:
    answers = Pass()
    answers.put("db-1", postgres=Postgres(False, "16.11", True, False, followers((8192, None), (0, None))))
    assert [member.lag_seconds for member in answers.standing().members] == [None, None, 0.0]


@pytest.mark.parametrize(
    ("leading", "title"),
    [
        (Postgres(False, "16.11", False, False, followers((0, 0.0), (0, 0.0))), "RPO is not 0"),
        (Postgres(False, "16.11", True, False, ()), "commits wait"),
    ],
)
def test_what_commits_wait_for(leading: Postgres, title: str) -> None:
    answers = Pass()
    answers.put("db-1", postgres=leading)
    assert title in [problem.title for problem in answers.standing().problems]


def test_nobody_leads_and_two_lead() -> None:
    answers = Pass()
    answers.put("db-1", node=SILENT)
    gone = answers.standing()
    assert (gone.leader, gone.problem) == (None, "no node says that it leads")
    assert gone.members[0].problem == "no answer within 2 s"
    answers.says("node", node("primary"), node("master"), node("replica"))
    two = answers.standing()
    assert (two.leader, two.problem) == (None, "db-1 and db-2 say that they lead")
    answers.says("node", SILENT, SILENT, SILENT)
    assert answers.standing().problem == "Patroni answers on no host"


def test_a_leader_whose_postgresql_does_not_run_leads_no_more() -> None:
    answers = Pass()
    answers.put("db-1", node=node("primary", state="crashed"))
    standing = answers.standing()
    assert (standing.leader, standing.members[0].role) == (None, "unknown")


@pytest.mark.parametrize(
    ("postgres", "serves"),
    [
        (SILENT, False),
        (Postgres(True, "16.11", True), False),
        (Postgres(refused="role does not exist"), True),
    ],
)
def test_whether_the_leader_serves(postgres: object, serves: bool) -> None:
    answers = Pass()
    answers.put("db-1", postgres=postgres)
    assert answers.standing().serves is serves


def test_a_lost_host_is_told_once() -> None:
    answers = Pass()
    answers.says("raft", raft(third=False), raft())
    standing = answers.standing("db-3", "px-2")
    titles = [problem.title for problem in standing.problems if "clients" not in problem.title]
    assert titles == ["db-3 unreachable", "px-2 unreachable"]
    assert standing.members[2].problem == "no route to it"
    assert standing.raft is not None
    assert standing.raft.missing == ("db-3",)


def test_rafts_leader_is_believed_and_else_the_newest_with_a_quorum() -> None:
    answers = Pass()
    isolated = raft(term=9, leader=None, quorum=False, second=False, third=False)
    answers.says("raft", isolated, raft(term=8, leader=RAFT[1]), raft(term=8, leader=RAFT[1], third=False))
    found = answers.standing().raft
    assert found is not None
    assert (found.leader, found.quorum, found.term, found.isolated) == ("db-2", True, 8, ("db-1",))
    answers.says("raft", SILENT, SILENT, raft(term=8, leader="192.0.2.99:7000"))
    found = answers.standing().raft
    assert found is not None
    assert (found.leader, found.members) == ("192.0.2.99:7000", 3)


@pytest.mark.parametrize(
    ("state", "paused"),
    [({"paused": "yes"}, 0), ({}, 1), ({"paused": "no"}, 1)],
)
def test_a_paused_pgbouncer(state: dict[str, str], paused: int) -> None:
    answers = Pass()
    console = Pooler(databases=({"name": "keybuzz", "paused": paused},), state=state)
    answers.put("px-1", pooler=console)
    standing = answers.standing()
    assert [proxy.paused for proxy in standing.proxies] == [True, False]
    assert standing.problems[0].title == "PgBouncer on px-1 is paused"


def test_a_port_that_is_open_with_nobody_behind_it() -> None:
    answers = Pass()
    answers.put("px-1", haproxy=SILENT, pooler=SILENT)
    titles = [problem.title for problem in answers.standing().problems]
    assert titles[:2] == ["HAProxy on px-1 does not answer", "PgBouncer on px-1 does not answer"]


def test_the_load_balancer_is_the_endpoint_where_there_is_one() -> None:
    answers = Pass()
    answers.context = context("")
    endpoints = answers.standing().endpoints
    assert endpoints is not None
    assert endpoints.addresses == ("192.0.2.11", "192.0.2.12")
    assert (endpoints.pooled, endpoints.direct, endpoints.read_only) == (6432, 5432, 5433)
    assert (endpoints.read_database, endpoints.fallback) == ("keybuzz_ro", "primary")
    cluster = answers.context.inventory.cluster.model_copy(update={"load_balancer": "pg.example.org"})
    inventory = answers.context.inventory.model_copy(update={"cluster": cluster})
    answers.context = dataclasses.replace(answers.context, inventory=inventory)
    endpoints = answers.standing().endpoints
    assert endpoints is not None
    assert endpoints.addresses == ("pg.example.org",)


def test_no_password_is_in_a_standing() -> None:
    answers = Pass()
    text = repr(answers.standing())
    assert not [p for p in ("one-superuser", "five-pgbouncer", "six-raft") if p in text]


def test_of_raft_something_is_known_before_the_pass_is_over() -> None:
    """A partner that is off is asked about again for as long as `settling` says, and status has two seconds."""
    raft = Pass().ask.raft
    assert raft is not None
    assert raft.settling is not None
    assert raft.settling + LOOK_AGAIN < asking.DEADLINE / 2
