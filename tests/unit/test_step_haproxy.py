"""Step 03: the program reads a configuration before it is put in place, and is reloaded without losing anybody."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kbpg.context import Context
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import HostError, LockLost, NotConverged
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output, Reader
from kbpg.model import Placed, Stage, Status, Step
from kbpg.resources.loaded import Loaded
from kbpg.steps import s03_haproxy
from kbpg.steps.images import proxy_images

from .fake_docker import docker, image, with_docker
from .small_cluster import context, site

CONFIG, MARKER = "/opt/keybuzz/haproxy/haproxy.cfg", "/opt/keybuzz/kbpg/loaded/haproxy"


class World:
    """A proxy with both images; `refuses` is what HAProxy says of a configuration, `answers` of reloads."""

    def __init__(self, settings: str = "") -> None:
        self.host = with_docker(
            FakeHost("px-1"),
            "/opt/keybuzz/haproxy",
            "/opt/keybuzz/haproxy/tls",
            "/opt/keybuzz/kbpg",
            "/opt/keybuzz/kbpg/loaded",
        )
        self.host.programs["docker"] = self._docker
        self.set(context(settings))
        self.host.images = {spec.name: image(spec.inputs, spec.name) for spec in proxy_images(self.context)}
        self.refuses: str | None = None
        self.checked: list[bytes] = []
        self.answers: list[str] = []
        self.pgbouncer: list[str] = []

    def set(self, wanted: Context) -> None:
        self.context = wanted
        nodes = s03_haproxy.stages(wanted)[1]
        items = tuple(Placed("px-1", item.resource) for item in nodes.items if item.place == "px-1")
        self.step = Step(3, "haproxy", "", lambda _: [Stage("nodes", items)])

    def _docker(self, host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        if list(argv[-5:]) == ["haproxy", "-c", "-q", "-f", "/dev/stdin"]:
            self.checked.append(stdin)
            return Output(1, "", self.refuses) if self.refuses else Output(0, "")
        if argv[0] == "exec":
            return Output(0, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        return docker(host, argv, stdin)

    def apply(self) -> list[Status]:
        self.host.journal.clear()
        run = Run(self.context, {"px-1": self.host}, FakeHost("controller"))
        self.report = run.apply([self.step])
        return [outcome.status for outcome in self.report.outcomes]

    def ran(self) -> list[str]:
        return [" ".join(argv[:3]) for argv in self.host.journal]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A HAProxy that runs as it should, and a console of PgBouncer that keeps what it was told."""
    world = World()

    def reconnect(context: Context, host: Reader, through: str) -> None:
        world.pgbouncer.append(f"RECONNECT {through}")

    monkeypatch.setattr("kbpg.pooler.reconnect", reconnect)
    assert world.apply() == [*[Status.CHANGED] * 4, Status.OK, Status.OK]
    assert world.apply() == [Status.OK] * 6
    world.checked.clear()
    return world


def test_a_configuration_that_haproxy_refuses_never_reaches_the_disk(world: World) -> None:
    before = world.host.files[CONFIG].content
    world.set(context("haproxy: {max_connections: 777}\n"))
    world.refuses = "[ALERT] config : parsing [/dev/stdin:3] : unknown keyword"
    assert world.apply()[2] is Status.FAILED
    (failed,) = world.report.of(Status.FAILED)
    assert isinstance(failed.error, NotConverged)
    assert failed.error.message == "HAProxy would not load the new configuration"
    assert failed.error.detail[0] == world.refuses
    assert world.host.files[CONFIG].content == before
    assert MARKER in world.host.files


def test_a_changed_configuration_is_checked_written_and_reloaded(world: World) -> None:
    world.set(context("haproxy: {max_connections: 777}\n"))
    world.answers = ["Success=1\n"]
    assert world.apply() == [Status.OK, Status.OK, Status.CHANGED, Status.OK, Status.OK, Status.CHANGED]
    assert world.checked == [world.host.files[CONFIG].content]
    assert b"777" in world.checked[0]
    assert world.ran() == [
        "docker exec --interactive",
        f"rm -f {MARKER}",
        f"write {CONFIG} 999:999",
        "docker exec haproxy",
        f"write {MARKER} 0:0",
    ]
    assert world.pgbouncer == []  # there is none here


def test_more_connections_and_memory_for_them_are_a_reload_and_nothing_is_replaced(world: World) -> None:
    before = world.host.containers["haproxy"]["Id"]
    world.set(context("haproxy: {max_connections: 20000}\n"))
    world.answers = ["Success=1\n"]
    assert world.apply() == [*[Status.OK] * 2, Status.CHANGED, Status.OK, Status.CHANGED, Status.CHANGED]
    assert world.ran() == [
        "docker exec --interactive",  # beside the running one, although its limit is another
        f"rm -f {MARKER}",
        f"write {CONFIG} 999:999",
        "docker update --memory=2281701376",  # 2176 MB, the room that so many may need
        "docker exec haproxy",
        f"write {MARKER} 0:0",
    ]
    assert world.host.containers["haproxy"]["Id"] == before


def test_the_check_is_made_apart_where_the_running_haproxy_is_another(world: World) -> None:
    world.host.containers["haproxy"]["Config"]["Labels"]["kbpg.inputs"] = "0" * 64
    world.set(context("haproxy: {max_connections: 777}\n"))
    world.answers = ["Success=1\n"]
    assert Status.FAILED not in world.apply()
    check = world.host.journal[0]
    assert check[:2] == ["docker", "run"]
    assert "--rm" in check
    assert check[check.index("--network") + 1] == "none"


