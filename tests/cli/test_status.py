"""`kbpg status` against Patronis and HAProxies that answer over real HTTP on this machine.

There are no passwords here, so PostgreSQL, Raft and PgBouncer's console are not asked: tests/lab does that.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.errors import Unreachable
from kbpg.hosts.local import LocalHost
from kbpg.hosts.settings import Silence
from kbpg.session import Session, open_session, read_context

Capture = pytest.CaptureFixture[str]
Answers = dict[str, dict[str, Any]]


WEB = (8008, 8404)


class Near(LocalHost):
    """A host whose REST API, or statistics, is a server on this machine; its other ports are open or closed."""

    alive = True

    def __init__(self, name: str, web: int | None, *, opened: bool = True) -> None:
        super().__init__(name=name)
        self._web, self._opened = web, opened

    def close(self) -> None:
        """Be lost."""
        self.alive = False

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        if port in WEB and self._web:
            return socket.create_connection(("127.0.0.1", self._web), timeout)
        if port in WEB or not self._opened:
            raise ConnectionRefusedError(f"nothing answers on {self.name}:{port}")
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours


@contextlib.contextmanager
def web(answers: dict[str, Any]) -> Iterator[int]:
    """Answer GETs of `answers`' paths with their text, or JSON; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[self.path]
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
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


def routes(to: str) -> dict[str, Any]:
    names = ("db-1", "db-2", "db-3")
    rows = [f"primary,{name},{'UP' if name == to else 'DOWN'},1" for name in names]
    rows += [f"replicas,{name},{'DOWN' if name == to else 'UP'},1" for name in names]
    return {"/;csv": "\n".join(["# pxname,svname,status,scur", *rows])}


def node(role: str, *, streaming: bool = False) -> dict[str, Any]:
    more: dict[str, Any] = {"replication_state": "streaming"} if streaming else {}
    if role == "primary":
        more["replication"] = [
            {"application_name": "db-2", "state": "streaming", "sync_state": "quorum"},
            {"application_name": "db-3", "state": "streaming", "sync_state": "async"},
        ]
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
    "proxy-1": routes("db-1"),
    "proxy-2": routes("db-1"),
}


@contextlib.contextmanager
def cluster(
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    *,
    lost: tuple[str, ...] = (),
    closed: tuple[str, ...] = (),
    exposed: Mapping[Path, int] | None = None,
) -> Iterator[dict[str, Near]]:
    """Let `kbpg status` find these servers; hosts that are `lost` cannot be reached at all."""
    Path("credentials/postgres.env").unlink()
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(web(paths)) for name, paths in answers.items()}
        names = [n for n in ("db-1", "db-2", "db-3", "proxy-1", "proxy-2") if n not in lost]
        hosts = {name: Near(name, ports.get(name), opened=name not in closed) for name in names}
        unreachable = {name: Unreachable(name, "no answer from 192.0.2.9:22 within 10 s") for name in lost}

        @contextlib.contextmanager
        def opened(options: Any, **how: Any) -> Iterator[Session]:
            assert how["partial"] is True
            assert how["lock"] is False
            assert how["credentials_exist"] is True
            context, found = read_context(options)
            context = replace(context, pki=replace(context.pki, exposed=exposed or {}))
            yield Session(context, found, hosts, LocalHost(), Silence(), unreachable)

        monkeypatch.setattr("kbpg.cli.status.open_session", opened)
        yield hosts


def timeless(text: str) -> str:
    return re.sub(r"at \d\d:\d\d:\d\d", "at HH:MM:SS", text)


