"""One db host at a time: the order, and what must hold before and after each."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from kbpg.engine.site import Site
from kbpg.errors import ConnectionLost, HostError, NotConverged
from kbpg.facts import Fact, Facts, Knowledge, NotKnown
from kbpg.hosts.fake import FakeHost
from kbpg.inventory import parse
from kbpg.model import Impact
from kbpg.operations.clients_wait import Manner
from kbpg.operations.switchover import Handover
from kbpg.patroni import ConfigFact, NodeFact, NodeStatus, Replica
from kbpg.raft import RaftFact, RaftStatus
from kbpg.resources import rolling
from kbpg.resources.bounds import LeaderSettings
from kbpg.resources.rolling import OneNodeAtATime, RestartOrder

from .small_cluster import CREDENTIALS, DATABASES, context

CONTEXT = context()
NODE = NodeFact(8008)
RAFT = RaftFact(7000, CREDENTIALS.raft_password)
MEMBERS = {f"db-{number}": f"192.0.2.{number}:7000" for number in (1, 2, 3)}


@dataclass
class Cluster:
    """A cluster that is well, until a test says otherwise."""

    leader: str | None = "db-1"
    silent: set[str] = field(default_factory=set)
    lagging: set[str] = field(default_factory=set)
    no_quorum: set[str] = field(default_factory=set)
    no_raft: set[str] = field(default_factory=set)
    cut: set[tuple[str, str]] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)

    def knowledge(self) -> Knowledge:
        found = Knowledge()
        for name in DATABASES:
            found.put(name, {NODE.key: self._node(name), RAFT.key: self._raft(name)})
        return found

    def _node(self, name: str) -> NodeStatus | NotKnown:
        if name in self.silent:
            return NotKnown("no answer")
        leads = name == self.leader
        replicas = tuple(
            Replica(
                other,
                "catchup" if other in self.lagging else "streaming",
                "async" if other in self.uncounted else "quorum",
            )
            for other in DATABASES
            if other not in {name, *self.silent}
        )
        plain = NodeStatus("running", "replica", 1, "4.1.5", "7", False, False, True, ())
        return replace(plain, role="primary", replicas=replicas) if leads else plain

    def _raft(self, name: str) -> RaftStatus | NotKnown:
        if name in self.no_raft:
            return NotKnown("does not answer")
        partners = {
            address: other not in self.no_raft and (name, other) not in self.cut
            for other, address in MEMBERS.items()
            if other != name
        }
        return RaftStatus(None, name not in self.no_quorum, 1, 1, 1, partners)


def waves(impacts: Mapping[str, Impact], cluster: Cluster | None = None, settings: str = "") -> list[str]:
    rollout = OneNodeAtATime(context(settings))
    found = rollout.waves(impacts, Facts((cluster or Cluster()).knowledge(), "cluster"))
    assert all(len(wave) == 1 for wave in found)
    return [wave[0] for wave in found]


@pytest.mark.parametrize("leader", DATABASES)
def test_replicas_first_the_leader_last(leader: str) -> None:
    order = waves(dict.fromkeys(DATABASES, Impact.RESTART), Cluster(leader=leader))
    assert order == [*(name for name in DATABASES if name != leader), leader]


def test_what_restarts_nothing_goes_before_what_does() -> None:
    impacts = {"db-1": Impact.NONE, "db-2": Impact.RESTART, "db-3": Impact.RELOAD}
    assert waves(impacts, Cluster(leader="db-3")) == ["db-1", "db-3", "db-2"]
    assert waves({"db-1": Impact.SWITCHOVER, "db-2": Impact.RESTART}) == ["db-2", "db-1"]


def test_a_first_start_follows_the_addresses_as_text() -> None:
    """A Raft member dials those whose address and port sort before its own: ".100:" before ".10:" before ".9:"."""
    hosts = "db:\n" + "".join(
        f"  - {{name: n{number}, address: 192.0.2.{number}}}\n" for number in (9, 10, 100)
    )
    inventory = parse(f"cluster: {{name: kb}}\n{hosts}proxies:\n  - {{name: p, address: 192.0.2.50}}\n", "i")
    rollout = OneNodeAtATime(replace(context(), inventory=inventory))
    found = rollout.waves(dict.fromkeys(("n9", "n10", "n100"), Impact.NONE), Facts(Knowledge(), "cluster"))
    assert found == [["n100"], ["n10"], ["n9"]]


# --- before ------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A rollout on a cluster that may change with every look."""

    looks: Iterator[Cluster]
    switched: list[str] = field(default_factory=list)
    looked: int = 0

    def __post_init__(self) -> None:
        self.knowledge = Knowledge()
        self.hosts = {name: FakeHost(name) for name in DATABASES}

    def look(self, wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        assert set(wanted) == set(DATABASES)
        assert {fact.key for facts in wanted.values() for fact in facts} == {NODE.key, RAFT.key}
        self.looked += 1
        found = next(self.looks).knowledge()
        for name in DATABASES:
            self.knowledge.put(name, {fact.key: _answer(found, name, fact) for fact in (NODE, RAFT)})

    def site(self, place: str) -> Site:
        facts = Facts(self.knowledge, place)
        controller = FakeHost("controller")
        return Site(place, self.hosts, controller, CONTEXT, facts, self.look, lambda text: None)


def _answer(found: Knowledge, host: str, fact: Fact[object]) -> object:
    try:
        return found.get(host, fact.key)
    except NotKnown as silence:
        return silence


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that a switchover was asked to leave."""
    left: list[str] = []

    def leave(site: Site, *, leaving: str, manner: Manner) -> Handover:
        assert manner.lenient
        left.append(" without ".join((leaving, *manner.without)))
        return Handover(leaving, "db-2")

    monkeypatch.setattr(rolling, "switchover", leave)
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0.0)
    monkeypatch.setattr(rolling, "INTERVAL", 0.0)
    return left


def before(cluster: Cluster, place: str, impact: Impact = Impact.RESTART) -> Watched:
    watched = Watched(iter([cluster]))
    OneNodeAtATime(CONTEXT).before(watched.site(place), impact)
    return watched


def test_a_replica_of_a_cluster_that_is_well_may_go(switched: list[str]) -> None:
    assert before(Cluster(), "db-2").looked == 1
    assert switched == []


def test_the_leader_goes_after_a_switchover(switched: list[str]) -> None:
    before(Cluster(leader="db-3"), "db-3", Impact.SWITCHOVER)
    assert switched == ["db-3"]


def test_the_proxies_that_a_restart_goes_on_without_are_left_out_of_its_switchover(
    switched: list[str],
) -> None:
    watched = Restarting(iter([Cluster()] * 2))
    manner = Manner(lenient=True, without=("px-2",))
    RestartOrder(CONTEXT, manner).before(watched.site("db-1"), Impact.SWITCHOVER)
    assert switched == ["db-1 without px-2"]


@pytest.mark.parametrize("impact", [Impact.NONE, Impact.RELOAD])
def test_what_restarts_nothing_needs_nothing(impact: Impact, switched: list[str]) -> None:
    assert before(Cluster(leader=None, no_quorum=set(DATABASES)), "db-1", impact).looked == 0
    assert switched == []


REFUSED = [
    (Cluster(leader=None), "db-2", "waits for a leader"),
    (Cluster(lagging={"db-3"}), "db-2", "db-3 does not stream"),
    (Cluster(silent={"db-3"}), "db-2", "db-3 does not stream"),
    (Cluster(lagging={"db-3"}), "db-1", "db-3 does not stream"),
    (Cluster(no_quorum={"db-3"}), "db-2", "db-3 sees no Raft quorum"),
    (Cluster(no_quorum={"db-1"}), "db-2", "db-1 sees no Raft quorum"),
    (Cluster(no_raft={"db-3"}), "db-2", "db-3: does not answer"),
    (Cluster(cut={("db-1", "db-3")}), "db-2", "db-1 does not reach 192.0.2.3:7000"),
]


@pytest.mark.parametrize(("cluster", "place", "why"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_node_stays_while_another_is_not_well(
    cluster: Cluster, place: str, why: str, switched: list[str]
) -> None:
    with pytest.raises(NotConverged, match=f"not restarted: .*{why}") as caught:
        before(cluster, place)
    assert caught.value.hint == "mend the other nodes first: kbpg diagnose"
    assert switched == []


def test_nodes_that_were_just_started_are_waited_for_before_one_that_serves_goes(switched: list[str]) -> None:
    """Three hosts become five: the new ones have to clone first."""
    new = Cluster(silent={"db-3"}, no_raft={"db-3"})
    impacts = {"db-1": Impact.RESTART, "db-2": Impact.RESTART, "db-3": Impact.NONE}
    rollout = OneNodeAtATime(CONTEXT)
    assert rollout.waves(impacts, Facts(new.knowledge(), "cluster")) == [["db-3"], ["db-2"], ["db-1"]]
    watched = Watched(iter([new, Cluster(lagging={"db-3"}), Cluster()]))
    rollout.before(watched.site("db-2"), Impact.RESTART)
    assert watched.looked == 3
    # The next one is not waited for again: whatever ails it now is no clone
    with pytest.raises(NotConverged, match="db-3 does not stream"):
        rollout.before(Watched(iter([new])).site("db-1"), Impact.RESTART)


def test_the_wait_for_new_nodes_ends(switched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "JOIN_DEADLINE", 0.05)
    new = Cluster(lagging={"db-3"})
    rollout = OneNodeAtATime(CONTEXT)
    silent = Cluster(silent={"db-3"}).knowledge()
    rollout.waves({"db-2": Impact.RESTART, "db-3": Impact.NONE}, Facts(silent, "cluster"))
    watched = Watched(iter([new] * 10_000))
    with pytest.raises(NotConverged, match="not restarted: db-3 does not stream"):
        rollout.before(watched.site("db-2"), Impact.RESTART)
    assert watched.looked > 1


def test_a_replica_that_does_not_stream_goes_before_those_that_do() -> None:
    """Its address has changed, say: until it is back, nobody else could be restarted."""
    moved = Cluster(silent={"db-3"})
    assert waves(dict.fromkeys(DATABASES, Impact.RESTART), moved) == ["db-3", "db-2", "db-1"]


def test_a_member_that_is_no_host_any_more_is_said_with_what_to_do(
    switched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ghostly = {**MEMBERS, "gone": "192.0.2.9:7000"}
    monkeypatch.setattr(f"{__name__}.MEMBERS", ghostly)
    cut = Cluster(cut={(name, "gone") for name in DATABASES})
    with pytest.raises(
        NotConverged, match=r"192\.0\.2\.9:7000, which is no host .*kbpg raft remove-member 192"
    ):
        before(cut, "db-2")


def test_the_node_that_is_not_well_itself_may_go(switched: list[str]) -> None:
    sick = Cluster(lagging={"db-2"}, no_quorum={"db-2"}, cut={("db-1", "db-2"), ("db-3", "db-2")})
    assert before(sick, "db-2").looked == 1


def test_a_replica_that_is_counted_in_a_moment_is_waited_for(switched: list[str]) -> None:
    watched = Watched(iter([Cluster(uncounted={"db-3"}), Cluster(uncounted={"db-3"}), Cluster()]))
    OneNodeAtATime(CONTEXT).before(watched.site("db-2"), Impact.RESTART)
    assert watched.looked == 3


@pytest.mark.parametrize(
    ("uncounted", "why"),
    [({"db-3"}, "db-3 is not synchronous yet"), ({"db-2", "db-3"}, "no replica is synchronous yet")],
)
def test_a_node_stays_while_commits_would_wait_for_nobody_else(
    uncounted: set[str], why: str, switched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "COUNTED_DEADLINE", 0.0)
    with pytest.raises(NotConverged, match=f"not restarted: {why}"):
        before(Cluster(uncounted=uncounted), "db-2")


def test_the_replica_that_goes_need_not_be_counted(switched: list[str]) -> None:
    assert before(Cluster(uncounted={"db-2"}), "db-2").looked == 1


# --- after -------------------------------------------------------------------------------------------


def test_after_a_restart_the_cluster_is_waited_for(switched: list[str]) -> None:
    on_its_way = [
        Cluster(silent={"db-2"}, no_raft={"db-2"}),
        Cluster(lagging={"db-2"}),
        Cluster(cut={("db-2", "db-3")}),
    ]
    watched = Watched(iter([*on_its_way, Cluster()]))
    OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.RESTART)
    assert watched.looked == 4


def test_a_cluster_that_does_not_come_back_is_said(
    switched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "RETURN_DEADLINE", 0.0)
    watched = Watched(iter([Cluster(lagging={"db-2"})] * 1000))
    with pytest.raises(NotConverged, match="not whole again within 0 s: db-2 does not stream"):
        OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.RESTART)


def test_after_a_start_the_raft_port_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(iter([]))
    host = watched.hosts["db-2"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled: list[int] = []

        class Late(dict[tuple[str, int], tuple[str, int]]):
            """The port opens at the third knock."""

            def get(self, key: object, default: object = None) -> object:  # type: ignore[override]
                dialled.append(1)
                return listener.getsockname() if len(dialled) == 3 and key == (host.address, 7000) else None

        host.services = Late()
        OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.NONE)
        assert len(dialled) == 3
    assert watched.looked == 0


def test_a_node_that_does_not_listen_is_left_to_the_probe_that_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rolling, "LISTEN_DEADLINE", 0.1)
    watched = Watched(iter([]))
    OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.NONE)
    assert watched.looked == 0


# --- restarts for parameters -------------------------------------------------------------------------

CONFIG = ConfigFact(8008)
SETTINGS = LeaderSettings(CONTEXT).settings
SHRINKS, GROWS = ("max_connections", "250"), ("max_wal_senders", "5")
"""What the leader runs with, where 200 and 10 are configured."""


def bounded(cluster: Cluster, *settings: tuple[str, str]) -> Knowledge:
    found = cluster.knowledge()
    config = {"postgresql": {"parameters": {"max_connections": 200, "max_wal_senders": 10}}}
    for name in DATABASES:
        found.put(name, {CONFIG.key: config, SETTINGS.key: settings if name == cluster.leader else ()})
    return found


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ((GROWS,), ["db-1", "db-3", "db-2"]),
        ((("max_connections", "200"),), ["db-1", "db-3", "db-2"]),
        ((SHRINKS,), ["db-2", "db-1", "db-3"]),
        ((SHRINKS, GROWS), ["db-1", "db-3", "db-2", "db-1", "db-3"]),
    ],
)
def test_who_is_restarted_first_for_a_bound(settings: tuple[tuple[str, str], ...], order: list[str]) -> None:
    facts = Facts(bounded(Cluster(leader="db-2"), *settings), "cluster")
    found = RestartOrder(CONTEXT).waves(dict.fromkeys(DATABASES, Impact.RESTART), facts)
    assert [wave[0] for wave in found] == order


def test_a_leader_that_waits_for_nothing_is_not_restarted() -> None:
    facts = Facts(bounded(Cluster(leader="db-2"), SHRINKS), "cluster")
    found = RestartOrder(CONTEXT).waves(dict.fromkeys(("db-1", "db-3"), Impact.RESTART), facts)
    assert found == [["db-1"], ["db-3"]]


@dataclass
class Restarting(Watched):
    """The same, with what the leader runs with."""

    settings: tuple[tuple[str, str], ...] = ()

    def look(self, wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        self.looked += 1
        found = bounded(next(self.looks), *self.settings)
        for name in DATABASES:
            answers = {fact.key: _answer(found, name, fact) for fact in (NODE, RAFT, CONFIG, SETTINGS)}
            self.knowledge.put(name, answers)


def test_a_leader_that_shrinks_stays_the_leader(switched: list[str]) -> None:
    watched = Restarting(iter([Cluster()]), settings=(SHRINKS,))
    RestartOrder(CONTEXT).before(watched.site("db-1"), Impact.RESTART)
    assert switched == []


def test_after_a_switchover_the_old_leader_streams_before_it_is_restarted(switched: list[str]) -> None:
    after = [Cluster(leader="db-2", silent={"db-1"}), Cluster(leader="db-2", lagging={"db-1"})]
    watched = Restarting(iter([Cluster(), *after, Cluster(leader="db-2")]), settings=(GROWS,))
    RestartOrder(CONTEXT).before(watched.site("db-1"), Impact.SWITCHOVER)
    assert (switched, watched.looked) == (["db-1"], 4)


def test_an_old_leader_that_does_not_come_back_is_not_restarted(
    switched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "RETURN_DEADLINE", 0.0)
    away = [Cluster(leader="db-2", silent={"db-1"})] * 1000
    watched = Restarting(iter([Cluster(), *away]), settings=(GROWS,))
    with pytest.raises(NotConverged, match="not whole again within 0 s: db-1 does not stream"):
        RestartOrder(CONTEXT).before(watched.site("db-1"), Impact.SWITCHOVER)


def test_a_host_that_is_lost_is_not_waited_for() -> None:
    watched = Watched(iter([]))

    class Lost(FakeHost):
        def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
            raise HostError("db-2", "the connection is lost")

    watched.hosts["db-2"] = Lost("db-2")
    with pytest.raises(HostError, match="the connection is lost"):
        OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.NONE)


def test_that_a_connection_has_ended_is_said_and_not_what_it_looks_like(switched: list[str]) -> None:
    """The run goes on with another host: a node that cannot be asked any more seems not to stream."""
    watched = Watched(iter([Cluster(silent={"db-3"})]))
    watched.hosts["db-3"].ended = ConnectionLost("db-3", "the SSH connection was lost")
    with pytest.raises(ConnectionLost):
        OneNodeAtATime(CONTEXT).before(watched.site("db-2"), Impact.RESTART)
    assert watched.looked == 1


def test_a_cluster_is_not_waited_for_through_a_connection_that_has_ended(switched: list[str]) -> None:
    watched = Watched(iter([Cluster(silent={"db-3"})] * 2))
    watched.hosts["db-3"].ended = ConnectionLost("db-3", "the SSH connection was lost")
    with pytest.raises(ConnectionLost):
        OneNodeAtATime(CONTEXT).after(watched.site("db-2"), Impact.RESTART)
    assert watched.looked == 1
