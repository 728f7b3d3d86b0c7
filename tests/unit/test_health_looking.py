"""One pass is bounded: what hangs is left behind, and everything else is answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

import pytest

from kbpg.errors import ConnectionLost, KbpgError
from kbpg.facts import NotKnown
from kbpg.health.looking import Pass, look
from kbpg.health.questions import LogsFact, UsageFact
from kbpg.hosts.port import Output, Question, Reader
from kbpg.raft import RaftFact, RaftStatus
from kbpg.resources.docker import ContainersFact
from kbpg.secret import Secret

DEADLINE = 0.4


class Host(Reader):
    """Answers its shell; `docker` hangs until it is let go, and so does every port."""

    def __init__(self, *, hangs: bool, lost: bool = False) -> None:
        self.name, self.address = "db-1", "192.0.2.1"
        self.hangs, self.lost = hangs, lost
        self.free = threading.Event()

    def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
        questions = list(questions)
        if self.lost:
            raise ConnectionLost(self.name, "the connection is lost")
        if self.hangs and any(isinstance(each, ContainersFact | LogsFact) for each in questions):
            self.free.wait(30)
        return {
            each.key: Output(0, "100 25 4096" if isinstance(each, UsageFact) else "[]") for each in questions
        }

    def dial(self, port: int, *, address: str | None = None, timeout: float = 5.0) -> socket.socket:
        self.free.wait(30)
        raise TimeoutError

    def forward(self, port: int, *, address: str | None = None) -> AbstractContextManager[int]:
        raise NotImplementedError


@pytest.fixture
def hanging() -> Iterator[Host]:
    host = Host(hangs=True)
    yield host
    host.free.set()


USAGE, CONTAINERS, RAFT = UsageFact("/"), ContainersFact(("patroni",)), RaftFact(7000, Secret("word"))


def test_a_docker_and_a_port_that_hang_cost_the_deadline_and_nothing_else(hanging: Host) -> None:
    started = time.monotonic()
    facts = look({"db-1": hanging}, {"db-1": [USAGE, CONTAINERS, RAFT]}, deadline=DEADLINE)
    assert time.monotonic() - started < DEADLINE + 1
    assert facts.get(USAGE, "db-1") == (409600, 102400)
    for fact in (CONTAINERS, RAFT):
        with pytest.raises(NotKnown, match=r"no answer within 0\.4 s"):
            facts.get(fact, "db-1")


def test_what_is_answered_in_time_is_not_waited_for() -> None:
    started = time.monotonic()
    facts = look({"db-1": Host(hangs=False)}, {"db-1": [USAGE, CONTAINERS]}, deadline=30)
    assert time.monotonic() - started < 5
    assert facts.get(CONTAINERS, "db-1") == {}


def test_a_lost_host_says_why() -> None:
    facts = look({"db-1": Host(hangs=False, lost=True)}, {"db-1": [USAGE], "db-2": [USAGE]}, deadline=5)
    with pytest.raises(NotKnown, match="the connection is lost"):
        facts.get(USAGE, "db-1")
    with pytest.raises(NotKnown, match="db-2 is not connected"):
        facts.get(USAGE, "db-2")


class Unwritable(Host):
    """A host whose commands cannot be written down."""

    def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
        raise KbpgError("the journal .kbpg/journal/x.jsonl cannot be written: No space left on device")


def test_a_journal_that_cannot_be_written_is_no_silence_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised where the answers are wanted: nobody reads what a thread prints, nor is the host to blame."""
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    with pytest.raises(KbpgError, match="cannot be written: No space left on device"):
        look({"db-1": Unwritable(hangs=False)}, {"db-1": [USAGE, CONTAINERS]}, deadline=5)
    assert printed == []


@pytest.mark.parametrize("later", ["a:7000", None])
def test_members_amid_an_election_are_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, later: str | None
) -> None:
    """What they say then counts, whether they agree or not."""
    asked: dict[str, int] = {}

    def ask(fact: RaftFact, reader: Reader) -> RaftStatus:
        asked[reader.name] = asked.get(reader.name, 0) + 1
        first = reader.name == "a" or asked[reader.name] > 1
        return RaftStatus("a:7000" if first and (reader.name == "a" or later) else None, True, 1, 1, 1, {})

    monkeypatch.setattr(RaftFact, "ask", ask)
    monkeypatch.setattr("kbpg.health.looking.ELECTION", 0.0)
    fact = RaftFact(7000, Secret("password-of-raft"))
    hosts = {name: Host(hangs=False) for name in ("a", "b")}
    for name, host in hosts.items():
        host.name = name
    facts = look(hosts, {name: [fact] for name in hosts})
    assert asked == {"a": 2, "b": 2}
    assert facts.get(fact, "b").leader == later
    assert facts.get(fact, "a").leader == "a:7000"


def test_what_was_begun_is_not_asked_again() -> None:
    """Docker is asked as soon as a host is connected; the rest of the pass takes its answers."""
    asked: list[str] = []

    class Counting(Host):
        def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
            questions = list(questions)
            asked.extend(each.key for each in questions)
            return super().read(questions, timeout=timeout)

    host = Counting(hangs=False)
    begun = Pass()
    begun.ask({"db-1": host}, {"db-1": [CONTAINERS]})
    facts = look({"db-1": host}, {"db-1": [USAGE, CONTAINERS]}, begun=begun)
    assert sorted(asked) == sorted([USAGE.key, CONTAINERS.key])
    assert facts.get(CONTAINERS, "db-1") == {}
    assert facts.get(USAGE, "db-1") == (409600, 102400)


def test_what_was_begun_and_hangs_costs_the_deadline_too(hanging: Host) -> None:
    begun = Pass()
    begun.ask({"db-1": hanging}, {"db-1": [CONTAINERS]})
    started = time.monotonic()
    facts = look({"db-1": hanging}, {"db-1": [USAGE]}, deadline=DEADLINE, begun=begun)
    assert time.monotonic() - started < DEADLINE + 1
    assert facts.known(CONTAINERS, "db-1") is None
    assert facts.get(USAGE, "db-1") == (409600, 102400)


def test_what_was_begun_long_ago_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody thought about another host's key, say, a container may have been started."""
    asked: list[str] = []

    class Changing(Host):
        def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
            asked.append("again" if asked else "first")
            return {USAGE.key: Output(0, "100 25 4096" if len(asked) > 1 else "1 1 1")}

    host, begun = Changing(hangs=False), Pass()
    begun.ask({"db-1": host}, {"db-1": [USAGE]})
    monkeypatch.setattr("kbpg.health.looking.RECENT", 0.0)
    facts = look({"db-1": host}, {"db-1": [USAGE]}, begun=begun)
    assert asked == ["first", "again"]
    assert facts.get(USAGE, "db-1") == (409600, 102400)


def test_hosts_begin_to_be_asked_from_threads_of_their_own() -> None:
    """As they are connected, side by side."""
    hosts = {}
    for number in range(20):
        hosts[f"h-{number}"] = host = Host(hangs=False)
        host.name = f"h-{number}"
    begun = Pass()
    threads = [
        threading.Thread(target=begun.ask, args=({name: host}, {name: [CONTAINERS]}))
        for name, host in hosts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts = look(hosts, {name: [USAGE] for name in hosts}, begun=begun)
    assert all(facts.get(CONTAINERS, name) == {} for name in hosts)
    assert all(facts.get(USAGE, name) == (409600, 102400) for name in hosts)