def test_keys_that_others_may_read_are_told_and_no_reason_to_stop(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with cluster(monkeypatch, WHOLE, exposed={Path("credentials/pki/ca.key"): 0o640}):
        assert run(["status", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["leader"] == "db-1"
    assert said.err.strip() == (
        "credentials/pki/ca.key: mode 0640: wanted 0600; kbpg diagnose says what mends it"
    )


def test_a_healthy_cluster(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    with cluster(monkeypatch, WHOLE):
        assert run(["status"]) == 0
        assert timeless(capsys.readouterr().out) == snapshot
        assert run(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["leader"] == "db-1"
    known = {key: document["members"][2][key] for key in ("name", "address", "role", "state", "timeline")}
    assert known == {
        "name": "db-3",
        "address": "192.0.2.3",
        "role": "replica",
        "state": "streaming",
        "timeline": 3,
    }
    assert (document["members"][2]["lag_bytes"], document["members"][2]["sync"]) == (4096, False)
    assert document["members"][2]["problem"] is None
    assert [proxy["haproxy"] for proxy in document["proxies"]] == [True, True]


def test_a_cluster_in_trouble(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    answers = {"db-1": WHOLE["db-1"], "proxy-1": routes("db-2")}
    with cluster(monkeypatch, answers, lost=("db-3",), closed=("proxy-2",)):
        assert run(["status"]) == 0  # a leader serves
    assert timeless(capsys.readouterr().out) == snapshot


def test_two_that_say_they_lead_are_no_leader(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    answers = {**WHOLE, "db-2": WHOLE["db-1"]}
    with cluster(monkeypatch, answers):
        assert run(["status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["leader"], document["problem"]) == (None, "db-1 and db-2 say that they lead")


def test_no_leader(world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with cluster(monkeypatch, {"db-2": WHOLE["db-2"]}):
        assert run(["status"]) == 1
    assert capsys.readouterr().out.startswith("down: no leader; db-1 does not answer")


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let somebody press Ctrl-C in the pause after `count` refreshes; return the pauses."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == count:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("kbpg.cli.status.time.sleep", pause)
    return pauses


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["--watch"], 2),
        (["--watch", "5"], 5),
        (["--watch=0.5"], 0.5),
        (["--watch", "--no-color"], 2),
        (["--no-color", "--watch"], 2),
    ],
)
def test_a_watch_prints_a_block_each_time_until_it_is_interrupted(
    words: list[str], seconds: float, world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pauses = interrupt_after(2, monkeypatch)
    with cluster(monkeypatch, WHOLE):
        assert run(["status", *words]) == 0
    out = capsys.readouterr()
    assert out.out.count("healthy: db-1 leads") == 2
    assert (len(pauses), out.err) == (2, "")
    assert all(0 <= pause <= seconds for pause in pauses)


def test_a_watch_in_json_is_a_document_a_line(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    interrupt_after(3, monkeypatch)
    with cluster(monkeypatch, WHOLE):
        assert run(["status", "--watch", "--json"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["status"] for document in documents] == ["healthy"] * 3


def test_a_watch_outlives_a_host(world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    back = threading.Event()
    with cluster(monkeypatch, WHOLE) as hosts:
        new = Near("db-3", hosts["db-3"]._web)

        def connect(inventory: Any, *_: object) -> tuple[dict[str, Any], dict[str, Any]]:
            assert [host.name for host in inventory.hosts] == ["db-3"]
            back.set()
            return {"db-3": new}, {}

        refreshes: list[Callable[[], object]] = [
            hosts["db-3"].close,
            lambda: back.wait(5),
            lambda: None,
            lambda: signal.raise_signal(signal.SIGINT),
        ]
        monkeypatch.setattr("kbpg.cli.status.time.sleep", lambda _: refreshes.pop(0)())
        monkeypatch.setattr("kbpg.cli.status.connect_all", connect)
        assert run(["status", "--watch", "--json"]) == 0
    states = [json.loads(line)["members"][2]["state"] for line in capsys.readouterr().out.splitlines()]
    assert states[:2] == ["streaming", "unreachable"]
    assert states[-1] == "streaming"
    assert not new.alive  # closed when the watch ended


@pytest.mark.parametrize("words", [["--watch", "0"], ["--watch=often"]])
def test_a_watch_without_sense(words: list[str], world: Any, capsys: Capture) -> None:
    assert run(["status", *words]) == 2
    assert "--watch" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["status"], ["status", "--watch"], ["--json", "status"]])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file\nhint: run kbpg step 00 first"),
        ("nonsense\n", "credentials/postgres.env:1: "),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_before_any_connection(
    words: list[str],
    text: str | None,
    said: str,
    world: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def connect(*args: object, **more: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)
    monkeypatch.setattr("kbpg.cli.status.open_session", open_session)
    file = Path("credentials/postgres.env")
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
