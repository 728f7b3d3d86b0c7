"""Who may take over from a leader, and the reasons for those who may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from kbpg.engine.site import Site
from kbpg.errors import Refused, UsageError
from kbpg.facts import NotKnown
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.operations import candidates as module
from kbpg.operations.candidates import any_will_do, await_fitness, candidates, choose, leader, patience
from kbpg.operations.known_servers import SERVERS
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.resources.sql_facts import RowsFact

from .small_cluster import DATABASES, PROXIES, context, site

CONTEXT = context()
NODE = NodeFact(8008)
REPLICAS = RowsFact(CONTEXT.superuser(), "replicas", module._REPLICAS, live=True)
REPLICA = NodeStatus("running", "replica", 1, "4.1.5", "7", False, False, True, ())
LIMIT = 1 << 20

Row = tuple[str, str, str, int | None]


def there(*rows: Row, silent: str = "", servers: Mapping[str, object] | None = None) -> Site:
    """Return a cluster whose leader, db-1, sees these replicas."""
    answers: dict[str, Mapping[str, object]] = {
        name: {NODE.key: NotKnown("no answer") if name == silent else REPLICA} for name in DATABASES
    }
    answers["db-1"] = {NODE.key: replace(REPLICA, role="primary"), REPLICAS.key: rows}
    answers |= {name: {SERVERS.key: found} for name, found in (servers or {}).items()}
    return site("cluster", {n: FakeHost(n) for n in (*DATABASES, *PROXIES)}, answers)


def well(name: str, lag: int | None = 0, *, state: str = "streaming", sync: str = "quorum") -> Row:
    return name, state, sync, lag


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "patience", lambda _: 0.0)
    monkeypatch.setattr("kbpg.engine.site.INTERVAL", 0.0)


def test_the_closest_replica_takes_over() -> None:
    world = there(well("db-2", 900), well("db-3", 30))
    assert [each.name for each in candidates(world, "db-1")] == ["db-3", "db-2"]
    assert choose(world, "db-1").name == "db-3"
    assert choose(world, "db-1", "db-2").name == "db-2"
    assert any_will_do(world, "db-1")
    assert not any_will_do(there(well("db-2")), "db-1")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (well("db-2", state="catchup"), "it does not stream from the leader"),
        (well("db-2", sync="async"), "it is not synchronous, so it may lack commits that were acknowledged"),
        (well("db-2", None), "how far it lags is not known"),
        (
            well("db-2", LIMIT + 1),
            f"it lags by {LIMIT + 1} bytes, and {LIMIT} are allowed (timers.maximum_lag_on_failover)",
        ),
        (None, "it does not stream from the leader"),
    ],
)
def test_one_that_lacks_something_is_refused_with_the_reason(row: Row | None, why: str) -> None:
    world = there(*((row,) if row else ()), well("db-3"))
    with pytest.raises(Refused) as caught:
        choose(world, "db-1", "db-2")
    assert caught.value.message == f"db-2 cannot take over from db-1: {why}"
    assert choose(world, "db-1").name == "db-3"


def test_one_whose_patroni_is_silent_is_refused() -> None:
    with pytest.raises(Refused, match="db-2 cannot take over from db-1: its Patroni does not answer"):
        choose(there(well("db-2"), well("db-3"), silent="db-2"), "db-1", "db-2")


def test_nobody_is_refused_with_every_reason() -> None:
    with pytest.raises(Refused, match="nobody can take over from db-1") as caught:
        choose(there(well("db-3", LIMIT * 2)), "db-1")
    assert caught.value.detail == (
        f"db-3: streaming, quorum, lag {LIMIT * 2} bytes: it lags by {LIMIT * 2} bytes, "
        f"and {LIMIT} are allowed (timers.maximum_lag_on_failover)",
        "db-2: no connection: it does not stream from the leader",
    )


def test_without_synchronous_replication_one_that_streams_will_do() -> None:
    world = there(well("db-2", sync="async"))
    off = world.context.inventory.cluster.model_copy(update={"synchronous": "off"})
    inventory = world.context.inventory.model_copy(update={"cluster": off})
    assert choose(replace(world, context=replace(CONTEXT, inventory=inventory)), "db-1").name == "db-2"


@pytest.mark.parametrize(
    ("to", "why"), [("db-1", "db-1 leads already"), ("px-1", "px-1 is no db host"), ("x", "x is no db host")]
)
def test_what_makes_no_sense_is_the_users_error(to: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        choose(there(well("db-2"), well("db-3")), "db-1", to)


@pytest.mark.parametrize(
    "course",
    [
        [well("db-2", LIMIT * 9), well("db-2", LIMIT * 2)],
        # a leader that gave way a moment ago, and comes back
        [
            None,
            well("db-2", state="startup", sync="async"),
            well("db-2", None, sync="async"),
            well("db-2", sync="async"),
        ],
    ],
    ids=["lags", "comes back"],
)
@pytest.mark.parametrize("to", ["db-2", ""])
def test_one_that_may_take_over_in_a_moment_is_waited_for(
    course: list[Row | None], to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [(row,) if row else () for row in course]
    world, looked = looks(monkeypatch, *views, (well("db-2", 5),))
    found = choose(world, "db-1", to)
    assert (found.name, found.lag) == ("db-2", 5)
    assert len(looked) == len(course) + 1


def test_a_wait_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    late = well("db-2", sync="async")
    world, _ = looks(monkeypatch, (late,), (late,), (well("db-2"),))
    said: list[str] = []
    choose(replace(world, say=said.append), "db-1", "db-2")
    assert said == [f"waiting for db-2: streaming, async, lag 0 bytes: {module.NOT_SYNCHRONOUS}"]


@pytest.mark.parametrize("lasting", ["silent", "3.3.11"])
def test_one_that_will_not_be_fit_is_refused_at_once(lasting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers for it, or another is the one by name that is synchronous, as with Patroni before 4.0."""
    world, looked = looks(monkeypatch, (well("db-2", sync="async"), well("db-3", sync="sync")))
    if lasting == "silent":
        world.facts._knowledge.put("db-2", {NODE.key: NotKnown("no answer")})
    else:
        world = replace(world, context=context('versions: {patroni: "3.3.11"}\n'))
    with pytest.raises(Refused):
        choose(world, "db-1", "db-2")
    assert len(looked) == 1


