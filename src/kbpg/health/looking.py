"""One pass over all hosts, bounded in time: a question that hangs is left behind, its answer is not known."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from kbpg.engine.gather import gather
from kbpg.facts import Fact, Facts, Knowledge, NotKnown, ShellFact, SqlFact
from kbpg.health.questions import LogsFact, NeighboursFact
from kbpg.hosts.port import Reader
from kbpg.model import CLUSTER, CONTROLLER
from kbpg.raft import RaftFact
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.preflight.system import SystemFact

DEADLINE = 5.0
"""Seconds for the whole pass; measured on a healthy cluster of five hosts and 2 shared cores: see bench/."""

ELECTION = 2.0
"""Seconds after which members of Raft that name different leaders are asked again: an election takes 1.4 s at most
(raftMaxTimeout, pysyncobj/config.py). What lasts longer is seen all the same."""

Wanted = Mapping[str, Sequence[Fact[object]]]
_OF_DOCKER = (ContainersFact, ImagesFact, LogsFact, NeighboursFact, SystemFact)
"""A daemon that hangs must not take the answers of the shell with it, so these are an execution of their own."""


def look(readers: Mapping[str, Reader], wanted: Wanted, *, deadline: float = DEADLINE) -> Facts:
    """Ask everything side by side and return what was answered within `deadline` seconds.

    What hangs goes on in threads that end with the connections; nothing they say later is looked at. Raises what
    is no answer of a host, such as the `KbpgError` of a journal that cannot be written.
    """
    knowledge = Knowledge()
    _ask(readers, wanted, deadline, knowledge)
    raft = {name: [fact for fact in facts if isinstance(fact, RaftFact)] for name, facts in wanted.items()}
    if _electing(Facts(knowledge, CLUSTER), raft):
        time.sleep(ELECTION)
        _ask(readers, raft, deadline, knowledge)
    return Facts(knowledge, CLUSTER)


def _electing(facts: Facts, raft: Mapping[str, Sequence[RaftFact]]) -> bool:
    """Return whether members of Raft name different leaders, or one names none."""
    found = (facts.known(fact, name) for name, asked in raft.items() for fact in asked)
    return len({status.leader for status in found if status}) > 1


def _ask(readers: Mapping[str, Reader], wanted: Wanted, deadline: float, knowledge: Knowledge) -> None:
    """Ask everything side by side, and keep what was answered within `deadline` seconds. Raises as `look` does."""
    ends = time.monotonic() + deadline
    jobs = [_Job(readers, name, group) for name, facts in wanted.items() for group in _groups(name, facts)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(max(0.0, ends - time.monotonic()))
        knowledge.put(job.host, job.answers(deadline))


class _Job(threading.Thread):
    """Some questions to one host, with answers of their own until it is done."""

    def __init__(self, readers: Mapping[str, Reader], host: str, facts: Sequence[Fact[object]]) -> None:
        super().__init__(daemon=True)
        self.host = host
        self._readers = {name: reader for name, reader in readers.items() if name == host}
        self._facts, self._knowledge, self._done = facts, Knowledge(), False
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            gather(self._readers, self._knowledge, {self.host: self._facts})
            self._done = True
        except BaseException as error:  # noqa: BLE001 - it is raised again where the answers are taken
            self._error = error

    def answers(self, deadline: float) -> dict[str, object]:
        """Return the answers, each a `NotKnown` where the job is not done. Raises what ended the job."""
        if self._error:
            raise self._error
        if not self._done:
            return {fact.key: NotKnown(f"no answer within {deadline:g} s") for fact in self._facts}
        seen = Facts(self._knowledge, self.host)
        return {fact.key: _answer(seen, fact) for fact in self._facts}


def _answer(seen: Facts, fact: Fact[object]) -> object:
    try:
        return seen.get(fact)
    except NotKnown as reason:
        return reason


def _groups(name: str, facts: Iterable[Fact[object]]) -> list[list[Fact[object]]]:
    """Return the questions of a host by what can hang together: two shells, each login, each of the others."""
    groups: dict[object, list[Fact[object]]] = {}
    for fact in {fact.key: fact for fact in facts}.values():
        kind: object = fact.key
        if name == CONTROLLER:
            kind = CONTROLLER
        elif isinstance(fact, _OF_DOCKER):
            kind = "docker"
        elif isinstance(fact, ShellFact):
            kind = "shell"
        elif isinstance(fact, SqlFact):
            kind = (fact.login, fact.pooled)
        groups.setdefault(kind, []).append(fact)
    return list(groups.values())
