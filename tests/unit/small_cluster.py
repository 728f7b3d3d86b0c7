"""Three db hosts and two proxies made of dictionaries, an inventory of them, and a resource to put on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kbpg.context import Context
from kbpg.credentials import Credentials
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, Knowledge, NotKnown, ShellFact
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.hosts.port import DEFAULT_TIMEOUT, Output, Question, Writer
from kbpg.inventory import parse
from kbpg.model import ABSENT, Change, Impact, Placed, Resource, Stage, Step, Want
from kbpg.secret import Secret

from .certificates import placeholders

DATABASES = ("db-1", "db-2", "db-3")
PROXIES = ("px-1", "px-2")
HOSTS = """
db:
  - {name: db-1, address: 192.0.2.1}
  - {name: db-2, address: 192.0.2.2}
  - {name: db-3, address: 192.0.2.3}
proxies:
  - {name: px-1, address: 192.0.2.11}
  - {name: px-2, address: 192.0.2.12}
"""
CREDENTIALS = Credentials(
    superuser="kb_admin",
    app_user="kb_app",
    superuser_password=Secret("one-superuser-password"),
    app_password=Secret("two-application-password"),
    replication_password=Secret("three-replication-password"),
    rewind_password=Secret("four-rewind-password"),
    pgbouncer_password=Secret("five-pgbouncer-password"),
    raft_password=Secret("six-raft-password"),
    rest_password=Secret("seven-rest-password"),
)


def context(settings: str = "") -> Context:
    inventory = parse(f"cluster: {{name: kb}}\n{settings}{HOSTS}", "i.yaml")
    return Context(inventory, CREDENTIALS, pki=placeholders(inventory))


@dataclass
class CountingHost(FakeHost):
    """A fake host that remembers the keys of every execution of questions."""

    reads: list[tuple[str, ...]] = field(default_factory=list)

    def read(
        self, questions: Iterable[Question], *, timeout: float = DEFAULT_TIMEOUT
    ) -> Mapping[str, Output]:
        asked = list(questions)
        self.reads.append(tuple(question.key for question in asked))
        return super().read(asked, timeout=timeout)

    def asked(self, key: str) -> int:
        """Return how often this question was asked."""
        return sum(keys.count(key) for keys in self.reads)


@dataclass(frozen=True)
class ValueFact(ShellFact[str | None]):
    """The content of a small file; None where there is none."""

    name: str
    live: bool = False

    @property
    def key(self) -> str:
        return f"value:{self.name}"

    @property
    def script(self) -> str:
        return self.name

    def parse(self, output: Output) -> str | None:
        if output.status == 45:
            raise NotKnown(output.stdout)
        return None if output.status == 44 else output.stdout


UNREADABLE = b"?"
"""A value that cannot be read."""


def answer_value(host: FakeHost, question: ValueFact) -> Output:
    found = host.files.get(path(question.name))
    if found is None:
        return Output(44, "")
    return (
        Output(45, "waits for something")
        if found.content == UNREADABLE
        else Output(0, found.content.decode())
    )


def path(name: str) -> str:
    return f"/opt/{name}"


def hosts(names: Sequence[str] = (*DATABASES, *PROXIES)) -> dict[str, CountingHost]:
    return {name: CountingHost(name=name, answers={ValueFact: answer_value}) for name in names}


def put(host: FakeHost, **values: str) -> None:
    """Let small files be there."""
    host.files |= {path(name): FakeFile(value.encode()) for name, value in values.items()}


Fix = Callable[[Site, Change], None]


class Value(Resource):
    """A small file with this content. `fix` replaces what its fix does; `places` counts where it was fixed."""

    def __init__(
        self,
        name: str,
        wanted: str = "new",
        *,
        fix: Fix | None = None,
        impact: Impact = Impact.NONE,
        waits: bool = False,
        live: bool = False,
        evidence: Sequence[str] = (),
    ) -> None:
        self.id, self.name, self.wanted, self.waits = f"value:{name}", name, wanted, waits
        self._fix, self._impact, self._evidence = fix, impact, list(evidence)
        self.fact = ValueFact(name, live)
        self.facts = (self.fact,)
        self.places: list[str] = []

    def want(self, facts: Facts) -> Want:
        return {"value": self.wanted}

    def have(self, facts: Facts) -> Want:
        found = facts.get(self.fact)
        return ABSENT if found is None else {"value": found}

    def impact(self, change: Change, facts: Facts) -> Impact:
        return self._impact

    def fix(self, site: Site, change: Change) -> None:
        self.places.append(site.place)
        if self._fix:
            self._fix(site, change)
        else:
            site.host.write(path(self.name), self.wanted.encode(), owner="0:0", mode=0o644)

    def evidence(self, site: Site) -> list[str]:
        return self._evidence


def stage(*items: tuple[str, Resource], title: str = "stage", requirement: bool = False) -> Stage:
    return Stage(title, tuple(Placed(place, resource) for place, resource in items), requirement=requirement)


def step(*stages: Stage, number: int = 1, name: str = "one") -> Step:
    return Step(number, name, "", lambda _: stages)


def run(on: Mapping[str, Writer], limit: Iterable[str] = (), settings: str = "") -> Run:
    limited = replace(context(settings), limit=frozenset(limit))
    return Run(limited, on, FakeHost("controller"))


def site(
    place: str,
    on: Mapping[str, Writer],
    answers: Mapping[str, Mapping[str, object]] | None = None,
    *,
    look: Callable[[Mapping[str, Sequence[Fact[object]]]], None] = lambda wanted: None,
    settings: str = "",
    controller: Writer | None = None,
    said: list[str] | None = None,
) -> Site:
    """Return what a fix gets at `place`, knowing `answers` (by host and key)."""
    facts = knowing(answers or {}, place)
    notes = said if said is not None else []
    return Site(place, on, controller or FakeHost("controller"), context(settings), facts, look, notes.append)


def looking(on: Mapping[str, Writer], given: Context, seen: Callable[[str], Mapping[str, object]]) -> Site:
    """Return the cluster's place on these hosts; each look is answered by `seen`, by host, whatever is asked."""
    knowledge = Knowledge()

    def look(wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        for name in wanted:
            knowledge.put(name, seen(name))

    facts = Facts(knowledge, "cluster")
    return Site("cluster", on, FakeHost("controller"), given, facts, look, lambda text: None)


def knowing(answers: Mapping[str, Mapping[str, object]], here: str) -> Facts:
    knowledge = Knowledge()
    for host, found in answers.items():
        knowledge.put(host, found)
    return Facts(knowledge, here)
