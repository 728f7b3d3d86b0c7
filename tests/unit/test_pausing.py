"""Patroni's maintenance mode: asked of one node, seen on all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kbpg.errors import HostError, NotConverged, Refused
from kbpg.hosts.fake import FakeHost
from kbpg.operations import pausing, raft_rotation
from kbpg.operations.place import site_of

from .patroni_server import Served, replica, served
from .small_cluster import DATABASES, context


def obeying(world: Served, deaf: str = "") -> None:
    """Let a change of the configuration reach every node but one."""

    def act(host: str, method: str, path: str, body: Any) -> int:
        for name, node in world.nodes.items():
            if name != deaf:
                node.update(pause=True) if body["pause"] else node.pop("pause", None)
        return 200

    world.act = act


def site(hosts: dict[str, FakeHost]) -> Any:
    return site_of(context(), hosts, FakeHost("controller"), lambda place, text: None)


def test_paused_and_not_paused_again() -> None:
    world = Served({name: replica() for name in DATABASES})
    obeying(world)
    with served(world) as hosts:
        assert pausing.pause(site(hosts)) == pausing.Seen(True, True, DATABASES, {})
        assert pausing.pause(site(hosts)) == pausing.Seen(True, False, DATABASES, {})
        assert pausing.resume(site(hosts)) == pausing.Seen(False, True, DATABASES, {})
    assert world.asked == [
        ("db-1", "PATCH", "/config", {"pause": True}),
        ("db-1", "PATCH", "/config", {"pause": None}),
    ]


def test_a_node_that_is_away_is_named_and_one_that_is_not_connected_too() -> None:
    world = Served({"db-2": replica()})
    obeying(world)
    with served(world) as hosts:
        del hosts["db-3"]
        seen = pausing.pause(site(hosts))
    assert seen.confirmed == ("db-2",)
    assert seen.silent == {
        "db-1": "db-1: Patroni answered 503 without a status",
        "db-3": "db-3: db-3 is not connected",
    }


def test_a_node_that_does_not_follow_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "RELOAD_MARGIN", -3.5)
    world = Served({name: replica() for name in DATABASES})
    obeying(world, deaf="db-3")
    with (
        served(world) as hosts,
        pytest.raises(NotConverged, match="db-3 does not say that Patroni is paused"),
    ):
        pausing.pause(site(hosts))


@pytest.mark.parametrize("set_", [pausing.pause, pausing.resume])
def test_a_node_that_falls_silent_has_not_confirmed_it(
    monkeypatch: pytest.MonkeyPatch, set_: Callable[[Any], pausing.Seen]
) -> None:
    """It answered before the change: whether it will follow is not known."""
    monkeypatch.setattr(pausing, "RELOAD_MARGIN", -3.5)
    paused = {} if set_ is pausing.pause else {"pause": True}
    world = Served({name: replica(**paused) for name in DATABASES})
    obeying(world)
    follow = world.act

    def act(*asked: Any) -> int:
        status = follow(*asked)
        del world.nodes["db-3"]
        return status

    world.act = act
    with served(world) as hosts:
        seen = set_(site(hosts))
    assert seen.confirmed == ("db-1", "db-2")
    assert list(seen.silent) == ["db-3"]


def test_a_node_that_falls_silent_for_a_moment_is_waited_for() -> None:
    world = Served({name: replica() for name in DATABASES})
    obeying(world)
    follow = world.act

    def act(*asked: Any) -> int:
        status, away = follow(*asked), world.nodes.pop("db-3")
        threading.Timer(0.3, world.nodes.update, ({"db-3": away},)).start()
        return status

    world.act = act
    with served(world) as hosts:
        assert pausing.pause(site(hosts)) == pausing.Seen(True, True, DATABASES, {})


def test_nobody_that_says_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "RELOAD_MARGIN", -3.5)
    world = Served({name: replica() for name in DATABASES})

    def act(*asked: Any) -> int:
        world.nodes.clear()
        return 200

    world.act = act
    with served(world) as hosts, pytest.raises(NotConverged, match="no node says that Patroni is paused"):
        pausing.pause(site(hosts))


def test_a_rotation_goes_on_only_where_somebody_says_that_there_is_no_pause() -> None:
    """A node that is away does not keep it from going on; a paused one does, and silence everywhere."""
    world = Served({"db-2": replica()})
    with served(world) as hosts:
        raft_rotation._require_unpaused(site(hosts))
        world.nodes["db-3"] = replica(pause=True)
        with pytest.raises(Refused, match="Patroni is paused"):
            raft_rotation._require_unpaused(site(hosts))
        world.nodes.clear()
        with pytest.raises(NotConverged, match="no node says whether Patroni is paused"):
            raft_rotation._require_unpaused(site(hosts))


def test_no_patroni_at_all() -> None:
    with served(Served({})) as hosts, pytest.raises(NotConverged, match="answers on no host") as caught:
        pausing.pause(site(hosts))
    assert len(caught.value.detail) == 3


def test_a_refusal_points_to_the_consensus() -> None:
    world = Served({name: replica() for name in DATABASES}, act=lambda *asked: 502)
    with served(world) as hosts, pytest.raises(HostError, match="refused PATCH /config with 502") as caught:
        pausing.pause(site(hosts))
    assert caught.value.hint == "kbpg raft status"
