"""What a client of a drill takes for acknowledged, refused and unknown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from kbpg.drills.attempt import Access, Outcome
from kbpg.drills.client import CANCELLED_WAIT, Client
from kbpg.drills.workload import Workload

Answer = Callable[["Server", str], None]


class Server:
    """A connection whose statements are answered by a function; as much of psycopg's as a client uses."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.said = answer, list[str]()
        self.closed = self.broken = False
        self.notices: list[Callable[[Any], None]] = []

    def add_notice_handler(self, handler: Callable[[Any], None]) -> None:
        self.notices.append(handler)

    def execute(self, statement: str, values: object = None) -> Any:
        self.said.append(statement.split()[0])
        self.answer(self, statement)
        return SimpleNamespace(fetchone=lambda: (1.5, 7))

    def breaks(self) -> None:
        self.closed = self.broken = True
        raise psycopg.OperationalError("server closed the connection unexpectedly\nmore")


def tried(answer: Answer, *, pairs: bool = False, access: Access = Access.POOLED) -> Any:
    """Return the first attempt of a client whose server answers so, and the statements."""
    server = Server(answer)

    @contextmanager
    def connect(failed: int) -> Iterator[psycopg.Connection[Any]]:
        yield cast("psycopg.Connection[Any]", server)

    client = Client(1, access, connect, time.monotonic, pause=0.001, pairs=pairs)
    client.start()
    ends = time.monotonic() + 10
    while not client.attempts:
        assert time.monotonic() < ends, "no attempt within 10 s"
        time.sleep(0.001)
    client.leave()
    client.join(10)
    assert not client.is_alive()
    return client.attempts[0], server.said


def nothing(server: Server, statement: str) -> None:
    pass


def refuse(server: Server, statement: str) -> None:
    raise psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")


def at(word: str, then: Callable[[Server], None]) -> Answer:
    def answer(server: Server, statement: str) -> None:
        if statement.startswith(word):
            then(server)

    return answer


def cancelled(server: Server) -> None:
    """The commit comes back, with the warning that no replica has it."""
    for handler in server.notices:
        handler(SimpleNamespace(message_primary=f"{CANCELLED_WAIT} due to user request"))


def test_a_row_that_was_answered_is_acknowledged_with_the_servers_time_and_timeline() -> None:
    attempt, said = tried(nothing)
    assert (attempt.outcome, attempt.at, attempt.timeline) == (Outcome.ACKNOWLEDGED, 1.5, 7)
    assert said[0] == "insert"


@pytest.mark.parametrize(
    ("answer", "pairs", "outcome"),
    [
        (refuse, False, Outcome.REFUSED),
        # The connection ended while the only statement was under way: it may have been committed
        (at("insert", Server.breaks), False, Outcome.UNKNOWN),
        # Before the commit nothing can have been
        (at("insert", Server.breaks), True, Outcome.REFUSED),
        (at("commit", Server.breaks), True, Outcome.UNKNOWN),
        (at("commit", lambda server: refuse(server, "")), True, Outcome.REFUSED),
        (at("insert", cancelled), False, Outcome.UNKNOWN),
        (at("commit", cancelled), True, Outcome.UNKNOWN),
    ],
)
def test_what_a_client_knows(answer: Answer, pairs: bool, outcome: Outcome) -> None:
    attempt, _ = tried(answer, pairs=pairs)
    assert attempt.outcome is outcome
    assert list(attempt.numbers) == ([1, 2] if pairs else [1])


def test_no_write_is_tried_twice() -> None:
    server = Server(refuse)

    @contextmanager
    def connect(failed: int) -> Iterator[psycopg.Connection[Any]]:
        yield cast("psycopg.Connection[Any]", server)

    client = Client(1, Access.POOLED, connect, time.monotonic, pause=0.001)
    client.start()
    ends = time.monotonic() + 10
    while len(client.attempts) < 20:
        assert time.monotonic() < ends, "no 20 attempts within 10 s"
        time.sleep(0.001)
    client.leave()
    client.join(10)
    numbers = [attempt.first for attempt in client.attempts]
    assert len(set(numbers)) == len(numbers)


def test_a_client_without_a_connection_turns_to_the_next_address() -> None:
    asked: list[int] = []

    def connect(failed: int) -> Any:
        asked.append(failed)
        raise psycopg.OperationalError("connection refused")

    client = Client(1, Access.POOLED, connect, time.monotonic, pause=0.001)
    client.start()
    ends = time.monotonic() + 10
    while len(asked) < 3:
        assert time.monotonic() < ends, "no three attempts within 10 s"
        time.sleep(0.01)
    client.leave()
    client.join(10)
    assert asked[:3] == [0, 1, 2]
    assert {attempt.outcome for attempt in client.attempts} == {Outcome.NO_CONNECTION}
    assert all(attempt.rows == 0 for attempt in client.attempts)


def test_a_workload_has_clients_for_every_way(small_context: Any) -> None:
    from kbpg.drills.workload import Crowd

    workload = Workload(small_context, Crowd(3, 2, 1), time.monotonic)
    ways = [client.access for client in workload.clients]
    assert ways == [Access.POOLED] * 3 + [Access.DIRECT] * 2 + [Access.READS]
    assert len({client.number for client in workload.clients}) == 6


@pytest.fixture
def small_context() -> Any:
    from tests.unit.small_cluster import context

    return context()
