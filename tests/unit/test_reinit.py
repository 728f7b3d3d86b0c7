"""A replica's data is moved aside in the right order, looked at again right before, and never without a leader."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, CommandTimeout, HostError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.health.finding import Action, Repair
from kbpg.health.repair import acts
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.layout import layout
from kbpg.operations import reinit
from kbpg.operations.raft_note import rebuild_note
from kbpg.operations.reinit import reinitialize, restart_patroni, set_aside, start_container
from kbpg.operations.standing import Watch
from kbpg.patroni import NodeStatus, Replica
from kbpg.raft import RaftStatus
from kbpg.resources.docker import DB_CONTAINERS
from kbpg.resources.file import FileState
from kbpg.resources.foreign import DataState
from kbpg.steps import ALL

from .fake_docker import with_docker
from .small_cluster import DATABASES, context, looking

CONTEXT = context()
PATHS = layout(CONTEXT)
GB = 1 << 30
WHOLE = DataState(PATHS.pgdata, True, "16", "7")
RECORD = '{"cluster": "kb", "system_identifier": "7"}'


@dataclass
class Cluster:
    """db-1 leads, db-3 streams, db-2 has broken data; it streams once its container was started anew."""

    leader: str | None = "db-1"
    free: int = 10 * GB
    answers: bool = False
    recovers: bool = True
    silent: bool = False
    rebuilding: str = ""
    """The host that has the note of a rebuild that was left half-way."""
    data: DataState = WHOLE
    record: str = RECORD
    started: list[str] = field(default_factory=lambda: [""])
    """When db-2's postmaster was started, look by look; the last one stays."""
    hosts: dict[str, FakeHost] = field(default_factory=dict)

    def site(self) -> Site:
        return looking(self.hosts, CONTEXT, self.seen)

    def seen(self, name: str) -> dict[str, object]:
        watch, host = Watch(CONTEXT, "db-2"), self.hosts[name]
        up = self.answers or name != "db-2" or self._started()
        role = "primary" if name == self.leader else "replica"
        replicas = tuple(
            Replica(n, "streaming", "quorum") for n in DATABASES if n != name and self._streams(n)
        )
        node = NodeStatus("running", role, 1, "4.1.5", "7", False, False, True, replicas)
        if name == "db-2":
            node = replace(node, started=self.started[0])
            self.started = self.started[1:] or self.started
        partners = {f"192.0.2.{n}:7000": True for n in (1, 2, 3) if f"db-{n}" != name}
        raft = RaftStatus("192.0.2.1:7000", True, 1, 9, 9, partners, f"192.0.2.{name[-1]}:7000", "follower")
        return {
            watch.node.key: node if up else NotKnown("no answer"),
            watch.raft.key: raft,
            watch._self.key: ((name != self.leader, "7"),) if up else NotKnown("no answer"),
            watch._room.key: (GB, self.free),
            watch._data.key: self.data,
            rebuild_note(CONTEXT).key: FileState("0:0", 0o600, "", "{}") if name == self.rebuilding else None,
            watch._record.key: FileState("0:0", 0o600, "", self.record),
            DB_CONTAINERS.key: NotKnown("Docker does not answer") if self.silent else dict(host.containers),
        }

    def _streams(self, name: str) -> bool:
        return name != "db-2" or (self.recovers and self._started())

    def _started(self) -> bool:
        return ["docker", "start", "patroni"] in self.hosts["db-2"].journal

    def did(self) -> list[str]:
        """Return what was done on db-2, in words."""
        return [" ".join(words[:2]) for words in self.hosts["db-2"].journal]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as postgresql:
        found = Cluster()
        for number, name in enumerate(DATABASES, 1):
            host = with_docker(FakeHost(name, f"192.0.2.{number}"), PATHS.data, PATHS.pgdata)
            host.containers["patroni"] = {"State": {"Status": "running"}}
            host.services["192.0.2.1", 5432] = postgresql.getsockname()
            found.hosts[name] = host
        yield found


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0)


def test_data_is_moved_between_stop_and_start_and_kept(cluster: Cluster) -> None:
    said = set_aside(cluster.site(), "db-2")
    assert cluster.did() == ["docker stop", "mv -T", "docker start"]
    _, _, old, new = next(words for words in cluster.hosts["db-2"].journal if words[0] == "mv")
    assert old == PATHS.pgdata
    assert new.startswith(f"{PATHS.pgdata}.broken-2")
    assert f"rm -rf {new}" in said
    assert new in cluster.hosts["db-2"].directories
    assert cluster.hosts["db-1"].journal == cluster.hosts["db-3"].journal == []


