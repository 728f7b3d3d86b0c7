"""A damaged Raft log is replaced by an empty one: only where the others do without it, and the data stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kbpg.engine.site import Site
from kbpg.errors import HostError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.health.finding import Action, Repair
from kbpg.health.repair import acts
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.layout import layout
from kbpg.operations import raft_log
from kbpg.operations.raft_log import renew
from kbpg.operations.standing import Watch
from kbpg.patroni import NodeStatus, Replica
from kbpg.raft import RaftStatus
from kbpg.raft_admin import addresses
from kbpg.resources.docker import DB_CONTAINERS
from kbpg.resources.foreign import DataState

from .fake_docker import with_docker
from .small_cluster import DATABASES, context, looking

CONTEXT = context()
PATHS = layout(CONTEXT)
MEMBERS = addresses(CONTEXT)
START, STOP = ["docker", "start", "patroni"], ["docker", "stop", "--time", "120", "patroni"]


@dataclass
class Cluster:
    """db-1 leads; Patroni on db-2 ends at each start, until its Raft directory was moved aside."""

    leader: str = "db-1"
    away: str = ""
    """A member that the others do not reach."""
    answers: bool = False
    """Whether the member on db-2 answers all the time."""
    joins: bool = True
    lost_at_stop: bool = False
    """Whether the leader is gone once Patroni on db-2 was stopped."""
    hosts: dict[str, FakeHost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate(DATABASES, 1):
            host = with_docker(FakeHost(name, f"192.0.2.{number}"), PATHS.raft, PATHS.pgdata)
            host.containers["patroni"] = {"State": {"Status": "restarting"}}
            host.programs["test"] = lambda h, argv, _: Output(0 if argv[1] in h.directories else 1, "")
            self.hosts[name] = host

    def site(self) -> Site:
        return looking(self.hosts, CONTEXT, self.seen)

    def seen(self, name: str) -> dict[str, object]:
        watch = Watch(CONTEXT, "db-2")
        up = name != "db-2" or self.answers or self._started()
        leader = "" if self.lost_at_stop and STOP in self.hosts["db-2"].journal else self.leader
        replicas = tuple(Replica(n, "streaming", "quorum") for n in DATABASES if n != name)
        role = "primary" if name == leader else "replica"
        node = NodeStatus(
            "running", role, 1, "4.1.5", "7", False, False, True, replicas if role == "primary" else ()
        )
        return {
            watch.node.key: node if up else NotKnown("refused"),
            watch.raft.key: self._raft(name) if up else NotKnown("refused"),
            watch._self.key: ((name != leader, "7"),) if up else NotKnown("refused"),
            watch._room.key: (1 << 30, 1 << 33),
            watch._data.key: DataState(PATHS.pgdata, True, "16", "7"),
            watch._record.key: None,
            DB_CONTAINERS.key: dict(self.hosts[name].containers),
        }

    def _started(self) -> bool:
        return START in self.hosts["db-2"].journal and self.joins

    def _raft(self, name: str) -> RaftStatus:
        gone = {self.away} if self.answers or self._started() else {self.away, "db-2"}
        partners = {MEMBERS[n]: n not in gone for n in DATABASES if n != name}
        return RaftStatus(MEMBERS[self.leader], True, 1, 9, 9, partners, MEMBERS[name], "follower")

    def done(self) -> list[list[str]]:
        """Return the commands that changed something on db-2."""
        return [words for words in self.hosts["db-2"].journal if words[0] != "test"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0)
    monkeypatch.setattr(raft_log, "now", lambda: "20261129T221500Z")
    return Cluster()


def test_the_log_is_moved_aside_between_stop_and_start_and_kept(cluster: Cluster) -> None:
    aside = f"{PATHS.raft}.before-20261129T221500Z"
    said = renew(cluster.site(), "db-2")
    assert cluster.done() == [
        STOP,
        ["mv", "-T", PATHS.raft, aside],
        ["install", "-d", "-o", "999", "-g", "999", "-m", "0700", PATHS.raft],
        START,
    ]
    directories = cluster.hosts["db-2"].directories
    assert aside in directories
    assert (directories[PATHS.raft].owner, directories[PATHS.raft].mode) == ("999:999", 0o700)
    assert said.startswith("db-2 is a member of Raft again")
    assert f"rm -rf {aside}" in said
    assert not cluster.hosts["db-1"].journal + cluster.hosts["db-3"].journal


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answers": True}, "its member answers"),
        ({"leader": "nobody"}, "no node leads"),
        ({"away": "db-3"}, "without db-2 Raft would lose its quorum"),
    ],
)
def test_a_log_that_may_be_needed_is_left_alone(
    cluster: Cluster, change: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MEMBERS, "nobody", "192.0.2.9:7000")
    changed = replace(cluster, **change, hosts={})
    with pytest.raises(Refused, match=reason):
        renew(changed.site(), "db-2")
    assert changed.done() == []


def test_a_leader_lost_meanwhile_leaves_the_log_and_starts_patroni_again(cluster: Cluster) -> None:
    cluster.lost_at_stop = True
    with pytest.raises(Refused, match="no node leads"):
        renew(cluster.site(), "db-2")
    assert cluster.done() == [STOP, START]


def test_a_member_that_does_not_come_back_is_said(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_log, "MEMBER_DEADLINE", 0)
    cluster.joins = False
    with pytest.raises(NotConverged, match="db-2 is no member of Raft again within 0 s"):
        renew(cluster.site(), "db-2")


def test_what_was_moved_stays_moved_where_patroni_cannot_be_started(cluster: Cluster) -> None:
    docker = cluster.hosts["db-2"].programs["docker"]

    def fails(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        if argv[0] == "start":
            raise HostError("db-2", "no room")
        return docker(host, argv, stdin)

    cluster.hosts["db-2"].programs["docker"] = fails
    with pytest.raises(HostError, match="no room"):
        renew(cluster.site(), "db-2")
    assert f"{PATHS.raft}.before-20261129T221500Z" in cluster.hosts["db-2"].directories


def test_the_repair_does_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[str] = []
    monkeypatch.setattr(acts, "await_streaming_or_lead", lambda _, host: awaited.append(host))
    bench = acts.Bench(cluster.site(), None, ())
    said = acts.perform(bench, Repair(Action.RENEW_RAFT_LOG, "db-2", "begin anew"))
    assert said.startswith("db-2 is a member of Raft again")
    assert awaited == ["db-2"]
