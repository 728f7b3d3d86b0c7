"""Facts: questions to hosts, each with a pure parser, and what has been answered so far.

Five kinds, for five ways to ask: `ShellFact` (all of a host's go into one execution), `RestFact` (Patroni's HTTP
API), `SqlFact` (one connection per login), `CallFact` (another protocol) and `LocalFact` (the controller). A fact is
a value: two resources that need the same answer name the same fact, and it is asked once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from kbpg.hosts.port import Output, Reader
from kbpg.secret import Secret

T_co = TypeVar("T_co", covariant=True)


class NotKnown(Exception):
    """A fact has no answer now; the reason is what a user is shown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotConnected(NotKnown):
    """There is no connection to the host: it was away, and `--limit` or the command leaves it out."""


class Fact(ABC, Generic[T_co]):
    """A question; `key` identifies it on its host. `live` facts are asked again after any change anywhere."""

    live: bool = False

    @property
    @abstractmethod
    def key(self) -> str:
        """Return the name of the question, unique on a host."""


class ShellFact(Fact[T_co]):
    """A question to a host's shell."""

    @property
    @abstractmethod
    def script(self) -> str:
        """Return a POSIX sh fragment that only reads."""

    @abstractmethod
    def parse(self, output: Output) -> T_co:
        """Turn what the fragment printed into the answer; raises `NotKnown`."""


class RestFact(Fact[T_co]):
    """A GET of Patroni's REST API on the host."""

    port: int
    path: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"rest:{self.port}{self.path}"

    @abstractmethod
    def parse(self, status: int, body: Any) -> T_co:
        """Turn HTTP status and decoded JSON into the answer; raises `NotKnown`."""


REFUSED = "authentication failed"
"""What PostgreSQL ("password authentication failed for user", auth_failed in auth.c) and PgBouncer ("SASL
authentication failed") say to a wrong password, and PostgreSQL to one that has expired: get_role_password in crypt.c
tells that to its log alone. kbpg's servers speak English."""


@dataclass(frozen=True)
class Login:
    """Who asks SQL questions, and where: a port on the host, a database, a user and the password.

    `former` is the password that may still be in force while a rotation is not ended: it is tried where `password` is
    refused (`sql.connect`).
    """

    user: str
    password: Secret
    database: str
    port: int
    former: Secret | None = None


class SqlFact(Fact[T_co]):
    """A query, asked on the host as `login`."""

    login: Login
    pooled: bool = False

    @property
    @abstractmethod
    def query(self) -> str:
        """Return a query that only reads."""

    @abstractmethod
    def parse(self, rows: Sequence[tuple[Any, ...]]) -> T_co:
        """Turn the rows into the answer; raises `NotKnown`."""


class CallFact(Fact[T_co]):
    """A question in another protocol (Raft's), asked through a stream that the host opens."""

    @abstractmethod
    def ask(self, reader: Reader) -> T_co:
        """Ask and return the answer; raises `NotKnown`, `OSError` or `HostError`."""


class LocalFact(Fact[T_co]):
    """A question to the controller itself."""

    @abstractmethod
    def read(self) -> T_co:
        """Look and return the answer; raises `NotKnown`."""


class Knowledge:
    """All answers so far, by host and key. Written by the gatherer only."""

    def __init__(self) -> None:
        self._answers: dict[str, dict[str, object]] = {}

    def put(self, host: str, answers: Mapping[str, object]) -> None:
        """Keep answers; a `NotKnown` instance is an answer too."""
        self._answers.setdefault(host, {}).update(answers)

    def take(self, newer: Knowledge) -> None:
        """Keep all answers of `newer` instead of these; the others stay."""
        for host, answers in newer._answers.items():
            self.put(host, answers)

    def get(self, host: str, key: str) -> object:
        """Return the answer; raises `NotKnown` where there is none, or the reason, which was kept."""
        answer = self._answers.get(host, {}).get(key, NotKnown("was not asked"))
        if isinstance(answer, NotKnown):
            raise type(answer)(answer.reason)  # a new one: several threads may ask
        return answer

    def missing(self, host: str, facts: Sequence[Fact[object]]) -> list[Fact[object]]:
        """Return those of `facts` that the host has not been asked."""
        known = self._answers.get(host, {})
        return [fact for fact in facts if fact.key not in known]

    def forget(self, host: str) -> None:
        """Drop what is known of a host, because something was changed there."""
        self._answers.pop(host, None)

    def drop(self, host: str, keys: set[str]) -> None:
        """Drop these answers of one host."""
        answers = self._answers.get(host, {})
        for key in keys:
            answers.pop(key, None)

    def forget_keys(self, keys: set[str]) -> None:
        """Drop these answers on every host."""
        for host in self._answers:
            self.drop(host, keys)


class Facts:
    """What is known, as seen from one place; resources read through it."""

    def __init__(self, knowledge: Knowledge, here: str) -> None:
        self._knowledge = knowledge
        self.here = here

    def at(self, place: str) -> Facts:
        """Return the same knowledge, seen from another place."""
        return Facts(self._knowledge, place)

    def get(self, fact: Fact[T_co], host: str | None = None) -> T_co:
        """Return the answer to `fact` on `host` (default: here). Raises `NotKnown` with the reason."""
        return cast(T_co, self._knowledge.get(host or self.here, fact.key))

    def known(self, fact: Fact[T_co], host: str | None = None) -> T_co | None:
        """Return the answer, or None when it is not known."""
        try:
            return self.get(fact, host)
        except NotKnown:
            return None

    def asked(self, fact: Fact[object], host: str) -> bool:
        """Return whether `host` was asked, whatever came of it."""
        return not self._knowledge.missing(host, [fact])

    def joined(self, newer: Facts) -> Facts:
        """Return what both know, from here; where both have an answer, the newer one's."""
        both = Knowledge()
        both.take(self._knowledge)
        both.take(newer._knowledge)
        return Facts(both, self.here)

    def away(self, fact: Fact[object], host: str) -> bool:
        """Return whether `fact` is not known because the host is not connected."""
        try:
            self.get(fact, host)
        except NotConnected:
            return True
        except NotKnown:
            pass
        return False


class CountedFacts(Facts):
    """The same facts; `missed` counts how often one was wanted that is not known."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts._knowledge, facts.here)
        self.missed = 0

    def get(self, fact: Fact[T_co], host: str | None = None) -> T_co:
        """Return the answer as `Facts` does. Raises `NotKnown`."""
        try:
            return super().get(fact, host)
        except NotKnown:
            self.missed += 1
            raise
