"""A cluster in memory behind the real command line: real parsing, engine and output, no hosts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.connecting import refuse
from kbpg.engine.redactor import Redactor
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts, NotKnown
from kbpg.hosts.local import LocalHost
from kbpg.hosts.settings import Silence
from kbpg.inventory import load
from kbpg.model import ABSENT, CLUSTER, Change, Impact, Placed, Resource, Stage, State, Step, Want
from kbpg.pki import Stored, write
from kbpg.pki.whole import pki_of
from kbpg.session import Session, read_context

INVENTORY = """\
cluster: {name: test}
db:
  - {name: db-1, address: 192.0.2.1}
  - {name: db-2, address: 192.0.2.2}
  - {name: db-3, address: 192.0.2.3}
proxies:
  - {name: proxy-1, address: 192.0.2.11}
  - {name: proxy-2, address: 192.0.2.12}
"""
PASSWORD = "wonderful-secret-0123456789"
CREDENTIALS = "".join(
    f"{name}='{value}'\n"
    for name, value in {
        "POSTGRES_SUPERUSER": "kb_admin",
        "POSTGRES_SUPERPASS": f"{PASSWORD}-a",
        "POSTGRES_APP_USER": "kb_app",
        "POSTGRES_APP_PASS": f"{PASSWORD}-b",
        "POSTGRES_REPLICATION_PASS": f"{PASSWORD}-c",
        "POSTGRES_REWIND_PASS": f"{PASSWORD}-d",
        "PGBOUNCER_AUTH_PASS": f"{PASSWORD}-e",
        "RAFT_PASS": f"{PASSWORD}-f",
        "PATRONI_REST_PASS": f"{PASSWORD}-g",
    }.items()
)
DATABASES = ("db-1", "db-2", "db-3")
PROXIES = ("proxy-1", "proxy-2")

Fix = Callable[[Site, Change], None]


@dataclass
class World:
    """What is, by place and resource; a missing state is absent, a NotKnown one cannot be read."""

    states: dict[tuple[str, str], State | NotKnown] = field(default_factory=dict)
    broken: dict[tuple[str, str], Fix] = field(default_factory=dict)
    unreachable: dict[str, HostError] = field(default_factory=dict)
    opened: list[dict[str, Any]] = field(default_factory=list)

    def fails(self, place: str, resource: str) -> None:
        """Let the fix of a resource fail, with a real command that fails."""
        script = "echo 'no space left on device' >&2; exit 3"
        self.broken[place, resource] = lambda site, change: _run(site, "sh", "-c", script)

    def does_nothing(self, place: str, resource: str) -> None:
        """Let the fix of a resource have no effect."""
        self.broken[place, resource] = lambda site, change: _run(site, "true")


def _run(site: Site, *argv: str) -> None:
    site.host.run(argv)


class Thing(Resource):
    """A resource of the world at one place."""

    def __init__(self, world: World, place: str, name: str, want: State, impact: Impact) -> None:
        self.id, self._world, self._place, self._want, self._impact = name, world, place, want, impact

    def want(self, facts: Facts) -> Want:
        return self._want

    def have(self, facts: Facts) -> Want:
        state = self._world.states.get((self._place, self.id), ABSENT)
        if isinstance(state, NotKnown):
            raise state
        return state

    def impact(self, change: Change, facts: Facts) -> Impact:
        return self._impact

    def diff(self, change: Change, facts: Facts) -> list[str]:
        lines = change.lines()
        if self.id.startswith("file:") and lines != ["create"]:
            return [f"-maxconn {change.have['max']}", f"+maxconn {change.want['max']}"]  # type: ignore[index]
        return lines

    def fix(self, site: Site, change: Change) -> None:
        broken = self._world.broken.get((self._place, self.id))
        if broken:
            broken(site, change)
        else:
            self._world.states[self._place, self.id] = self._want

    def evidence(self, site: Site) -> list[str]:
        if not self.id.startswith("container:"):
            return []
        return ["last lines of the container's log:", "  FATAL:  data directory has invalid permissions"]


def _stages(world: World) -> dict[str, Callable[[Any], list[Stage]]]:
    def placed(names: tuple[str, ...], what: str, want: State, impact: Impact = Impact.NONE) -> list[Placed]:
        return [Placed(name, Thing(world, name, what, want, impact)) for name in names]

    hosts = DATABASES + PROXIES
    return {
        "credentials": lambda _: [
            Stage("credentials", tuple(placed(("controller",), "credentials", {"mode": "0600"})))
        ],
        "prepare": lambda _: [
            Stage("requirements", tuple(placed(hosts, "require:disk", {"fit": True})), requirement=True),
            Stage("directories", tuple(placed(hosts, "directory:/opt/keybuzz", {"mode": "0700"}))),
        ],
        "patroni": lambda _: [
            Stage(
                "containers",
                tuple(placed(DATABASES, "container:patroni", {"state": "running"}, Impact.RESTART)),
            ),
            Stage("cluster", tuple(placed((CLUSTER,), "probe:1 leader, 2 streaming", {"whole": True}))),
        ],
        "haproxy": lambda _: [
            Stage(
                "configuration",
                tuple(placed(PROXIES, "file:/opt/keybuzz/haproxy/haproxy.cfg", {"max": 6000}, Impact.RELOAD)),
            )
        ],
        "diagnostics": lambda _: [
            Stage("checks", tuple(placed((CLUSTER,), "check:leader", {"leader": True})))
        ],
    }


NUMBERS = {"credentials": 0, "prepare": 1, "patroni": 2, "haproxy": 3, "diagnostics": 6}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """An empty world, steps that build it, and an inventory in the current directory."""
    world = World()
    steps = tuple(
        Step(NUMBERS[name], name, f"summary of {name}", stages) for name, stages in _stages(world).items()
    )
    for place in DATABASES + PROXIES:
        world.states[place, "require:disk"] = {"fit": True}
    monkeypatch.setattr("kbpg.steps.ALL", steps)
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(INVENTORY)
    Path("credentials").mkdir()
    Path("credentials/postgres.env").write_text(CREDENTIALS)
    Path("credentials/postgres.env").chmod(0o600)
    inventory = load(Path("inventory.yaml"))
    write(pki_of(inventory), Stored(inventory.pki_path))

    @contextlib.contextmanager
    def opened(
        options: Any,
        *,
        watcher: Any = None,
        tell: Any = None,
        meanwhile: Any = None,
        besides: Any = None,
        **how: Any,
    ) -> Iterator[Session]:
        world.opened.append(how)
        context, found = read_context(options, credentials_exist=how.get("credentials_exist", False))
        options.mask = Redactor.of(context).mask
        if meanwhile:
            meanwhile(context)
        hosts = {name: LocalHost(name=name) for name in DATABASES + PROXIES if name not in world.unreachable}
        controller = LocalHost()
        if besides:
            refuse(world.unreachable, options.limit, lambda: besides(context, hosts, controller))
        yield Session(context, found, hosts, controller, Silence(), world.unreachable)

    monkeypatch.setattr("kbpg.cli.opening.open_session", opened)
    return world


@pytest.fixture
def whole(world: World) -> World:
    """A world in which nothing differs."""
    assert run(["apply-all", "--json"]) == 0
    world.opened.clear()
    return world