PGBOUNCER = {"Name": "/pgbouncer", "State": {"Status": "running"}}
STOPPED = {"Name": "/pgbouncer", "State": {"Status": "exited"}}


def reload(world: World, at: Site | None = None) -> None:
    """Reload as the resource would."""
    (loaded,) = [
        i.resource for i in world.step.stages(world.context)[0].items if isinstance(i.resource, Loaded)
    ]
    loaded._reload(at or there(world))


def there(world: World, said: list[str] | None = None, **others: dict[str, Any]) -> Site:
    """Return the site at px-1; `others` are the containers of other proxies, "_" for "-" in their names."""
    containers = {"px-1": dict(world.host.containers)}
    containers |= {name.replace("_", "-"): found for name, found in others.items()}
    hosts = {name: FakeHost(name) for name in containers} | {"px-1": world.host}
    known = {name: {"containers:haproxy,pgbouncer": found} for name, found in containers.items()}
    return site("px-1", hosts, known, said=said)


OLD_WAY = "4 primary 4 db-1.old 192.0.2.1 2 0 1 1 20\n"
NEW_WAY = "4 primary 1 db-1 192.0.2.1 {} 0 1 1 20\n"
READS = "5 replicas 1 db-1 192.0.2.1 2 0 1 1 20\n"


@pytest.mark.parametrize(
    ("known", "early"),
    [
        (READS + OLD_WAY + NEW_WAY.format(0), True),
        (READS + OLD_WAY + NEW_WAY.format(2), False),
        (READS + NEW_WAY.format(0), False),
        ("", False),
    ],
    ids=["up the old way alone", "up both ways", "one way, and down", "nothing is known"],
)
def test_a_reload_waits_until_a_node_is_up_by_the_check_that_stays(
    tmp_path: Path, known: str, early: bool
) -> None:
    """Run by a real shell and awk. Lines as in management.txt, "show servers state"."""
    (tmp_path / "servers.state").write_text(
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state\n" + known
    )
    script = s03_haproxy.TOO_EARLY + " echo reloaded"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("" if early else "reloaded\n", "")
    assert (tmp_path / "servers.state").exists() != early


def test_a_haproxy_that_is_not_ready_yet_is_asked_again(world: World) -> None:
    world.answers = ["", "socat: refused", "Success=1\n--\n"]
    reload(world)
    assert len(world.answers) == 1


def test_after_a_reload_pgbouncer_opens_new_connections(world: World) -> None:
    """The old worker keeps its connections, but checks no server any more."""
    world.answers = ["Success=1\n"]
    world.host.containers["pgbouncer"] = PGBOUNCER
    reload(world)
    assert world.pgbouncer == ["RECONNECT 127.0.0.1"]


def test_a_pgbouncer_that_is_stopped_is_left_for_step_04_to_start(world: World) -> None:
    world.answers = ["Success=1\n"]
    world.host.containers["pgbouncer"] = STOPPED
    reload(world, there(world, px_2={"pgbouncer": STOPPED}))
    assert world.pgbouncer == []


def refusing(monkeypatch: pytest.MonkeyPatch, error: HostError) -> None:
    """Let the PgBouncer of the host that the error names refuse."""

    def reconnect(context: Context, host: Reader, through: str) -> None:
        if host.name == error.host:
            raise error

    monkeypatch.setattr("kbpg.pooler.reconnect", reconnect)


def test_another_proxys_pgbouncer_that_does_not_reconnect_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.answers, said = ["Success=1\n"], list[str]()
    world.host.containers["pgbouncer"] = PGBOUNCER
    refusing(monkeypatch, HostError("px-2", "PgBouncer did not take RECONNECT: refused"))
    reload(world, there(world, said, px_2={"pgbouncer": PGBOUNCER}))
    (note,) = said
    assert note.startswith("px-2: PgBouncer did not take RECONNECT: refused; ")


@pytest.mark.parametrize(
    "error", [HostError("px-1", "PgBouncer did not take RECONNECT"), LockLost("px-2", "the lock is lost")]
)
def test_a_pgbouncer_that_must_reconnect_is_a_failure(
    world: World, monkeypatch: pytest.MonkeyPatch, error: HostError
) -> None:
    """Its own, or nothing would move its connections later; and a kbpg that lost a lock goes no further."""
    world.answers = ["Success=1\n"]
    world.host.containers["pgbouncer"] = PGBOUNCER
    refusing(monkeypatch, error)
    with pytest.raises(type(error)):
        reload(world, there(world, px_2={"pgbouncer": PGBOUNCER}))


def test_a_haproxy_that_keeps_the_old_worker_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s03_haproxy, "RELOAD_DEADLINE", 0.0)
    world.answers = ["Success=0\n--\n[ALERT] cannot bind socket\n"]
    world.host.containers["pgbouncer"] = PGBOUNCER
    with pytest.raises(HostError, match="px-1: HAProxy did not reload") as caught:
        reload(world)
    assert "[ALERT] cannot bind socket" in caught.value.detail
    assert "last lines of the container's log:" in caught.value.detail
    assert world.pgbouncer == []