def test_data_with_a_damaged_pg_control_is_the_records(cluster: Cluster) -> None:
    cluster.data = DataState(PATHS.pgdata, True, "16", "", readable=False)
    set_aside(cluster.site(), "db-2")
    assert cluster.did() == ["docker stop", "mv -T", "docker start"]


@pytest.mark.parametrize("record", ["", '{"cluster": "kb"}', '{"cluster": "kb", "system_identifier": "8"}'])
def test_data_with_a_damaged_pg_control_stays_without_a_record_of_this_system(
    cluster: Cluster, record: str
) -> None:
    cluster.data, cluster.record = DataState(PATHS.pgdata, True, "16", "", readable=False), record
    with pytest.raises(Refused, match="the data on db-2 is left alone"):
        set_aside(cluster.site(), "db-2")
    assert cluster.did() == []


def test_without_patroni_the_data_is_moved_aside(cluster: Cluster) -> None:
    reinitialize(cluster.site(), "db-2")
    assert "mv -T" in cluster.did()


OLD, NEW = "2026-11-29 10:00:00.1+00:00", "2026-11-29 10:00:09.1+00:00"


@pytest.fixture
def asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What Patroni on db-2, which streams before and after, was asked for."""
    cluster.answers = True
    cluster.hosts["db-2"].journal.append(["docker", "start", "patroni"])
    words: list[object] = []
    monkeypatch.setattr(reinit, "change_by_rest", lambda *given: words.append(given[2:]))
    return words


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([OLD, OLD], [OLD, OLD, "", "", NEW]),  # it streams on for two looks, then is cloned
        ([OLD, OLD], [NEW]),
        (["", ""], ["", "", NEW]),  # it had not started, or did not answer
    ],
)
def test_a_replica_that_streams_is_cloned_before_its_reinit_has_succeeded(
    cluster: Cluster, asked: list[object], before: list[str], after: list[str]
) -> None:
    cluster.started = [*before, *after, "a look too many"]
    assert reinitialize(cluster.site(), "db-2") == "db-2 was cloned anew from db-1 and streams"
    assert asked == [("POST", "/reinitialize", {"force": True})]
    assert cluster.started == ["a look too many"]


def test_a_replica_that_goes_on_with_its_old_data_was_not_cloned(
    cluster: Cluster, asked: list[object]
) -> None:
    cluster.started = [OLD]
    with pytest.raises(NotConverged) as failed:
        reinit.await_streaming(cluster.site(), "db-2", seconds=0, former=OLD)
    assert failed.value.message == (
        "db-2 does not stream yet: Patroni says `running`, and PostgreSQL still runs on the old data"
    )


@pytest.mark.parametrize("leader", [None, "db-2"])
def test_nothing_is_done_without_another_leader(cluster: Cluster, leader: str | None) -> None:
    cluster.leader, cluster.answers = leader, True
    for act in (reinitialize, set_aside):
        with pytest.raises(Refused) as refused:
            act(cluster.site(), "db-2")
        assert "docker stop" in (refused.value.hint or "")
        assert "the risk" in (refused.value.hint or "")
    assert cluster.did() == []


def test_too_little_room_is_refused_before_anything_stops(cluster: Cluster) -> None:
    cluster.free = GB
    with pytest.raises(Refused, match="free"):
        set_aside(cluster.site(), "db-2")
    assert cluster.did() == []


def test_a_leader_lost_meanwhile_leaves_the_data_and_starts_the_node_again(cluster: Cluster) -> None:
    docker = cluster.hosts["db-2"].programs["docker"]

    def losing(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Any:
        if argv[0] == "stop":
            cluster.leader = None
        return docker(host, argv, stdin)

    cluster.hosts["db-2"].programs["docker"] = losing
    with pytest.raises(Refused, match="no healthy leader"):
        set_aside(cluster.site(), "db-2")
    assert cluster.did() == ["docker stop", "docker start"]
    assert PATHS.pgdata in cluster.hosts["db-2"].directories


def failing(cluster: Cluster, *broken: str) -> None:
    """Let these verbs of Docker on db-2 not end in time."""
    docker = cluster.hosts["db-2"].programs["docker"]

    def run(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Any:
        if argv[0] in broken:
            raise CommandTimeout(host.name, f"`docker {argv[0]}` did not end within 150 s")
        return docker(host, argv, stdin)

    cluster.hosts["db-2"].programs["docker"] = run


def test_a_stop_that_does_not_end_in_time_does_not_leave_the_node_stopped(cluster: Cluster) -> None:
    failing(cluster, "stop")
    with pytest.raises(CommandTimeout, match="docker stop"):
        set_aside(cluster.site(), "db-2")
    assert cluster.did() == ["docker stop", "docker restart"]
    assert PATHS.pgdata in cluster.hosts["db-2"].directories


def test_a_node_that_cannot_be_started_again_is_said_beside_what_went_wrong(cluster: Cluster) -> None:
    failing(cluster, "start")
    cluster.hosts["db-2"].programs["mv"] = lambda host, argv, stdin: Output(1, "", "read-only file system")
    with pytest.raises(CommandFailed, match="mv") as caught:
        set_aside(cluster.site(), "db-2")
    assert caught.value.detail[0] == "read-only file system"
    assert caught.value.detail[1].startswith("Patroni was not started again: `docker start` did not end")
    assert "docker start patroni" in caught.value.detail[1]


def test_docker_that_falls_silent_meanwhile_does_not_hide_what_went_wrong(cluster: Cluster) -> None:
    def mv(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        cluster.silent = True
        return Output(1, "", "read-only file system")

    cluster.hosts["db-2"].programs["mv"] = mv
    with pytest.raises(CommandFailed, match="mv"):
        set_aside(cluster.site(), "db-2")
    assert cluster.did() == ["docker stop", "mv -T", "docker start"]


@pytest.mark.parametrize("act", [set_aside, partial(start_container, name="patroni")])
def test_docker_that_does_not_answer_is_an_error_of_its_host(
    cluster: Cluster, act: Callable[[Site, str], str]
) -> None:
    cluster.silent = True
    with pytest.raises(HostError, match="db-2: Docker does not answer"):
        act(cluster.site(), "db-2")
    assert cluster.did() == []


def own_data(site: Site, host: str) -> str:
    repair = Repair(
        Action.OWN_DATA, host, "own it", parameters={"path": PATHS.pgdata, "container": "patroni"}
    )
    return acts.perform(acts.Bench(site, None, ALL), repair)


def by_repair(site: Site, host: str) -> str:
    repair = Repair(Action.START_CONTAINER, host, "start it", parameters={"container": "patroni"})
    return acts.perform(acts.Bench(site, None, ALL), repair)


@pytest.mark.parametrize("noted", DATABASES)
@pytest.mark.parametrize("act", [set_aside, restart_patroni, by_repair, own_data])
def test_nothing_starts_patroni_while_a_rebuild_of_the_consensus_is_not_finished(
    cluster: Cluster, act: Callable[[Site, str], str], noted: str
) -> None:
    """It may remember the old consensus, and make a second cluster with others that do."""
    cluster.rebuilding = noted
    cluster.hosts["db-2"].containers["patroni"] = {"State": {"Status": "exited"}}
    with pytest.raises(
        Refused, match=f"rebuild of the consensus is not finished .noted on {noted}"
    ) as refused:
        act(cluster.site(), "db-2")
    assert refused.value.hint == "kbpg raft rebuild"
    assert cluster.did() == []


def test_another_container_is_started_all_the_same(cluster: Cluster) -> None:
    cluster.rebuilding = "db-2"
    cluster.hosts["db-2"].containers["haproxy"] = {"State": {"Status": "exited"}}
    start_container(cluster.site(), "db-2", "haproxy")
    assert cluster.did() == ["docker start"]


def test_a_replica_that_does_not_come_back_is_said_with_its_log(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reinit, "CLONE_RATE", 1 << 60)
    cluster.recovers = False
    with pytest.raises(NotConverged, match="db-2 does not stream yet") as failed:
        reinit.await_streaming(cluster.site(), "db-2", clone=GB, seconds=0)
    assert any("FATAL" in line for line in failed.value.detail)


def test_the_leader_is_not_restarted(cluster: Cluster) -> None:
    cluster.leader, cluster.answers = "db-2", True
    with pytest.raises(Refused, match="hand over first"):
        restart_patroni(cluster.site(), "db-2")
    assert cluster.did() == []


def test_a_replica_is_restarted_alone(cluster: Cluster) -> None:
    cluster.hosts["db-2"].journal.append(["docker", "start", "patroni"])  # it streams before and after
    restart_patroni(cluster.site(), "db-2")
    assert cluster.did() == ["docker start", "docker restart"]