def test_patience_goes_by_patronis_rounds() -> None:
    assert patience(context()) == module.START + module.ROUNDS * 2
    assert patience(context("failover: tolerant\n")) > 30


# --- what the proxies have ------------------------------------------------------------------------------

ALL = frozenset(f"192.0.2.{number}" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("px_1", "px_2", "who"),
    [
        (ALL, ALL - {"192.0.2.2"}, "px-2"),
        (ALL - {"192.0.2.2"}, NotKnown("HAProxy does not tell its servers"), "px-1"),
        (ALL - {"192.0.2.2"}, ALL - {"192.0.2.2"}, "px-1 and px-2"),
    ],
)
def test_one_that_a_proxy_does_not_have_does_not_take_over(px_1: object, px_2: object, who: str) -> None:
    """It was just added, or has moved to another address: HAProxy gets to know it in step 03."""
    world = there(well("db-2"), well("db-3", 900), servers={"px-1": px_1, "px-2": px_2})
    assert choose(world, "db-1").name == "db-3"
    assert not any_will_do(world, "db-1")
    with pytest.raises(Refused, match=f"HAProxy on {who} does not have its address yet"):
        choose(world, "db-1", "db-2")


def test_proxies_that_have_all_or_do_not_tell_stand_in_nobodys_way() -> None:
    servers: dict[str, object] = {"px-1": ALL, "px-2": NotKnown("HAProxy does not tell its servers")}
    world = there(well("db-2"), well("db-3"), servers=servers)
    assert any_will_do(world, "db-1")


STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n"
    "3 primary 1 db-1 192.0.2.1 2 0\n3 primary 2 db-2 192.0.2.2 0 0\n\n"
)


def test_what_haproxy_says_of_its_servers() -> None:
    assert SERVERS.parse(Output(0, STATE)) == {"192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize(
    "output",
    [
        Output(1, "", "Error: No such container: haproxy"),
        Output(0, "Can't find backend.\n\n"),
        Output(0, ""),
        Output(0, STATE[: STATE.index("3 primary")]),
        Output(1, STATE),
    ],
)
def test_a_haproxy_that_does_not_tell(output: Output) -> None:
    with pytest.raises(NotKnown, match="HAProxy"):
        SERVERS.parse(output)


# --- who is fit in a moment ------------------------------------------------------------------------------


def looks(monkeypatch: pytest.MonkeyPatch, *views: tuple[Row, ...]) -> tuple[Site, list[int]]:
    """Return a cluster that shows one view after the other, the last for ever, and how often it was looked at."""
    monkeypatch.setattr(module, "patience", lambda _: 30.0)
    world, looked = there(*views[0]), list[int]()

    def look(wanted: object) -> None:
        looked.append(1)
        rows = views[min(len(looked), len(views)) - 1]
        world.facts._knowledge.put("db-1", {REPLICAS.key: rows})

    return replace(world, refresh=look), looked


def test_a_replica_that_is_synchronous_in_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = well("db-3", sync="async"), well("db-3")
    world, looked = looks(monkeypatch, (well("db-2"), early), (well("db-2"), early), (well("db-2"), late))
    await_fitness(world, "db-1")
    assert len(looked) == 3
    assert any_will_do(world, "db-1")


def test_one_that_lags_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world, looked = looks(monkeypatch, (well("db-2"), well("db-3", 2 * LIMIT)), (well("db-2"), well("db-3")))
    await_fitness(world, "db-1")
    assert len(looked) == 2


@pytest.mark.parametrize(
    "rows",
    [
        (well("db-2"), well("db-3")),
        (well("db-2"),),
        (well("db-2"), well("db-3", state="startup", sync="async")),
    ],
    ids=["all fit", "away", "not streaming"],
)
def test_what_does_not_pass_by_itself_is_not_waited_for(
    rows: tuple[Row, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, looked = looks(monkeypatch, rows)
    await_fitness(world, "db-1")
    assert len(looked) == 1


def test_one_that_is_never_synchronous_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patroni before 4.0 has one synchronous standby by name."""
    world, looked = looks(monkeypatch, (well("db-2", sync="sync"), well("db-3", sync="potential")))
    await_fitness(replace(world, context=context('versions: {patroni: "3.3.11"}\n')), "db-1")
    assert len(looked) == 1


def test_the_wait_for_one_that_is_never_synchronous_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    world, looked = looks(monkeypatch, (well("db-2"), well("db-3", sync="async")))
    monkeypatch.setattr(module, "patience", lambda _: 0.05)
    await_fitness(world, "db-1")
    assert len(looked) > 1
    assert not any_will_do(world, "db-1")


def test_a_cluster_without_a_leader_has_nobody_to_take_over_from() -> None:
    world = site("cluster", {n: FakeHost(n) for n in DATABASES}, {n: {NODE.key: REPLICA} for n in DATABASES})
    with pytest.raises(Refused, match="nobody to take over from: waits for a leader"):
        leader(world)
