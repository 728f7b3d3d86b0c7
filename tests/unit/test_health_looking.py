"""One pass is bounded: what hangs is left behind, and everything else is answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from kbpg.cli.opening import PATIENCE
from kbpg.errors import ConnectionLost, KbpgError
from kbpg.facts import Fact, Knowledge, Login, NotKnown
from kbpg.health import looking
from kbpg.health.looking import Pass, look
from kbpg.health.questions import LogsFact, Usage, UsageFact
from kbpg.hosts.port import Output, Question, Reader
from kbpg.patroni import NodeFact, NodeStatus
from kbpg.raft import SETTLING, RaftFact, RaftStatus
from kbpg.resources.docker import ContainersFact
from kbpg.resources.sql_facts import RowsFact
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
            each.key: Output(0, "9 100 25 4096 /" if isinstance(each, UsageFact) else "[]")
            for each in questions
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


USAGE, CONTAINERS, RAFT = UsageFact(("/",)), ContainersFact(("patroni",)), RaftFact(7000, Secret("word"))


def test_a_docker_and_a_port_that_hang_cost_the_deadline_and_nothing_else(hanging: Host) -> None:
    started = time.monotonic()
    facts = look({"db-1": hanging}, {"db-1": [USAGE, CONTAINERS, RAFT]}, deadline=DEADLINE)
    assert time.monotonic() - started < DEADLINE + 1
    assert facts.get(USAGE, "db-1") == (Usage("/", 409600, 102400),)
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


def status(leader: str | None) -> RaftStatus:
    return RaftStatus(leader, True, 1, 1, 1, {})


class Members:
    """Members of Raft, each with what it says in turn, the last again and again; one that says `...` hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **words: list[object]) -> None:
        self.asked, self.free = dict.fromkeys(words, 0), threading.Event()
        self.hosts = {name: Host(hangs=False) for name in words}
        for name, host in self.hosts.items():
            host.name = name

        def ask(fact: RaftFact, reader: Reader) -> RaftStatus:
            said = words[reader.name][min(self.asked[reader.name], len(words[reader.name]) - 1)]
            self.asked[reader.name] += 1
            if said is ...:
                self.free.wait(30)
            if said is ... or isinstance(said, NotKnown):
                raise NotKnown("says nothing")
            return status(said if isinstance(said, str) else None)

        monkeypatch.setattr(RaftFact, "ask", ask)
        monkeypatch.setattr("kbpg.health.looking.PAUSE", 0.01)

    def look(self, deadline: float, *more: Fact[object]) -> dict[str, str | None]:
        """Return whom each member names after a pass, "?" where it says nothing."""
        wanted: dict[str, list[Fact[object]]] = {name: [RAFT, *more] for name in self.hosts}
        try:
            facts = look(self.hosts, wanted, deadline=deadline)
        finally:
            self.free.set()
        found = {name: facts.known(RAFT, name) for name in self.hosts}
        return {name: each.leader if each else "?" for name, each in found.items()}


def test_members_amid_an_election_are_asked_until_they_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nobody leads is no end of it."""
    members = Members(monkeypatch, a=["a", None, "b"], b=[None, None, "b"])
    assert members.look(30) == {"a": "b", "b": "b"}
    assert members.asked == {"a": 3, "b": 3}


@pytest.mark.parametrize("leader", ["a", None])
def test_members_that_agree_at_once_are_asked_once(
    monkeypatch: pytest.MonkeyPatch, leader: str | None
) -> None:
    """Without a quorum none of them names a leader, and will not in a moment."""
    members = Members(monkeypatch, a=[leader], b=[leader])
    assert members.look(30) == {"a": leader, "b": leader}
    assert members.asked == {"a": 1, "b": 1}


def test_members_that_do_not_agree_are_not_waited_for_much_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they say in the end counts."""
    monkeypatch.setattr("kbpg.health.looking.ELECTION", 0.2)
    members = Members(monkeypatch, a=["a"], b=["c", None])
    started = time.monotonic()
    assert members.look(30) == {"a": "a", "b": None}
    assert time.monotonic() - started < 5
    assert min(members.asked.values()) > 1


