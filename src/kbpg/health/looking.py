"""One pass over all hosts, bounded in time: a question that hangs is left behind, its answer is not known."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from kbpg.engine.gather import gather
from kbpg.facts import Fact, Facts, Knowledge, Login, NotKnown, ShellFact, SqlFact
from kbpg.health.questions import LogsFact, NeighboursFact
from kbpg.hosts.port import Reader
from kbpg.model import CLUSTER, CONTROLLER
from kbpg.patroni import NodeFact
from kbpg.raft import RaftFact, RaftStatus
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.preflight.system import SystemFact

DEADLINE = 5.0
"""Seconds for one pass; measured on a healthy cluster of five hosts and 2 shared cores: see bench/."""

LOGS = 1.0
"""Seconds for the logs of what is wrong, besides what the pass has left of its own, where somebody waits to be told
(ADR 0024); measured: 0.2 s."""

RECENT = 2.0
"""Seconds for which an answer is as good as one of now. What was begun before that, while another host was waited for
or somebody was asked about a key, is asked again."""

ELECTION = 2.0
"""Seconds for which members of Raft that name different leaders are asked again: an election takes 1.4 s at most
(raftMaxTimeout, pysyncobj/config.py). What lasts longer is seen all the same."""
PAUSE = 0.25
"""Seconds between two such questions."""

LATER = 2.0
"""Seconds after which a PostgreSQL that gave kbpg no answer, while it answered Patroni, is asked once more."""
UNHURRIED = 10.0
"""Seconds that it has for that: twice what libpq waits for a connection (`sql.CONNECT_TIMEOUT`). Nothing else but its
Patroni is asked then: to be slow is not to be silent."""

Wanted = Mapping[str, Sequence[Fact[object]]]
_OF_DOCKER = (ContainersFact, ImagesFact, LogsFact, NeighboursFact, SystemFact)
"""A daemon that hangs must not take the answers of the shell with it, so these are an execution of their own."""


class Pass:
    """Questions that are under way. What is sure to be wanted may be asked of a host as soon as it is connected."""

    def __init__(self) -> None:
        self._jobs: list[_Job] = []

    def ask(self, readers: Mapping[str, Reader], wanted: Wanted) -> None:
        """Ask what was not asked yet, and wait for nothing."""
        asked = {(job.host, key) for job in self._jobs for key in job.keys}
        for name, facts in wanted.items():
            for group in _groups(name, [fact for fact in facts if (name, fact.key) not in asked]):
                job = _Job(readers, name, group)
                job.start()
                self._jobs.append(job)

    def forget_old(self) -> None:
        """Forget what was asked more than `RECENT` seconds ago."""
        since = time.monotonic() - RECENT
        self._jobs = [job for job in self._jobs if job.begun >= since]

    def answers(
        self, ends: float, deadline: float, only: Mapping[str, Fact[object]] | None = None
    ) -> Knowledge:
        """Return what is answered by `ends` (`time.monotonic`), and of the rest that it is not in `deadline` seconds.

        With `only`, a question by host, nothing else is waited for. Raises as `look` does.
        """
        knowledge = Knowledge()
        for job in self._jobs:
            if only is None or (job.host in only and only[job.host].key in job.keys):
                job.join(max(0.0, ends - time.monotonic()))
                knowledge.put(job.host, job.answers(deadline))
        return knowledge


def look(
    readers: Mapping[str, Reader], wanted: Wanted, *, deadline: float = DEADLINE, begun: Pass | None = None
) -> Facts:
    """Ask everything side by side, but what was `begun` just now, and return what was answered in `deadline` seconds.

    In these, members of Raft that are amid an election are asked again. After them, a PostgreSQL that answers Patroni
    and not kbpg is, which takes up to `LATER` + `UNHURRIED` seconds longer. What hangs goes on in threads that end
    with the connections; nothing they say later is looked at. Raises what is no answer of a host, such as the
    `KbpgError` of a journal that cannot be written.
    """
    going = begun or Pass()
    going.forget_old()
    going.ask(readers, wanted)
    ends = time.monotonic() + deadline
    raft = {name: fact for name, facts in wanted.items() for fact in facts if isinstance(fact, RaftFact)}
    elected = _elected(readers, raft, going, ends, deadline)
    knowledge = going.answers(ends, deadline)
    for name, status in elected.items():
        knowledge.put(name, {raft[name].key: status})
    seen = Facts(knowledge, CLUSTER)
    silent = {name: found for name, facts in wanted.items() if (found := _silent(seen, name, facts))}
    if silent:
        time.sleep(LATER)
        again = Pass()
        again.ask(readers, silent)
        newer = again.answers(time.monotonic() + UNHURRIED, UNHURRIED)
        _keep_nodes(newer, silent)
        knowledge.take(newer)
    return seen


def _elected(
    readers: Mapping[str, Reader], raft: Mapping[str, RaftFact], going: Pass, ends: float, deadline: float
) -> Mapping[str, RaftStatus]:
    """Return what members of Raft say that named different leaders, once they agree; nothing where they did at once.

    They have `ELECTION` seconds, until `ends` at most, while the rest of the pass goes on. A member that hangs takes
    none of that time from the others, and one that says nothing any more keeps its word of before.
    """

    def said(asked: Pass, until: float) -> dict[str, RaftStatus]:
        facts = Facts(asked.answers(until, deadline, raft), CLUSTER)
        return {name: status for name, fact in raft.items() if (status := facts.known(fact, name))}

    found = said(going, ends - min(ELECTION, deadline / 2))
    leaders = {status.leader for status in found.values()}
    if len(leaders) < 2:
        return {}
    until = min(ends - PAUSE, time.monotonic() + ELECTION)
    while (len(leaders) > 1 or None in leaders) and time.monotonic() < until:
        time.sleep(PAUSE)
        again = Pass()
        again.ask(readers, {name: [raft[name]] for name in found})
        found |= said(again, ends)
        leaders = {status.leader for status in found.values()}
    return found


def _silent(seen: Facts, host: str, facts: Sequence[Fact[object]]) -> list[Fact[object]]:
    """Return what to ask a host whose PostgreSQL runs, says Patroni, and does not answer a login to the end: all of
    that login's questions, and Patroni. Nothing where each login was answered.

    A connection that ends, as when PostgreSQL restarts just now, takes all later answers with it: the last one tells.
    """
    nodes = [fact for fact in facts if isinstance(fact, NodeFact)]
    if not any((node := seen.known(fact, host)) and node.runs for fact in nodes):
        return []
    logins: dict[Login, list[SqlFact[object]]] = {}
    for fact in facts:
        if isinstance(fact, SqlFact):
            logins.setdefault(fact.login, []).append(fact)
    lost = [each for asked in logins.values() if not _answers(seen, asked[-1], host) for each in asked]
    return [*nodes, *lost] if lost else []


def _answers(seen: Facts, fact: Fact[object], host: str) -> bool:
    return not isinstance(_answer(seen.at(host), fact), NotKnown)


def _keep_nodes(newer: Knowledge, asked: Wanted) -> None:
    """Let what Patroni said before stand where it now says nothing: it was asked for the sake of PostgreSQL."""
    later = Facts(newer, CLUSTER)
    for name, facts in asked.items():
        newer.drop(name, {f.key for f in facts if isinstance(f, NodeFact) and not _answers(later, f, name)})


class _Job(threading.Thread):
    """Some questions to one host, with answers of their own until it is done."""

    def __init__(self, readers: Mapping[str, Reader], host: str, facts: Sequence[Fact[object]]) -> None:
        super().__init__(daemon=True)
        self.host, self.begun = host, time.monotonic()
        self._readers = {name: reader for name, reader in readers.items() if name == host}
        self._facts, self._knowledge, self._done = facts, Knowledge(), False
        self._error: BaseException | None = None

    @property
    def keys(self) -> list[str]:
        """Return the names of the questions."""
        return [fact.key for fact in self._facts]

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
