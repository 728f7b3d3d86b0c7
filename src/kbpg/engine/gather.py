"""Reading the state of all hosts: per host one shell execution, one REST worker and one worker a login."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kbpg import rest
from kbpg.errors import HostError
from kbpg.facts import (
    CallFact,
    Fact,
    Knowledge,
    LocalFact,
    Login,
    NotConnected,
    NotKnown,
    RestFact,
    ShellFact,
    SqlFact,
)
from kbpg.hosts.port import Reader
from kbpg.model import CONTROLLER

WORKERS = 32
"""Threads that wait on streams; they compute next to nothing."""
READ_TIMEOUT = 60.0
"""Seconds for one host's whole shell script."""

Answers = dict[str, object]
Job = Callable[[], Answers]


def gather(
    readers: Mapping[str, Reader], knowledge: Knowledge, wanted: Mapping[str, Sequence[Fact[object]]]
) -> None:
    """Ask every host of `wanted` what it has not been asked yet, all side by side, and keep the answers.

    A question that fails is kept as `NotKnown` with its reason; nothing is raised for it.
    """
    jobs: list[tuple[str, Job]] = []
    for name, facts in wanted.items():
        missing = knowledge.missing(name, list({fact.key: fact for fact in facts}.values()))
        if name == CONTROLLER:
            knowledge.put(name, {f.key: _attempt(f.read) for f in missing if isinstance(f, LocalFact)})
        elif name in readers:
            jobs += [(name, job) for job in _jobs(readers[name], missing)]
        else:
            knowledge.put(name, {fact.key: NotConnected(f"{name} is not connected") for fact in missing})
    if not jobs:
        return
    with ThreadPoolExecutor(min(WORKERS, len(jobs))) as pool:
        for (name, _), answers in zip(jobs, pool.map(lambda job: job[1](), jobs), strict=True):
            knowledge.put(name, answers)


def gather_again(
    readers: Mapping[str, Reader], knowledge: Knowledge, wanted: Mapping[str, Sequence[Fact[object]]]
) -> None:
    """Ask every host of `wanted`, all side by side, and put the answers in place of those of before.

    Those stay until then: several fixes look at the same time, and none may find that another's question was not
    asked. What fails is kept as in `gather`.
    """
    newer = Knowledge()
    gather(readers, newer, wanted)
    knowledge.take(newer)


def _jobs(reader: Reader, facts: Iterable[Fact[object]]) -> list[Job]:
    facts = list(facts)
    shell = [fact for fact in facts if isinstance(fact, ShellFact)]
    web = [fact for fact in facts if isinstance(fact, RestFact)]
    logins: dict[tuple[Login, bool], list[SqlFact[object]]] = {}
    for fact in facts:
        if isinstance(fact, SqlFact):
            logins.setdefault((fact.login, fact.pooled), []).append(fact)
    jobs: list[Job] = []
    if shell:
        jobs.append(lambda: _shell(reader, shell))
    if web:
        jobs.append(lambda: {fact.key: _web(reader, fact) for fact in web})
    for fact in facts:
        if isinstance(fact, CallFact):
            jobs.append(lambda f=fact: {f.key: _call(reader, f)})  # type: ignore[misc]
    jobs += [lambda k=key, f=asked: _sql(reader, k[0], k[1], f) for key, asked in logins.items()]  # type: ignore[misc]
    return jobs


def _attempt(call: Callable[[], object]) -> object:
    """Return what `call` returns, or the `NotKnown` that says why there is nothing."""
    try:
        return call()
    except NotKnown as reason:
        return reason
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A parser met something it was not written for: the answer is unknown, not a traceback
        return NotKnown(f"unexpected answer ({type(error).__name__}: {error})")


def _shell(reader: Reader, facts: Sequence[ShellFact[object]]) -> Answers:
    try:
        outputs = reader.read(facts, timeout=READ_TIMEOUT)
    except HostError as error:
        return {fact.key: NotKnown(error.reason) for fact in facts}
    return {fact.key: _attempt(lambda f=fact: f.parse(outputs[f.key])) for fact in facts}  # type: ignore[misc]


def _web(reader: Reader, fact: RestFact[object]) -> object:
    try:
        answer = rest.request(reader, "GET", fact.port, fact.path)
    except HostError as error:
        return NotKnown(error.reason)
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        return _unknown(
            reader, NotKnown(f"no answer from port {fact.port} ({str(error) or type(error).__name__})")
        )
    return _attempt(lambda: fact.parse(answer.status, answer.body))


def _call(reader: Reader, fact: CallFact[object]) -> object:
    try:
        answer = _attempt(lambda: fact.ask(reader))
        return _unknown(reader, answer) if isinstance(answer, NotKnown) else answer
    except HostError as error:
        return NotKnown(error.reason)
    except OSError as error:
        return _unknown(reader, NotKnown(str(error) or type(error).__name__))


def _unknown(reader: Reader, seems: NotKnown) -> NotKnown:
    """Return why a service did not answer: that the connection to its host ended, rather than what it seems then."""
    lost = reader.gone()
    return NotKnown(lost.reason) if lost else seems


def _sql(reader: Reader, login: Login, pooled: bool, facts: Sequence[SqlFact[object]]) -> Answers:
    import psycopg  # 0.1 s that commands without a database do not pay

    from kbpg import sql

    answers: Answers = {}
    try:
        with sql.connect(reader, login, pooled=pooled) as connection:
            for fact in facts:
                answers[fact.key] = _query(connection, fact)
    except HostError as error:
        reason = error.reason
    except (OSError, psycopg.Error) as error:
        reason = _unknown(reader, NotKnown(f"port {login.port}: {sql.short(error)}")).reason
    else:
        return answers
    return {fact.key: answers.get(fact.key, NotKnown(reason)) for fact in facts}


def _query(connection: Any, fact: SqlFact[object]) -> object:
    import psycopg

    from kbpg import sql

    try:
        rows = sql.ask(connection, fact.query)
    except psycopg.Error as error:
        # What a server refuses may be an OperationalError too: a query cancelled, a lock not had, a file missing
        if connection.closed:
            raise
        return NotKnown(sql.short(error))
    return _attempt(lambda: fact.parse(rows))