def test_an_election_takes_no_more_than_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs when asked again has said something, and that is not forgotten."""
    members = Members(monkeypatch, a=["a", ...], b=[None, "a"])
    started = time.monotonic()
    assert members.look(4 * DEADLINE) == {"a": "a", "b": "a"}
    assert time.monotonic() - started < 4 * DEADLINE + 1
    assert members.asked == {"a": 2, "b": 2}


def test_a_member_that_hangs_does_not_keep_the_others_from_being_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a host whose power fails during the pass: its successor is being elected then."""
    members = Members(monkeypatch, a=["c", "b"], b=[None, "b"], c=[...])
    started = time.monotonic()
    assert members.look(4 * DEADLINE) == {"a": "b", "b": "b", "c": "?"}
    assert time.monotonic() - started < 4 * DEADLINE + 1
    assert members.asked == {"a": 2, "b": 2, "c": 1}


def test_a_member_that_says_nothing_when_asked_again_keeps_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Members(monkeypatch, a=["a", NotKnown("refused"), "b"], b=[None, "b"])
    assert members.look(30) == {"a": "b", "b": "b"}


def test_the_rest_of_a_pass_goes_on_during_an_election(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs, and the election, take one deadline together."""
    members = Members(monkeypatch, a=["a"], b=["b"])
    members.hosts["a"].hangs = True
    started = time.monotonic()
    assert members.look(DEADLINE, USAGE, CONTAINERS) == {"a": "a", "b": "b"}
    assert time.monotonic() - started < DEADLINE + 1


def test_what_diagnose_waits_for_with_a_host_off_is_10_s() -> None:
    """The sum of ADR 0024: to be sure that the host does not answer, all questions to the others, logs of theirs."""
    assert PATIENCE + looking.DEADLINE + looking.LOGS <= 10
    # An election is part of a pass, and so are the seconds in which members find out that the host is away, before it
    assert SETTLING + looking.ELECTION < looking.DEADLINE


NODE, LOGIN = NodeFact(8008), Login("kb_admin", Secret("word"), "postgres", 5432)
ROWS = [RowsFact(LOGIN, name, "select 1") for name in ("one", "two")]


def running(state: str = "running") -> NodeStatus:
    return NodeStatus(state, "replica", 1, "4.1.5", "1", False, False, True, ())


class Answering:
    """What stands in for `gather`: the answers of each look, the last of them for all that follow."""

    def __init__(self, *looks: Mapping[str, object]) -> None:
        self.looks, self.asked = list(looks), dict[str, int]()

    def __call__(
        self,
        readers: Mapping[str, Reader],
        knowledge: Knowledge,
        wanted: Mapping[str, Sequence[Fact[object]]],
    ) -> None:
        for name, facts in wanted.items():
            for fact in facts:
                count = self.asked[fact.key] = self.asked.get(fact.key, 0) + 1
                knowledge.put(name, {fact.key: self.looks[min(count, len(self.looks)) - 1][fact.key]})


def said(node: object, *rows: object) -> dict[str, object]:
    return {NODE.key: node, **{fact.key: row for fact, row in zip(ROWS, rows, strict=True)}}


SILENCE = NotKnown("no answer within 5 s")


@pytest.mark.parametrize(
    ("first", "later", "times"),
    [
        (said(running(), SILENCE, SILENCE), said(running(), (), ()), 2),
        (said(running(), SILENCE, SILENCE), said(running("starting"), SILENCE, SILENCE), 2),
        (said(running(), SILENCE, SILENCE), said(running(), SILENCE, SILENCE), 2),
        (said(running(), SILENCE, ()), said(running(), (), ()), 1),
        (said(running(), (), SILENCE), said(running(), (), ()), 2),
        (said(running("stopped"), SILENCE, SILENCE), said(running(), (), ()), 1),
        (said(NotKnown("nothing"), SILENCE, SILENCE), said(running(), (), ()), 1),
    ],
    ids=["slow", "starting", "silent", "one query", "ended", "stopped", "no Patroni"],
)
def test_a_postgresql_that_runs_and_answers_nothing_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, first: dict[str, object], later: dict[str, object], times: int
) -> None:
    """A slow one, or one that has just begun to start, is no silent one: what is said then counts."""
    answers = Answering(first, later)
    monkeypatch.setattr("kbpg.health.looking.gather", answers)
    monkeypatch.setattr("kbpg.health.looking.LATER", 0.0)
    facts = look({"db-1": Host(hangs=False)}, {"db-1": [NODE, *ROWS]})
    assert set(answers.asked.values()) == {times}
    counts = later if times == 2 else first
    assert facts.known(NODE, "db-1") == (None if isinstance(counts[NODE.key], NotKnown) else counts[NODE.key])
    for fact in ROWS:
        assert facts.known(fact, "db-1") == (() if counts[fact.key] == () else None)


def test_a_patroni_that_says_nothing_at_the_second_look_has_said_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Answering(said(running(), SILENCE, SILENCE), said(SILENCE, (), ()))
    monkeypatch.setattr("kbpg.health.looking.gather", answers)
    monkeypatch.setattr("kbpg.health.looking.LATER", 0.0)
    facts = look({"db-1": Host(hangs=False)}, {"db-1": [NODE, *ROWS]})
    assert facts.get(NODE, "db-1") == running()
    assert facts.get(ROWS[0], "db-1") == ()


def test_the_second_look_waits_longer_than_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL that takes longer than a whole look may, on a machine that has other things to do, is not silent."""
    first = said(running(), SILENCE, SILENCE)
    answers = Answering(first, said(running(), (), ()))

    def slow(readers: Mapping[str, Reader], knowledge: Knowledge, wanted: Any) -> None:
        if answers.asked.get(ROWS[0].key):
            time.sleep(3 * DEADLINE)
        answers(readers, knowledge, wanted)

    monkeypatch.setattr("kbpg.health.looking.gather", slow)
    monkeypatch.setattr("kbpg.health.looking.LATER", 0.0)
    facts = look({"db-1": Host(hangs=False)}, {"db-1": [NODE, *ROWS]}, deadline=DEADLINE)
    assert facts.get(ROWS[0], "db-1") == ()


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
    assert facts.get(USAGE, "db-1") == (Usage("/", 409600, 102400),)


def test_what_was_begun_and_hangs_costs_the_deadline_too(hanging: Host) -> None:
    begun = Pass()
    begun.ask({"db-1": hanging}, {"db-1": [CONTAINERS]})
    started = time.monotonic()
    facts = look({"db-1": hanging}, {"db-1": [USAGE]}, deadline=DEADLINE, begun=begun)
    assert time.monotonic() - started < DEADLINE + 1
    assert facts.known(CONTAINERS, "db-1") is None
    assert facts.get(USAGE, "db-1") == (Usage("/", 409600, 102400),)


def test_what_was_begun_long_ago_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody thought about another host's key, say, a container may have been started."""
    asked: list[str] = []

    class Changing(Host):
        def read(self, questions: Iterable[Question], *, timeout: float = 60.0) -> Mapping[str, Output]:
            asked.append("again" if asked else "first")
            return {USAGE.key: Output(0, "9 100 25 4096 /" if len(asked) > 1 else "9 1 1 1 /")}

    host, begun = Changing(hangs=False), Pass()
    begun.ask({"db-1": host}, {"db-1": [USAGE]})
    monkeypatch.setattr("kbpg.health.looking.RECENT", 0.0)
    facts = look({"db-1": host}, {"db-1": [USAGE]}, begun=begun)
    assert asked == ["first", "again"]
    assert facts.get(USAGE, "db-1") == (Usage("/", 409600, 102400),)


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
    assert all(facts.get(USAGE, name) == (Usage("/", 409600, 102400),) for name in hosts)
