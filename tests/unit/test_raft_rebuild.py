"""The order of a rebuild, and that a run takes up what an earlier one left; data directories are never touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import yaml

from kbpg.cli import raft_doctor
from kbpg.console import plain
from kbpg.engine.site import Site
from kbpg.errors import HostError, Refused
from kbpg.facts import Fact, Facts, Knowledge, NotKnown
from kbpg.haproxy import HaproxyFact, Server
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.layout import layout
from kbpg.operations import raft_rebuild
from kbpg.operations.position import NO_DATA, Position
from kbpg.operations.raft_lost import Before, why_not_rebuild
from kbpg.operations.raft_rebuild import Rebuild, whole
from kbpg.options import Options
from kbpg.patroni import NodeFact, NodeStatus, Replica
from kbpg.raft import RaftFact, RaftStatus
from kbpg.raft_admin import Consensus, addresses
from kbpg.resources.docker import DB_CONTAINERS
from kbpg.resources.file import FileFact, FileState
from kbpg.resources.foreign import DataFact, DataState
from kbpg.resources.sql_facts import RowsFact
from kbpg.session import Session

from .fake_docker import with_docker
from .small_cluster import CREDENTIALS, DATABASES, context

CONTEXT = context()
PATHS = layout(CONTEXT)
MEMBERS = addresses(CONTEXT)
CONFIG = f"{PATHS.patroni}/patroni.yml"
NOTE = f"{PATHS.base}/kbpg/raft-rebuild.json"
POSITIONS = {"db-1": Position(2, 10, "7"), "db-2": Position(2, 30, "7"), "db-3": Position(2, 20, "7")}


HAPROXY = HaproxyFact(CONTEXT.inventory.ports.stats)
SENDER = RowsFact(CONTEXT.superuser(), "from whom it streams", "", live=True).key


def _server(name: str, *, up: bool) -> Server:
    return Server("replicas", name, "UP" if up else "DOWN", "L4TOUT", 0)


@dataclass
class Cluster:
    """Three nodes without a quorum. A node that starts without partners leads; one that starts later joins it."""

    hosts: dict[str, FakeHost] = field(default_factory=dict)
    journal: list[tuple[str, str]] = field(default_factory=list)
    leader: str = ""
    joined: list[str] = field(default_factory=list)
    dies_after: tuple[str, str] | None = None
    data: dict[str, DataState] = field(default_factory=dict)
    mute: str = ""
    """Where Docker does not answer."""
    gone: tuple[str, ...] = ()
    """The hosts that are not connected."""
    proxies: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """The proxies that are connected, with the db hosts that HAProxy has up; None where it does not answer."""
    senders: Mapping[str, str] = field(default_factory=dict)
    """The addresses from which nodes stream, by node."""

    def __post_init__(self) -> None:
        for number, name in enumerate(DATABASES, 1):
            host = with_docker(FakeHost(name, f"192.0.2.{number}"), PATHS.raft, PATHS.patroni, PATHS.pgdata)
            host.directories |= {f"{PATHS.base}/kbpg": host.directories[PATHS.raft]}
            host.containers["patroni"] = {"State": {"Status": "running"}}
            host.programs |= {n: self._noted(n, p) for n, p in host.programs.items()}
            host.programs["test"] = lambda h, argv, _: Output(0 if argv[1] in h.directories else 1, "")
            self.hosts[name] = host

    def _noted(self, name: str, program: Callable[..., Output]) -> Callable[..., Output]:
        def run(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
            did = (host.name, f"{name} {argv[0]}" if name == "docker" else name)
            self.journal.append(did)
            output = program(host, argv, stdin)
            if did[1] == "docker start":
                self._start(host)
            if did == self.dies_after:
                raise HostError(host.name, "killed here")
            return output

        return run

    def _start(self, host: FakeHost) -> None:
        alone = not yaml.safe_load(host.files[CONFIG].content)["raft"]["partner_addrs"]
        assert alone == (not self.leader), "one node starts alone, and it is the first"
        if alone:
            self.leader = host.name
        else:
            self.joined.append(host.name)

    def site(self) -> Site:
        knowledge = Knowledge()

        def look(wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
            for name in wanted:
                knowledge.put(name, self._seen(name))

        proxies = {name: FakeHost(name, "192.0.2.11") for name in self.proxies}
        return Site(
            "cluster",
            {name: host for name, host in (self.hosts | proxies).items() if name not in self.gone},
            FakeHost("c"),
            CONTEXT,
            Facts(knowledge, "cluster"),
            look,
            lambda text: None,
        )

    def _seen(self, name: str) -> dict[str, object]:
        if name in self.proxies:
            found = self.proxies[name]
            servers = None if found is None else tuple(_server(n, up=n in found) for n in DATABASES)
            return {HAPROXY.key: servers or NotKnown("no answer")}
        host, up = self.hosts[name], name == self.leader or name in self.joined
        note = host.files.get(NOTE)
        return {
            NodeFact(8008).key: self._node(name) if up else NotKnown("no answer"),
            RaftFact(7000, CREDENTIALS.raft_password).key: self._raft(name) if up else NotKnown("no answer"),
            DataFact(PATHS.data).key: self.data.get(name, DataState(PATHS.pgdata, present=True)),
            DB_CONTAINERS.key: NotKnown("no answer") if name == self.mute else dict(host.containers),
            FileFact(NOTE).key: FileState("0:0", 0o600, "", note.content.decode()) if note else None,
            FileFact(f"{PATHS.base}/kbpg/cluster.json").key: None,
            SENDER: ((self.senders[name],),) if name in self.senders else (),
        }

    def _node(self, name: str) -> NodeStatus:
        leads = name == self.leader
        replicas = tuple(Replica(each, "streaming", "quorum") for each in self.joined) if leads else ()
        role = "primary" if leads else "replica"
        return NodeStatus("running", role, 3, "4.1.5", "7", False, False, not leads, replicas)

    def _raft(self, name: str) -> RaftStatus:
        partners = {MEMBERS[each]: True for each in (self.leader, *self.joined) if each != name}
        return RaftStatus(MEMBERS[self.leader], True, 1, 9, 9, partners, MEMBERS[name], "follower")


LOST = Before(Consensus(MEMBERS, {}), (), POSITIONS, dict.fromkeys(DATABASES, "running"), {})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0)
    monkeypatch.setattr(raft_rebuild, "WATCHED", 0)
    monkeypatch.setattr(raft_rebuild, "read_position", lambda _, host: POSITIONS[host.name])
    asked: list[Any] = []
    monkeypatch.setattr(raft_rebuild, "change_by_rest", lambda *words: asked.append(words[2:4]))
    return Cluster()


def test_the_most_advanced_starts_alone_and_the_others_join_it(cluster: Cluster) -> None:
    assert Rebuild(cluster.site()).run(LOST) == "db-2"
    assert cluster.joined == ["db-1", "db-3"]
    words = [what for _, what in cluster.journal]
    first_start = words.index("docker start")
    assert cluster.journal[first_start] == ("db-2", "docker start")
    assert sorted(words[:first_start]) == sorted(["docker stop", "mv", "install"] * 3)
    assert "docker stop" not in words[words.index("mv") :]


def test_afterwards_every_node_has_its_whole_configuration_and_no_note(cluster: Cluster) -> None:
    Rebuild(cluster.site()).run(LOST)
    for name, host in cluster.hosts.items():
        assert host.files[CONFIG].content.decode() == whole(CONTEXT, name)
        assert (host.files[CONFIG].owner, host.files[CONFIG].mode) == ("999:999", 0o600)
        assert NOTE not in host.files


def test_raft_is_moved_aside_and_data_is_not_touched(cluster: Cluster) -> None:
    Rebuild(cluster.site()).run(LOST)
    for host in cluster.hosts.values():
        moves = [words for words in host.journal if words[0] in ("mv", "rm", "install", "chown", "chmod")]
        assert [words[2] for words in moves if words[0] == "mv"] == [PATHS.raft]
        assert not [words for words in moves if PATHS.data in " ".join(words)]
        assert sum(path.startswith(f"{PATHS.raft}.before-") for path in host.directories) == 1
        assert (host.directories[PATHS.raft].owner, host.directories[PATHS.raft].mode) == ("999:999", 0o700)


@pytest.mark.parametrize("what", ["docker stop", "mv", "install", "docker start", "rm"])
@pytest.mark.parametrize("where", DATABASES)
def test_killed_anywhere_the_next_run_finishes(cluster: Cluster, what: str, where: str) -> None:
    cluster.dies_after = (where, what)
    with pytest.raises(HostError, match="killed here"):
        Rebuild(cluster.site()).run(LOST)
    cluster.dies_after = None
    for host in cluster.hosts.values():
        notes = [json.loads(file.content)["id"] for path, file in host.files.items() if path == NOTE]
        assert notes or what == "rm"
    before = Rebuild(cluster.site()).look()
    if what != "rm":
        assert before.started
        assert Rebuild(cluster.site()).run(before) == "db-2"
    assert cluster.leader == "db-2"
    assert sorted(cluster.joined) == ["db-1", "db-3"]
    assert {host.files[CONFIG].content.decode() for host in cluster.hosts.values()} == {
        whole(CONTEXT, name) for name in DATABASES
    }


def unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = POSITIONS | dict.fromkeys(names, "the position of its data cannot be read: no pg_control")
    monkeypatch.setattr(raft_rebuild, "read_position", lambda _, host: found[host.name])


def test_data_that_cannot_be_read_after_the_stop_ends_it_and_everything_runs_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "db-2")
    monkeypatch.setattr(cluster, "_start", lambda host: None)  # with the partners that they had
    with pytest.raises(Refused, match="not rebuilt: db-2: the position of its data cannot be read") as caught:
        Rebuild(cluster.site()).run(LOST)
    assert "no Raft directory was moved; started again: db-1, db-2, db-3" in caught.value.detail
    words = [what for _, what in cluster.journal]
    assert words == ["docker stop"] * 3 + ["docker start", "rm"] * 3
    assert not any(NOTE in host.files for host in cluster.hosts.values())


def test_what_did_not_run_is_not_started_and_an_earlier_note_stays(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "db-2")
    before = replace(LOST, started="20261123T135809Z", states=dict.fromkeys(DATABASES, "exited"))
    with pytest.raises(Refused) as caught:
        Rebuild(cluster.site()).run(before)
    assert "no Raft directory was moved; started again: none" in caught.value.detail
    assert all(NOTE in host.files for host in cluster.hosts.values())


def test_a_node_that_is_named_stays_stopped_and_the_best_of_the_others_leads(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "db-2")
    before = replace(LOST, positions={**POSITIONS, "db-2": "no pg_control"}, without=("db-2",))
    assert Rebuild(cluster.site(), ("db-2",)).run(before) == "db-3"
    assert cluster.joined == ["db-1"]
    assert ("db-2", "docker stop") in cluster.journal


def test_a_node_that_certainly_holds_nothing_is_no_obstacle(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "db-1")
    cluster.data["db-1"] = DataState(PATHS.pgdata, present=False)
    assert Rebuild(cluster.site()).look().positions["db-1"] == NO_DATA
    assert Rebuild(cluster.site()).run(LOST) == "db-2"
    assert cluster.joined == ["db-1", "db-3"]


def test_a_host_whose_docker_is_silent_is_told_and_can_be_left_out(cluster: Cluster) -> None:
    cluster.mute = "db-3"
    seen = Rebuild(cluster.site()).look()
    assert seen.states == {"db-1": "running", "db-2": "running", "db-3": "unknown"}
    assert seen.positions["db-3"] == "the position of its data cannot be read: Docker does not answer"
    assert "--without db-3" in (why_not_rebuild(seen) or "")
    work = Rebuild(cluster.site(), ("db-3",))
    before = work.look()
    assert why_not_rebuild(before) is None
    assert "stop Patroni and PostgreSQL on db-1, db-2" in plain(raft_doctor.intended(before))
    assert work.run(before) == "db-2"
    assert cluster.joined == ["db-1"]
    assert cluster.hosts["db-3"].journal == []


def test_docker_that_falls_silent_amid_a_rebuild_is_an_error_of_its_host(cluster: Cluster) -> None:
    before, cluster.mute = Rebuild(cluster.site()).look(), "db-3"
    with pytest.raises(HostError, match="db-3: Docker does not answer") as caught:
        Rebuild(cluster.site()).run(before)
    assert caught.value.hint == "run the same command again to go on"


def ordered(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Give the command, and let `meanwhile` happen until the word is typed."""

    @contextmanager
    def working(*_: object, **__: object) -> Iterator[Session]:
        yield cast(Session, None)

    def typed() -> bool:
        meanwhile()
        return True

    monkeypatch.setattr(raft_doctor, "working", working)
    monkeypatch.setattr(raft_doctor, "workplace", lambda *_: cluster.site())
    monkeypatch.setattr(raft_doctor, "_typed", typed)
    raft_doctor.rebuild(Options(), ())


