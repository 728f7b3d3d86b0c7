"""A failover is asked of the node that is to lead, and only where nothing speaks against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kbpg.errors import HostError, NotConverged, Refused
from kbpg.hosts.fake import FakeHost
from kbpg.operations import failover
from kbpg.operations.place import site_of

from .patroni_server import Served, replica, served
from .small_cluster import DATABASES, context
from .test_leaderless import SEEN, raft


@pytest.fixture(autouse=True)
def quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "look_at_raft", lambda site: raft())


def site(hosts: dict[str, FakeHost]) -> Any:
    return site_of(context(), hosts, FakeHost("controller"), lambda place, text: None)


def test_nothing_is_asked_where_something_would_be_lost() -> None:
    world = Served({name: replica() for name in DATABASES})
    with served(world) as hosts, pytest.raises(Refused, match="db-3 is not the most advanced node"):
        failover.fail_over(site(hosts), replace(SEEN, host="db-3"), accept_loss=False)
    assert world.asked == []


def test_nothing_is_asked_where_somebody_leads_whatever_was_accepted() -> None:
    world = Served({name: replica() for name in DATABASES})
    with served(world) as hosts, pytest.raises(Refused, match="db-1 leads"):
        failover.fail_over(site(hosts), replace(SEEN, writable=("db-1",)), accept_loss=True)
    assert world.asked == []


def test_a_leader_that_was_elected_since_the_look_is_not_replaced() -> None:
    world = Served({name: replica() for name in DATABASES})
    world.nodes["db-3"].update(role="primary")
    with served(world) as hosts, pytest.raises(Refused, match="no failover: db-3 leads"):
        failover.fail_over(site(hosts), SEEN, accept_loss=True)
    assert world.asked == []


def test_a_quorum_that_was_lost_since_the_look_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "look_at_raft", lambda site: raft(quorum=False))
    world = Served({name: replica() for name in DATABASES})
    with served(world) as hosts, pytest.raises(Refused, match="Raft has no quorum"):
        failover.fail_over(site(hosts), SEEN, accept_loss=False)
    assert world.asked == []


def test_a_refusal_of_patroni_is_told() -> None:
    world = Served({name: replica() for name in DATABASES}, act=lambda *asked: 412)
    with served(world) as hosts, pytest.raises(HostError, match="refused the failover with 412"):
        failover.fail_over(site(hosts), SEEN, accept_loss=False)
    assert world.asked == [("db-2", "POST", "/failover", {"candidate": "db-2"})]


def test_another_node_that_leads_afterwards_is_no_success() -> None:
    world = Served({name: replica() for name in DATABASES})

    def act(host: str, method: str, path: str, body: Any) -> int:
        world.nodes["db-3"].update(role="primary")
        return 503

    world.act = act
    with served(world) as hosts, pytest.raises(NotConverged, match="db-3 leads, not db-2"):
        failover.fail_over(site(hosts), SEEN, accept_loss=False)


def test_a_node_that_never_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "DEADLINE", 0.3)
    world = Served({name: replica() for name in DATABASES}, act=lambda *asked: 503)
    with served(world) as hosts:
        hosts["db-2"].programs["docker"] = lambda host, argv, stdin: failover_log()
        with pytest.raises(NotConverged, match=r"db-2 does not lead within 0\.3 s") as caught:
            failover.fail_over(site(hosts), SEEN, accept_loss=False)
    assert "  FATAL: no WAL" in caught.value.detail


def failover_log() -> Any:
    from kbpg.hosts.port import Output

    return Output(0, "", "FATAL: no WAL\n")
