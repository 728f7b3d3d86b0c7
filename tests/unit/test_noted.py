"""Changes that go to services through streams: they are in the journal, without secrets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from kbpg import pooler, raft, rest, scram, sql
from kbpg.engine.journal import Journal
from kbpg.engine.redactor import Redactor
from kbpg.engine.site import Recorded
from kbpg.errors import LockLost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.noted import noted
from kbpg.hosts.port import Writer
from kbpg.operations.patroni_change import wake
from kbpg.secret import Secret

from .small_cluster import context


class Kept(Journal):
    """A journal that keeps host, command and status in memory."""

    def __init__(self) -> None:
        super().__init__(None, "", Redactor())
        self.kept: list[tuple[str, tuple[str, ...], int | str]] = []

    def record(self, host: str, command: Sequence[str], *, status: int | str, **more: Any) -> None:
        self.kept.append((host, tuple(command), status))


@pytest.fixture
def journal() -> Kept:
    return Kept()


@pytest.fixture
def server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(503 if self.path == "/switchover" else 200)
            self.end_headers()

        do_PATCH = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_requests_that_change_something_are_noted(journal: Kept, server: int) -> None:
    host = Recorded(LocalHost(journal, name="db-1"))
    login = ("kbpg", Secret("hush-hush"))
    rest.request(host, "GET", server, "/cluster")
    rest.request(host, "PATCH", server, "/config", {"ttl": 30}, login=login)
    rest.request(host, "POST", server, "/switchover", {"leader": "db-1"}, login=login)
    assert journal.kept == [
        ("db-1", ("PATCH", "/config", '{"ttl": 30}'), 0),
        ("db-1", ("POST", "/switchover", '{"leader": "db-1"}'), "HTTP 503"),
    ]


def test_a_setting_that_may_be_a_secret_is_sent_and_not_noted(journal: Kept, server: int) -> None:
    body = {"postgresql": {"parameters": {"archive_command": "push --token=hush", "work_mem": "4MB"}}}
    rest.request(LocalHost(journal, name="db-1"), "PATCH", server, "/config", body)
    told = '{"postgresql": {"parameters": {"archive_command": "***", "work_mem": "4MB"}}}'
    assert journal.kept == [("db-1", ("PATCH", "/config", told), 0)]


def test_what_could_not_be_asked_is_noted_as_failed(journal: Kept) -> None:
    host = LocalHost(journal, name="db-1")
    with pytest.raises(ZeroDivisionError), noted(host, ("Raft", "remove", "a:1")):
        raise ZeroDivisionError
    assert journal.kept == [("db-1", ("Raft", "remove", "a:1"), "failed")]


class Connection:
    """A connection that takes anything."""

    taken: bytes = b""

    def execute(self, text: bytes) -> None:
        self.taken = text


def test_the_console_of_pgbouncer_is_noted(journal: Kept) -> None:
    connection = Connection()
    pooler.give(LocalHost(journal, name="proxy-1"), cast("psycopg.Connection[Any]", connection), "PAUSE")
    assert connection.taken == b"PAUSE"
    assert journal.kept == [("proxy-1", ("PgBouncer", "PAUSE"), 0)]


class Unlocked(LocalHost):
    """A host whose lock somebody has ended."""

    def lock_lost(self) -> bool:
        return True


def unlocked(journal: Kept) -> Writer:
    return Recorded(Unlocked(journal, name="db-1"))


def test_without_the_lock_patroni_is_asked_and_not_changed(journal: Kept, server: int) -> None:
    host, login = unlocked(journal), ("kbpg", Secret("hush-hush"))
    assert rest.request(host, "GET", server, "/cluster").status == 200
    with pytest.raises(LockLost) as caught:
        rest.request(host, "POST", server, "/switchover", {"leader": "db-1"}, login=login)
    assert caught.value.message == (
        """db-1: the lock was lost, so `POST /switchover {"leader": "db-1"}` was not run"""
    )
    assert journal.kept == []


def test_without_the_lock_raft_and_postgresql_are_not_changed(
    journal: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LockLost, match="`Raft remove a:1` was not run"):
        raft.command(unlocked(journal), 1, Secret("word"), ["remove", "a:1"])
    connection = Connection()

    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[Connection]:
        yield connection

    monkeypatch.setattr(sql, "connect", connect)
    monkeypatch.setattr(sql, "_shown", lambda statement, _: statement.as_string(None))
    login = context().superuser()
    with pytest.raises(LockLost, match=f"`SQL {login.database} CHECKPOINT` was not run"):
        sql.execute(unlocked(journal), login, SQL("CHECKPOINT"))
    assert connection.taken == b""


@pytest.mark.parametrize(
    ("text", "given"),
    [("PAUSE", False), ("RECONNECT", False), ("RESUME", True), ("RESUME app", True), ("ENABLE app", True)],
)
def test_without_the_lock_clients_still_go_on(journal: Kept, text: str, given: bool) -> None:
    connection = Connection()
    with nullcontext() if given else pytest.raises(LockLost):
        pooler.give(unlocked(journal), cast("psycopg.Connection[Any]", connection), text)
    assert connection.taken == (text.encode() if given else b"")


def test_without_the_lock_a_patroni_that_clients_wait_for_is_woken(journal: Kept, server: int) -> None:
    inventory = context(f"ports: {{patroni: {server}}}\n")
    wake(inventory, unlocked(journal))
    assert [command[:2] for _, command, _ in journal.kept] == [("PATCH", "/config")]


def test_sql_is_noted_without_verifiers() -> None:
    verifier = scram.verifier(Secret("wonderful"))
    statement = SQL("ALTER ROLE {} PASSWORD {}").format(Identifier("it's"), Literal(verifier))
    shown = sql._shown(statement, cast("psycopg.Connection[Any]", None))
    assert shown == """ALTER ROLE "it's" PASSWORD '***'"""
    hashed = SQL("ALTER ROLE x PASSWORD {}").format(Literal("md5" + "0" * 32))
    assert sql._shown(hashed, cast("psycopg.Connection[Any]", None)) == "ALTER ROLE x PASSWORD '***'"
