"""Gathering: how often a host is asked, over what, and what becomes of answers that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg import errors

from kbpg.engine.gather import gather
from kbpg.engine.site import Site
from kbpg.errors import ConnectionLost
from kbpg.facts import CallFact, Fact, Knowledge, LocalFact, Login, NotKnown, RestFact, ShellFact, SqlFact
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output, Reader
from kbpg.model import CONTROLLER
from kbpg.operations.place import site_of
from kbpg.secret import Secret

from .small_cluster import CountingHost, ValueFact, answer_value, context, hosts, put, run

PASSWORD = Secret("a-very-secret-password")
SUPERUSER = Login("kb_admin", PASSWORD, "postgres", 5432)
APPLICATION = Login("kb_app", PASSWORD, "keybuzz", 6432)


def reason(knowledge: Knowledge, host: str, fact: Fact[Any]) -> str:
    """Return why there is no answer."""
    with pytest.raises(NotKnown) as silence:
        knowledge.get(host, fact.key)
    return silence.value.reason


def gathered(on: dict[str, CountingHost], wanted: dict[str, Sequence[Fact[Any]]]) -> Knowledge:
    knowledge = Knowledge()
    gather(on, knowledge, wanted)
    return knowledge


# --- shell -------------------------------------------------------------------------------------------


def test_all_questions_of_a_host_go_into_one_execution() -> None:
    world = hosts(["db-1", "db-2"])
    put(world["db-1"], a="1", b="2")
    a, b = ValueFact("a"), ValueFact("b")
    knowledge = gathered(world, {"db-1": [a, b, ValueFact("a")], "db-2": [b]})
    assert world["db-1"].reads == [("value:a", "value:b")]
    assert world["db-2"].reads == [("value:b",)]
    assert (knowledge.get("db-1", a.key), knowledge.get("db-2", b.key)) == ("1", None)


def test_what_is_known_is_not_asked_again() -> None:
    world = hosts(["db-1"])
    a, b = ValueFact("a"), ValueFact("b")
    knowledge = gathered(world, {"db-1": [a]})
    gather(world, knowledge, {"db-1": [a]})
    assert world["db-1"].reads == [("value:a",)]
    gather(world, knowledge, {"db-1": [a, b]})
    assert world["db-1"].reads == [("value:a",), ("value:b",)]


class Odd(ValueFact):
    """A question whose parser raises."""

    error: Exception = KeyError("missing")

    def parse(self, output: Output) -> str | None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("x"), IndexError("x"), TypeError("x"), ValueError("x"), AttributeError("x")),
        *(OverflowError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_that_cannot_be_parsed_is_unknown_and_the_others_are_kept(error: Exception) -> None:
    world = hosts(["db-1"])
    odd, good = Odd("odd"), ValueFact("good")
    object.__setattr__(odd, "error", error)
    knowledge = gathered(world, {"db-1": [odd, good]})
    assert reason(knowledge, "db-1", odd).startswith(f"unexpected answer ({type(error).__name__}: ")
    assert knowledge.get("db-1", good.key) is None


def test_a_reason_is_kept_as_the_answer() -> None:
    world = hosts(["db-1"])
    put(world["db-1"], a="?")
    knowledge = gathered(world, {"db-1": [ValueFact("a")]})
    assert reason(knowledge, "db-1", ValueFact("a")) == "waits for something"


def test_a_host_that_is_lost_knows_nothing_and_the_others_do() -> None:
    world = hosts(["db-1", "db-2"])

    def lost(host: FakeHost, question: Any) -> Output:
        raise ConnectionLost("db-1", "the connection is lost")

    world["db-1"].answers = {ValueFact: lost}
    a = ValueFact("a")
    knowledge = gathered(world, {"db-1": [a], "db-2": [a], "db-9": [a]})
    assert reason(knowledge, "db-1", a) == "the connection is lost"
    assert knowledge.get("db-2", a.key) is None
    assert reason(knowledge, "db-9", a) == "db-9 is not connected"


Places = Callable[[dict[str, CountingHost]], Site]
"""Makes a place to work on outside of a run, or in one."""


def _of_run(on: dict[str, CountingHost]) -> Site:
    return run(on).reading.site("db-1")


def _of_operation(on: dict[str, CountingHost]) -> Site:
    return site_of(context(), on, FakeHost("controller"), lambda place, text: None)


@pytest.mark.parametrize("place", [_of_run, _of_operation])
def test_while_a_question_is_asked_again_its_answer_of_before_is_there(place: Places) -> None:
    """Fixes of other hosts look at the same time: to them it was asked."""
    world, a, b = hosts(["db-1"]), ValueFact("a"), ValueFact("b")
    site = place(world)
    meanwhile: list[str | None] = []

    def answer(host: FakeHost, question: Any) -> Output:
        meanwhile.append(site.facts.known(a, "db-1"))
        return answer_value(host, question)

    put(world["db-1"], a="1", b="1")
    world["db-1"].answers = {ValueFact: answer}
    site.look({"db-1": [a, b]})
    put(world["db-1"], a="2", b="2")
    facts = site.look({"db-1": [a]})
    assert meanwhile == [None, None, "1"]
    assert (facts.get(a, "db-1"), facts.get(b, "db-1")) == ("2", "1")
    put(world["db-1"], a="?")
    with pytest.raises(NotKnown, match="waits for something"):
        site.look({"db-1": [a]}).get(a, "db-1")


# --- the controller, other protocols -----------------------------------------------------------------


@dataclass(frozen=True)
class Here(LocalFact[str]):
    answer: str | None

    @property
    def key(self) -> str:
        return "here"

    def read(self) -> str:
        if self.answer is None:
            raise NotKnown("not yet")
        return self.answer


def test_the_controller_is_asked_directly() -> None:
    assert gathered({}, {CONTROLLER: [Here("yes")]}).get(CONTROLLER, "here") == "yes"
    assert reason(gathered({}, {CONTROLLER: [Here(None)]}), CONTROLLER, Here(None)) == "not yet"


@dataclass(frozen=True)
class Call(CallFact[str]):
    error: Exception | None

    @property
    def key(self) -> str:
        return f"call:{self.error!r}"

    def ask(self, reader: Reader) -> str:
        if self.error:
            raise self.error
        return reader.name


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError("refused"), "refused"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionLost("db-1", "lost"), "lost"),
        (NotKnown("another password"), "another password"),
        (KeyError("raft_term"), "unexpected answer (KeyError: 'raft_term')"),
    ],
)
def test_a_call_that_fails_says_why(error: Exception, why: str) -> None:
    good, bad = Call(None), Call(error)
    knowledge = gathered(hosts(["db-1"]), {"db-1": [good, bad]})
    assert knowledge.get("db-1", good.key) == "db-1"
    assert reason(knowledge, "db-1", bad) == why


# --- REST --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page(RestFact[tuple[int, Any]]):
    port: int
    path: str

    def parse(self, status: int, body: Any) -> tuple[int, Any]:
        return status, body["answer"]


PAGES = {
    "/good": (200, json.dumps({"answer": 1})),
    "/down": (503, json.dumps({"answer": 2})),
    "/text": (200, "hi"),
}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, text = PAGES[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


def test_rest_is_asked_through_the_host(web: tuple[str, int]) -> None:
    world = hosts(["db-1"])
    world["db-1"].services = {("127.0.0.1", 8008): web}
    pages = {path: Page(8008, path) for path in PAGES}
    elsewhere = Page(8009, "/good")
    knowledge = gathered(world, {"db-1": [*pages.values(), elsewhere]})
    assert knowledge.get("db-1", pages["/good"].key) == (200, 1)
    assert knowledge.get("db-1", pages["/down"].key) == (503, 2)
    assert reason(knowledge, "db-1", pages["/text"]).startswith("unexpected answer (TypeError")
    assert reason(knowledge, "db-1", elsewhere).startswith("no answer from port 8009 (")


def test_something_that_speaks_no_http_is_no_answer(raw: tuple[str, int]) -> None:
    world = hosts(["db-1"])
    world["db-1"].services = {("127.0.0.1", 8008): raw}
    page = Page(8008, "/good")
    assert reason(gathered(world, {"db-1": [page]}), "db-1", page).startswith("no answer from port 8008 (")


@pytest.fixture
def raw() -> Iterator[tuple[str, int]]:
    """A server that greets like SSH."""
    import socketserver

    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Greeting) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


# --- SQL ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows(SqlFact[int]):
    login: Login
    sql: str
    pooled: bool = False

    @property
    def key(self) -> str:
        return f"{self.login.user}:{self.sql}:{self.pooled}"

    @property
    def query(self) -> str:
        return self.sql

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> int:
        return int(rows[0][0])


class Database:
    """Stands for `sql.connect`: answers queries from a table, and counts connections."""

    def __init__(self) -> None:
        self.connections: list[tuple[str, str, bool]] = []
        self.refuses: Exception | None = None
        self.rows: dict[str, list[tuple[Any, ...]] | Exception] = {}
        self.closed = False

    @contextmanager
    def connect(self, reader: Reader, login: Login, *, pooled: bool = False) -> Iterator[Database]:
        self.connections.append((reader.name, login.user, pooled))
        if self.refuses:
            raise self.refuses
        yield self

    def execute(self, query: bytes) -> Database:
        found = self.rows[query.decode()]
        if isinstance(found, Exception):
            self.closed = type(found) is psycopg.OperationalError
            raise found
        self._last = found
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._last


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr("kbpg.sql.connect", database.connect)
    return database


def test_each_login_is_one_connection(database: Database) -> None:
    database.rows = {"select 1": [(1,)], "select 2": [(2,)]}
    facts = [
        Rows(SUPERUSER, "select 1"),
        Rows(SUPERUSER, "select 2"),
        Rows(APPLICATION, "select 1"),
        Rows(APPLICATION, "select 2", pooled=True),
    ]
    knowledge = gathered(hosts(["db-1"]), {"db-1": facts})
    assert [knowledge.get("db-1", fact.key) for fact in facts] == [1, 2, 1, 2]
    assert sorted(database.connections) == [
        ("db-1", "kb_admin", False),
        ("db-1", "kb_app", False),
        ("db-1", "kb_app", True),
    ]


@pytest.mark.parametrize(
    "error",
    [
        errors.UndefinedTable('relation "x" does not exist'),
        errors.QueryCanceled("canceling statement due to statement timeout"),
        errors.LockNotAvailable("canceling statement due to lock timeout"),
        errors.UndefinedFile('could not open file "pg_hba.conf": No such file or directory'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_query_that_is_refused_leaves_the_others(database: Database, error: psycopg.Error) -> None:
    """The last three are psycopg's OperationalError, as the loss of a connection is, which goes on here."""
    database.rows = {"bad": error, "none": [], "good": [(1,)]}
    facts = {name: Rows(SUPERUSER, name) for name in database.rows}
    knowledge = gathered(hosts(["db-1"]), {"db-1": list(facts.values())})
    assert reason(knowledge, "db-1", facts["bad"]) == str(error)
    assert reason(knowledge, "db-1", facts["none"]).startswith("unexpected answer (IndexError")
    assert knowledge.get("db-1", facts["good"].key) == 1


