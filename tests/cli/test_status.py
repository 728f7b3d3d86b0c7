"""`kbpg status` against Patronis that answer over real HTTP on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.errors import Unreachable
from kbpg.hosts.local import LocalHost
from kbpg.hosts.settings import Silence
from kbpg.session import Session, read_context

Capture = pytest.CaptureFixture[str]
Answers = dict[str, dict[str, Any]]


class Near(LocalHost):
    """A host whose Patroni is a server on this machine; its other ports are open or closed."""

    def __init__(self, name: str, patroni: int | None, *, opened: bool = True) -> None:
        super().__init__(name=name)
        self._patroni, self._opened = patroni, opened

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        if port == 8008 and self._patroni:
            return socket.create_connection(("127.0.0.1", self._patroni), timeout)
        if port == 8008 or not self._opened:
            raise ConnectionRefusedError(f"nothing answers on {self.name}:{port}")
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours


@contextlib.contextmanager
def patroni(answers: dict[str, Any]) -> Iterator[int]:
    """Answer GETs of `answers`' paths with their JSON; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def node(role: str, *, streaming: bool = False) -> dict[str, Any]:
    more = {"replication_state": "streaming"} if streaming else {}
    return {"state": "running", "role": role, "timeline": 3, "patroni": {"version": "4.1.5"}, **more}


MEMBERS = {
    "members": [
        {"name": "db-1", "role": "leader", "state": "running", "timeline": 3},
        {"name": "db-2", "role": "quorum_standby", "state": "streaming", "timeline": 3, "lag": 0},
        {"name": "db-3", "role": "replica", "state": "streaming", "timeline": 3, "lag": 4096},
    ]
}
STALE = {"members": [{"name": "db-3", "role": "leader", "state": "running", "timeline": 2, "lag": 77}]}
WHOLE: Answers = {
    "db-1": {"/patroni": node("primary"), "/cluster": MEMBERS},
    "db-2": {"/patroni": node("replica", streaming=True), "/cluster": MEMBERS},
    "db-3": {"/patroni": node("replica", streaming=True), "/cluster": STALE},
}


@contextlib.contextmanager
def cluster(
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    *,
    lost: tuple[str, ...] = (),
    closed: tuple[str, ...] = (),
) -> Iterator[None]:
    """Let `kbpg status` find these Patronis; hosts that are `lost` cannot be reached at all."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(patroni(paths)) for name, paths in answers.items()}
        names = [n for n in ("db-1", "db-2", "db-3", "proxy-1", "proxy-2") if n not in lost]
        hosts = {name: Near(name, ports.get(name), opened=name not in closed) for name in names}
        unreachable = {name: Unreachable(name, "no answer from 192.0.2.9:22 within 10 s") for name in lost}

        @contextlib.contextmanager
        def opened(options: Any, **how: Any) -> Iterator[Session]:
            assert how["partial"] is True
            assert how["lock"] is False
            context, found = read_context(options)
            yield Session(context, found, hosts, LocalHost(), Silence(), unreachable)

        monkeypatch.setattr("kbpg.cli.status.open_session", opened)
        yield


def test_a_healthy_cluster(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    with cluster(monkeypatch, WHOLE):
        assert run(["status"]) == 0
        assert capsys.readouterr().out == snapshot
        assert run(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["leader"] == "db-1"
    assert document["members"][2] == {
        "name": "db-3",
        "address": "192.0.2.3",
        "role": "replica",
        "state": "streaming",
        "timeline": 3,
        "lag_bytes": 4096,
        "problem": None,
    }
    assert [proxy["haproxy"] for proxy in document["proxies"]] == [True, True]


def test_a_cluster_in_trouble(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    answers = {"db-1": WHOLE["db-1"]}
    with cluster(monkeypatch, answers, lost=("db-3",), closed=("proxy-2",)):
        assert run(["status"]) == 1
    assert capsys.readouterr().out == snapshot


def test_two_that_say_they_lead_are_no_leader(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    answers = {**WHOLE, "db-2": WHOLE["db-1"]}
    with cluster(monkeypatch, answers):
        assert run(["status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["leader"], document["problem"]) == (None, "db-1 and db-2 all say that they lead")


def test_no_leader(world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with cluster(monkeypatch, {"db-2": WHOLE["db-2"]}):
        assert run(["status"]) == 1
    assert capsys.readouterr().out.startswith("cluster test, no leader: no node says that it leads\n")
