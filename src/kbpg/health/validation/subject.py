"""What is examined: the cluster as one pass saw it, the hosts to try things on, and a table of one's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kbpg import pooler
from kbpg.facts import CallFact, Fact, Login, NotKnown, ShellFact
from kbpg.health.asking import placed, wanted
from kbpg.health.diagnose import judge_with_logs
from kbpg.health.looking import look
from kbpg.health.snapshot import Snapshot
from kbpg.health.validation.aside import NoResult
from kbpg.health.validation.trial import Trial
from kbpg.hosts.port import Output, Reader
from kbpg.inventory import read_name
from kbpg.layout import HAPROXY

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.credentials import Found
    from kbpg.errors import HostError


@dataclass(frozen=True)
class PoolerConfigFact(CallFact[Mapping[str, str]]):
    """PgBouncer's settings as they are in force (`SHOW CONFIG`)."""

    login: Login

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"pooler config:{self.login.port}"

    def ask(self, reader: Reader) -> Mapping[str, str]:
        """Ask the console; raises `NotKnown`."""
        import psycopg

        from kbpg import sql

        try:
            with sql.connect(reader, self.login, pooled=True) as connection:
                rows = sql.ask(connection, "SHOW CONFIG")
        except (OSError, psycopg.Error) as error:
            raise NotKnown(f"port {self.login.port}: {sql.short(error)}") from None
        return {str(row[0]): str(row[1]) for row in rows}


@dataclass(frozen=True)
class HaproxyVersionFact(ShellFact[str]):
    """HAProxy's version, from the program itself: its statistics do not tell."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "haproxy version"

    @property
    def script(self) -> str:
        """Return the fragment."""
        return f"docker exec {HAPROXY} haproxy -v 2>/dev/null"

    def parse(self, output: Output) -> str:
        """Return the third word of `HAProxy version 3.0.11-1 2025/…`."""
        words = output.stdout.split()
        if not output.ok or len(words) < 3:
            raise NotKnown("HAProxy does not tell its version")
        return words[2]


@dataclass
class Subject:
    """What every check is given. `found` is the credentials file; `hosts` are the connected ones."""

    context: Context
    found: Found | None
    hosts: Mapping[str, Reader]
    snapshot: Snapshot
    trial: Trial = field(init=False)

    def __post_init__(self) -> None:
        self.trial = Trial(self.context, self.hosts)

    @cached_property
    def words(self) -> dict[str, Any]:
        """Return what titles of checks may name."""
        inventory = self.context.inventory
        return {
            "nodes": len(inventory.db),
            "proxies": len(inventory.proxies),
            "ports": inventory.ports,
            "cluster": inventory.cluster,
            "reads": read_name(inventory.cluster.database),
            "versions": inventory.versions,
            "app": self.context.credentials.app_user,
            "admin": self.context.credentials.superuser,
        }

    @property
    def pooler_config(self) -> PoolerConfigFact:
        """Return the question for PgBouncer's settings."""
        return pooler_config(self.context)

    @property
    def proxy(self) -> str:
        """Return the first proxy that is connected, for what is tried through one only. Raises `NoResult`."""
        for name in self.context.proxy_names:
            if name in self.hosts:
                return name
        raise NoResult("no proxy is connected")

    def known(self, fact: Fact[Any], host: str) -> tuple[Any, str]:
        """Return the answer of the pass and "", or None and why there is none."""
        lost = self.snapshot.unreachable.get(host)
        if lost:
            return None, lost.reason
        reason = self.snapshot.why_not(fact, host)
        return (None, reason) if reason else (self.snapshot.facts.get(fact, host), "")

    def login(self, port: int, *, admin: bool = False, database: str | None = None) -> Login:
        """Return how the application, or the superuser, reaches `port` of a host."""
        own = self.context.credentials
        name = database or self.context.inventory.cluster.database
        if admin:
            return self.context.login(own.superuser, "superuser_password", name, port)
        return self.context.login(own.app_user, "app_password", name, port)

    def without(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of the hosts that are not connected, with the reason."""
        lost = self.snapshot.unreachable
        away = [name for name in names if name not in self.hosts]
        return {name: lost[name].reason if name in lost else "not connected" for name in away}


def pooler_config(context: Context) -> PoolerConfigFact:
    """Return the question for PgBouncer's settings."""
    return PoolerConfigFact(pooler.console(context))


def gather(
    context: Context,
    found: Found | None,
    hosts: Mapping[str, Reader],
    unreachable: Mapping[str, HostError],
) -> Subject:
    """Look at every host once, as a diagnosis does, and return what there is to examine."""
    items = placed(context)
    questions = wanted(context, items)
    for name in context.proxy_names:
        questions[name] += [pooler_config(context), HaproxyVersionFact()]
    taken = time.time()
    snapshot = Snapshot(context, look(hosts, questions), items, unreachable, taken)
    return Subject(context, found, hosts, judge_with_logs(snapshot, hosts).snapshot or snapshot)