def test_a_connection_that_breaks_keeps_the_answers_before_it(database: Database) -> None:
    database.rows = {
        "good": [(1,)],
        "lost": psycopg.OperationalError("the connection is lost"),
        "after": [(2,)],
    }
    facts = {name: Rows(SUPERUSER, name) for name in database.rows}
    knowledge = gathered(hosts(["db-1"]), {"db-1": list(facts.values())})
    assert knowledge.get("db-1", facts["good"].key) == 1
    for name in ("lost", "after"):
        assert reason(knowledge, "db-1", facts[name]) == "port 5432: the connection is lost"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (psycopg.OperationalError("FATAL:  not admitted"), "port 5432: not admitted"),
        (ConnectionLost("db-1", "the connection is lost"), "the connection is lost"),
        (OSError("no more ports"), "port 5432: no more ports"),
    ],
)
def test_a_login_that_fails_says_why_without_the_password(
    database: Database, error: Exception, why: str
) -> None:
    database.refuses = error
    fact = Rows(SUPERUSER, "select 1")
    said = reason(gathered(hosts(["db-1"]), {"db-1": [fact]}), "db-1", fact)
    assert said.startswith(why)
    assert PASSWORD.reveal() not in said


def test_a_service_behind_a_connection_that_has_ended_is_not_blamed() -> None:
    """Its answer only seems to break off."""
    world = hosts(["db-1"])
    world["db-1"].ended = ConnectionLost("db-1", "the SSH connection was lost")
    facts: list[Fact[Any]] = [
        Call(ConnectionResetError("reset")),
        Call(NotKnown("Raft on port 7000: reset")),
        Page(8008, "/patroni"),
        Rows(SUPERUSER, "select 1"),
    ]
    knowledge = gathered(world, {"db-1": facts})
    for fact in facts:
        assert reason(knowledge, "db-1", fact) == "the SSH connection was lost"


def test_all_kinds_of_questions_go_side_by_side(database: Database, web: tuple[str, int]) -> None:
    database.rows = {"select 1": [(1,)]}
    host = CountingHost("db-1", answers={ValueFact: answer_value}, services={("127.0.0.1", 8008): web})
    facts: list[Fact[Any]] = [ValueFact("a"), Page(8008, "/good"), Rows(SUPERUSER, "select 1"), Call(None)]
    knowledge = gathered({"db-1": host}, {"db-1": facts})
    assert [knowledge.get("db-1", fact.key) for fact in facts] == [None, (200, 1), 1, "db-1"]
    assert len(host.reads) == 1
    assert isinstance(facts[0], ShellFact)
