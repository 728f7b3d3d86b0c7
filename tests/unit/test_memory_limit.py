"""Limits of memory: seen in what Docker shows, changed in a running container, and never by replacing it."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kbpg.engine.run import Run
from kbpg.errors import KbpgError
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.model import Impact, Status
from kbpg.resources.configuration import Configuration
from kbpg.resources.container import Container, ContainerSpec
from kbpg.resources.docker import ContainersFact
from kbpg.resources.memory_limit import MemoryCgroupFact, MemoryLimit, limit_of

from .fake_docker import docker, image, with_docker
from .small_cluster import context, stage, step

MB, GB = 1 << 20, 1 << 30
IMAGE, INPUTS = "app:latest", "a1b2c3d4e5f6" * 5 + "0000"
PLAIN = ContainerSpec("app", IMAGE, INPUTS, ("app",), (), 30, user="999:999")
SPEC = dataclasses.replace(PLAIN, memory=GB)
CONTAINERS = ContainersFact(("app",))
STATS = ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", "app"]


def update(memory: int, swap: int | None = None) -> list[str]:
    return [
        "docker",
        "update",
        f"--memory={memory}",
        f"--memory-swap={memory if swap is None else swap}",
        "app",
    ]


class World:
    """A host, a container on it that was started by `started`, and how much memory Docker says that it uses."""

    def __init__(self, started: ContainerSpec) -> None:
        self.host = with_docker(FakeHost("px-1"), "/opt/kbpg")
        self.host.images = {IMAGE: image(INPUTS, IMAGE)}
        self.host.programs["docker"] = self._docker
        self.used = "24.6MiB / 1GiB"
        self.falls_over = False
        self.apply(started)

    def _docker(self, host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        if argv[0] == "start" and self.falls_over:
            return Output(0, "app\n")
        return Output(0, f"{self.used}\n") if argv[0] == "stats" else docker(host, argv, stdin)

    def _run(self, spec: ContainerSpec) -> tuple[Run, list[Any]]:
        self.host.journal.clear()
        container = Container(spec, CONTAINERS, Configuration("app", "/opt/kbpg/app", "1"))
        resources = [container, MemoryLimit(spec, CONTAINERS)]
        run = Run(context(), {"px-1": self.host}, FakeHost("controller"))
        return run, [step(stage(*(("px-1", each) for each in resources)))]

    def apply(self, spec: ContainerSpec) -> list[Status]:
        """Make it so; return how container and limit ended, and leave what ran in the journal."""
        run, steps = self._run(spec)
        self.report = run.apply(steps)
        return [outcome.status for outcome in self.report.outcomes]

    def plan(self, spec: ContainerSpec) -> Mapping[str, tuple[Impact, tuple[str, ...]]]:
        """Return what differs, or is worth a remark."""
        run, steps = self._run(spec)
        return {o.resource: (o.impact, o.lines) for o in run.plan(steps).outcomes if o.lines}

    @property
    def found(self) -> dict[str, Any]:
        container: dict[str, Any] = self.host.containers["app"]
        return container

    @property
    def shown(self) -> tuple[int, int]:
        return self.found["HostConfig"]["Memory"], self.found["HostConfig"]["MemorySwap"]

    def error(self) -> KbpgError:
        (failed,) = self.report.of(Status.FAILED)
        assert failed.error is not None
        return failed.error


@pytest.fixture
def world() -> World:
    """A container that was started with a limit of 1 GB."""
    return World(SPEC)


def test_a_container_is_started_with_its_limit_and_without_swap(world: World) -> None:
    assert world.shown == (GB, GB)
    assert world.apply(SPEC) == [Status.OK] * 2
    assert world.host.journal == []
    assert PLAIN.argv() == [word for word in SPEC.argv() if not word.startswith("--memory")]


def test_a_container_of_before_gets_its_limit_while_it_runs() -> None:
    world = World(PLAIN)
    before = world.found["Id"]
    assert world.plan(SPEC) == {"memory:app": (Impact.NONE, ("limit: none → 1GB",))}
    assert world.apply(SPEC) == [Status.OK, Status.CHANGED]
    assert world.host.journal == [STATS, update(GB)]
    assert (world.shown, world.found["Id"]) == ((GB, GB), before)
    assert world.apply(SPEC) == [Status.OK] * 2


@pytest.mark.parametrize(
    ("memory", "asked"), [(2 * GB, []), (512 * MB, [STATS])], ids=["more", "less, for which it has to fit"]
)
def test_a_changed_limit_replaces_nothing(memory: int, asked: list[list[str]], world: World) -> None:
    """Memory and swap change at once: Docker refuses either alone that does not fit the other."""
    before = world.found["Id"]
    assert world.apply(dataclasses.replace(SPEC, memory=memory)) == [Status.OK, Status.CHANGED]
    assert world.host.journal == [*asked, update(memory)]
    assert (world.shown, world.found["Id"]) == ((memory, memory), before)


def test_a_limit_is_taken_away_while_it_runs(world: World) -> None:
    """Docker has no word for that: a limit that no host reaches is shown as none."""
    assert world.plan(PLAIN) == {"memory:app": (Impact.NONE, ("limit: 1GB → none",))}
    assert world.apply(PLAIN) == [Status.OK, Status.CHANGED]
    assert world.host.journal == [update(1 << 60, 1 << 61)]
    assert world.apply(PLAIN) == [Status.OK] * 2
    assert world.apply(SPEC) == [Status.OK, Status.CHANGED]
    assert world.shown == (GB, GB)


@pytest.mark.parametrize(
    ("memory", "swap", "lines"),
    [
        (2 * GB, 2 * GB, "limit: 2GB → 1GB"),
        (GB, 3 * GB, "limit: 1GB, with swap 3GB → 1GB"),
        (0, 0, "limit: none → 1GB"),
    ],
)
def test_a_limit_that_was_changed_by_hand_is_seen_and_mended(
    memory: int, swap: int, lines: str, world: World
) -> None:
    world.found["HostConfig"].update(Memory=memory, MemorySwap=swap)
    assert world.plan(SPEC) == {"memory:app": (Impact.NONE, (lines,))}
    assert world.apply(SPEC) == [Status.OK, Status.CHANGED]
    assert world.shown == (GB, GB)


def test_a_kernel_that_does_not_count_swap_makes_no_difference(world: World) -> None:
    world.found["HostConfig"]["MemorySwap"] = -1
    assert world.plan(SPEC) == {}


@pytest.mark.parametrize("memory", [0, 2 * GB])
def test_a_kernel_that_keeps_no_limits_makes_a_remark_and_no_difference(memory: int, world: World) -> None:
    """Docker drops the limit with a warning, and would again."""
    world.host.answers[MemoryCgroupFact] = lambda host, question: Output(0, "")
    world.found["HostConfig"].update(Memory=memory, MemorySwap=memory)
    remark = "the kernel of this host keeps no limits of memory (cgroup)"
    assert world.plan(SPEC) == {"memory:app": (Impact.NONE, (remark,))}
    assert world.apply(SPEC) == [Status.OK] * 2
    assert world.host.journal == []
    assert world.plan(PLAIN) == {}


@pytest.mark.parametrize("used", ["1.001GiB / 23.5GiB", "2TiB / 4TiB", "1025MiB / 2GiB"])
def test_a_limit_below_what_is_used_is_refused_before_the_kernel_ends_the_program(used: str) -> None:
    world = World(PLAIN)
    world.used = used
    assert world.apply(SPEC) == [Status.OK, Status.FAILED]
    assert world.host.journal == [STATS]
    assert "of memory, more than the limit it would get, 1GB" in world.error().message
    assert "app.memory_limit" in (world.error().hint or "")
    assert world.shown == (0, 0)


@pytest.mark.parametrize("used", ["1GiB / 23.5GiB", "1024MiB / 2GiB", "0B / 0B", "712KiB / 2GiB"])
def test_a_limit_that_is_enough_is_not_refused(used: str) -> None:
    world = World(PLAIN)
    world.used = used
    assert world.apply(SPEC) == [Status.OK, Status.CHANGED]


@pytest.mark.parametrize("said", ["-- / --", "", "much"])
def test_without_a_word_of_what_is_used_nothing_is_changed(said: str) -> None:
    world = World(PLAIN)
    world.used = said
    assert world.apply(SPEC) == [Status.OK, Status.FAILED]
    assert world.error().message == f"px-1: Docker does not say how much memory app uses: {said}"
    assert world.shown == (0, 0)


def test_a_container_that_does_not_stay_up_uses_nothing() -> None:
    """And it may be the limit that it does not stay up with."""
    world = World(PLAIN)
    world.found["State"]["Status"] = "exited"
    world.falls_over = True
    assert world.apply(SPEC) == [Status.FAILED, Status.CHANGED]
    assert [argv[1] for argv in world.host.journal if argv[0] == "docker"] == ["start", "update", "logs"]
    assert world.shown == (GB, GB)


@pytest.mark.parametrize("label", ["0" * 12, None], ids=["an older spec", "not kbpg's"])
def test_of_a_container_that_will_be_replaced_nothing_is_said(label: str | None) -> None:
    world = World(PLAIN)
    world.found["Config"]["Labels"].update({"kbpg.spec": label})
    assert list(world.plan(SPEC)) == ["container:app"]
    assert world.apply(SPEC) == [Status.CHANGED, Status.OK]
    assert world.shown == (GB, GB)


def test_a_container_that_was_just_replaced_is_not_changed_again() -> None:
    world = World(PLAIN)
    world.found["Config"]["User"] = "0:0"  # by hand, so that the label is still that of the spec
    assert list(world.plan(SPEC)) == ["container:app", "memory:app"]
    assert world.apply(SPEC) == [Status.CHANGED] * 2
    assert [argv[1] for argv in world.host.journal] == ["stop", "rm", "run", "/opt/kbpg/app"]
    assert world.shown == (GB, GB)


@pytest.mark.parametrize(
    ("memory", "swap", "text"),
    [
        (0, 0, "none"),
        (GB, GB, "1GB"),
        (700 * MB, -1, "700MB"),
        (GB, 2 * GB, "1GB, with swap 2GB"),
        (1 << 60, 1 << 61, "none"),
        (9223372036854771712, 9223372036854771712, "none"),  # how cgroups v1 spell it
    ],
)
def test_limits_as_text(memory: int, swap: int, text: str) -> None:
    assert limit_of(memory, swap) == text


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ({"cgroup.controllers": "cpuset cpu io memory hugetlb pids\n"}, True),
        ({"cgroup.controllers": "memory\n"}, True),
        ({"cgroup.controllers": "cpuset cpu io pids\n"}, False),
        ({"cgroup.controllers": "\n"}, False),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, True),
        ({"cpu/cpu.shares": "1024\n"}, False),
        ({}, False),
        (None, False),
    ],
    ids=["v2", "v2 alone", "v2 without", "v2 with nothing", "v1", "v1 without", "empty", "no cgroups"],
)
def test_whether_the_kernel_keeps_limits_by_a_real_shell(
    files: dict[str, str] | None, kept: bool, tmp_path: Path
) -> None:
    groups = tmp_path / "cgroup"
    for name, content in (files or {}).items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(content)
    if files == {}:
        groups.mkdir()
    script = MemoryCgroupFact().script.replace("/sys/fs/cgroup", str(groups))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert MemoryCgroupFact().parse(Output(done.returncode, done.stdout, done.stderr)) is kept