def test_a_quorum_that_came_back_before_the_answer_is_left_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back() -> None:
        cluster.leader, cluster.joined = "db-1", ["db-2", "db-3"]

    with pytest.raises(Refused, match="sees a quorum: there is nothing to rebuild"):
        ordered(cluster, monkeypatch, back)
    assert cluster.journal == []


def test_a_leader_that_was_to_be_joined_and_died_before_the_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.dies_after = ("db-2", "docker start")
    with pytest.raises(HostError, match="killed here"):
        Rebuild(cluster.site()).run(LOST)
    cluster.journal.clear()

    def dies() -> None:
        cluster.leader = ""

    with pytest.raises(Refused, match="db-2 led when this was asked, and does not now"):
        ordered(cluster, monkeypatch, dies)
    assert cluster.journal == []


def cut_off(cluster: Cluster, **seen: Any) -> Before:
    """Return what is seen from the side of db-3, where the others are given up."""
    cluster.gone = ("db-1", "db-2")
    for name, value in seen.items():
        setattr(cluster, name, value)
    return Rebuild(cluster.site(), cluster.gone).look()


def test_proxies_are_asked_whether_those_given_up_are_alive(cluster: Cluster) -> None:
    proxy, other = CONTEXT.proxy_names
    before = cut_off(cluster, proxies={proxy: frozenset({"db-1", "db-2"}), other: None})
    assert before.has_up == {proxy: frozenset({"db-1", "db-2"})}
    assert f"HAProxy on {proxy} has db-1 up" in (why_not_rebuild(before) or "")
    before = cut_off(cluster, proxies={proxy: frozenset(), other: frozenset()})
    assert why_not_rebuild(before) is None
    shown = plain(raft_doctor.intended(before))
    assert (
        f"HAProxy on {proxy}, {other} was asked whether db-1, db-2 is up; nobody else here can tell" in shown
    )
    assert "db-1, db-2 must be switched off: a leader there" in shown


@pytest.mark.parametrize("proxies", [{}, dict.fromkeys(CONTEXT.proxy_names)])
def test_that_no_proxy_can_be_asked_is_said(cluster: Cluster, proxies: dict[str, None]) -> None:
    before = cut_off(cluster, proxies=proxies)
    assert why_not_rebuild(before) is None
    assert "no proxy can be asked whether db-1, db-2 is up" in plain(raft_doctor.intended(before))


@pytest.mark.parametrize(("address", "sender"), [("192.0.2.1", "db-1"), ("198.51.100.1", "")])
def test_a_replica_that_still_streams_is_seen(cluster: Cluster, address: str, sender: str) -> None:
    before = cut_off(cluster, senders={"db-3": address})
    assert before.streams_from == {"db-3": sender}
    assert "db-3 streams from a leader that cannot be seen" in (why_not_rebuild(before) or "")


def test_where_all_can_be_stopped_nobody_has_to_be_switched_off(cluster: Cluster) -> None:
    before = Rebuild(cluster.site()).look()
    assert "switched off" not in plain(raft_doctor.intended(before))
