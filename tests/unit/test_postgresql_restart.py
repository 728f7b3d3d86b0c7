"""A leader that is restarted in place: through which proxies writes come afterwards, and what is said if none does.

Patroni and the proxies are stand-ins here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from kbpg.cli import handing_over
from kbpg.engine.site import Site
from kbpg.hosts.fake import FakeHost
from kbpg.operations import postgresql_restart as module
from kbpg.operations import rolling_restart
from kbpg.operations.postgresql_restart import restart_postgresql
from kbpg.operations.rolling_restart import Restarted, restart_nodes
from kbpg.operations.switchover import Handover
from kbpg.operations.writable import Search
from kbpg.options import Options
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.resources import rolling

from .small_cluster import DATABASES, PROXIES, site

LATE = {"px-2": "no write reached db-1 through it: no route to host"}


class Waiting:
    """Clients of both proxies, who wait until they are let go on."""

    def __init__(self) -> None:
        self.each = dict.fromkeys(PROXIES)
        self.since = time.monotonic()
        self.problems: dict[str, str] = {}

    def go_on(self, name: str) -> None:
        """Let the clients of a proxy go on."""


def node(*, leads: bool) -> NodeStatus:
    role = "primary" if leads else "replica"
    return NodeStatus("running", role, 1, "4.1.5", "7", False, True, not leads, ())


def cluster(said: list[str]) -> Site:
    answers = {name: {NodeFact(8008).key: node(leads=name == "db-1")} for name in DATABASES}
    hosts = {name: FakeHost(name) for name in (*DATABASES, *PROXIES)}
    return site("cluster", hosts, answers, said=said)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Both proxies have clients; through px-2 no write comes."""
    found = Waiting()

    @contextmanager
    def wait(*_: object, **__: object) -> Iterator[Waiting]:
        yield found

    def search(self: Search, proxies: Sequence[str], ends: float) -> list[str]:
        self.seen["px-2"] = "no route to host"
        return [name for name in proxies if name == "px-2"]

    monkeypatch.setattr(module, "clients_wait", wait)
    monkeypatch.setattr(module, "checkpoint", lambda *_: None)
    monkeypatch.setattr(module, "change_by_rest", lambda *_: None)
    monkeypatch.setattr(Search, "run", search)
    return found


def test_a_proxy_through_which_no_write_came_is_told_with_what_was_seen(clients: Waiting) -> None:
    said: list[str] = []
    assert restart_postgresql(cluster(said).at("db-1")) == LATE
    assert said[-1] == "px-2: no write reached db-1 through it: no route to host"


def test_what_keeps_clients_waiting_is_told_before_that(clients: Waiting) -> None:
    clients.problems["px-2"] = "cannot be reached any more"
    assert restart_postgresql(cluster([]).at("db-1")) == {"px-2": "cannot be reached any more"}


def test_clients_do_not_wait_for_a_replica(clients: Waiting) -> None:
    said: list[str] = []
    assert restart_postgresql(cluster(said).at("db-2")) == {}
    assert said == []


def test_the_problems_of_all_restarts_and_switchovers_are_one_result(
    clients: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over = Handover("db-1", "db-2", problems={"px-1": "no write reached db-2 through it: refused"})
    monkeypatch.setattr(rolling, "switchover", lambda site, leaving, manner: handed_over)
    monkeypatch.setattr(rolling.OneNodeAtATime, "_problems", lambda *_, **__: [])
    monkeypatch.setattr(rolling.LeaderSettings, "shift", lambda *_: SimpleNamespace(shrinks=[], grows=[]))
    monkeypatch.setattr(rolling_restart, "leader", lambda site: "db-1")
    done = restart_nodes(cluster([]), DATABASES)
    assert done.hosts == ["db-2", "db-3", "db-1"]
    assert done.problems == {**handed_over.problems, **LATE}


@pytest.mark.parametrize(("problems", "code"), [({}, 0), (LATE, 1)])
def test_the_command_fails_where_writes_do_not_come_through(
    problems: dict[str, str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def opened(*_: object) -> Iterator[tuple[Any, Site]]:
        found = cluster([])
        yield found, found

    monkeypatch.setattr(handing_over, "_opened", opened)
    monkeypatch.setattr(handing_over, "_all_proxies", lambda *_: None)
    monkeypatch.setattr(handing_over, "restart_nodes", lambda *_, **__: Restarted(["db-2", "db-1"], problems))
    assert handing_over.restart(Options(), (), (), pending=False) == code
    printed = capsys.readouterr().out
    assert "restarted: db-2, db-1" in printed
    assert ("px-2: no write reached db-1 through it" in printed) is bool(problems)
