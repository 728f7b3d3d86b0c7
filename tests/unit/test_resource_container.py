"""Containers and what they have loaded: every option's drift is seen, and mended in the right order."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.fake import FakeFile, FakeHost
from kbpg.hosts.port import Output
from kbpg.model import Impact, Status
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines, state_of
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.file import File, FileFact
from kbpg.resources.loaded import Loaded, LoadedAhead
from kbpg.resources.privilege import Health

from .fake_docker import image, with_docker
from .shell_answers import answers_of
from .small_cluster import context, knowing, site, stage, step

IMAGE, INPUTS = "app:latest", "a1b2c3d4e5f6" * 5 + "0000"
SPEC = ContainerSpec(
    name="app",
    image=IMAGE,
    inputs=INPUTS,
    command=("app", "--config", "/etc/app"),
    mounts=("/opt/app:/etc/app:ro", "/opt/data:/data:rw"),
    stop_timeout=30,
    shm_size=1 << 30,
    tmpfs=("/run/app:size=1m",),
    restart_for="192.0.2.1:7000",
    user="999:999",
    read_only=True,
    cap_drop=("ALL",),
    pids_limit=256,
    health=Health("app --ping"),
)
CONTAINERS = ContainersFact(("app", "other"))
PATH, MARKER = "/opt/app/app.conf", "/opt/kbpg/app"
CONTENT = b"new\n"
CONFIG = Configuration("app", MARKER, combined([CONTENT]))
STOP, REMOVE = ["docker", "stop", "--time", "30", "app"], ["docker", "rm", "app"]
WRITE_MARKER = ["write", MARKER, "0:0", "0600"]


def host() -> FakeHost:
    """Return a host with the image and no container."""
    made = with_docker(FakeHost("px-1"), "/opt/app", "/opt/kbpg")
    made.images = {IMAGE: image(INPUTS, IMAGE)}
    return made


class World:
    """A host, the resources of one program on it, and how often it was reloaded."""

    def __init__(self, spec: ContainerSpec = SPEC) -> None:
        self.host = host()
        self.reloads: list[str] = []
        self.refuses: HostError | None = None
        self.file = File(PATH, CONTENT, marker=MARKER)
        self.container = Container(spec, CONTAINERS, CONFIG)
        self.loaded = Loaded(CONFIG, CONTAINERS, self._reload, [self.file])

    def _reload(self, site: Site) -> None:
        self.reloads.append(site.host.name)
        if self.refuses:
            raise self.refuses

    def apply(self) -> list[Status]:
        """Make it so; return how file, container and loaded ended, and leave what ran in the journal."""
        self.host.journal.clear()
        self.reloads.clear()
        run = Run(context(), {"px-1": self.host}, FakeHost("controller"))
        self.report = run.apply(
            [step(stage(*(("px-1", r) for r in (self.file, self.container, self.loaded))))]
        )
        return [outcome.status for outcome in self.report.outcomes]

    def plan(self) -> Mapping[str, tuple[Impact, tuple[str, ...]]]:
        run = Run(context(), {"px-1": self.host}, FakeHost("controller"))
        outcomes = run.plan([step(stage(("px-1", self.container), ("px-1", self.loaded)))]).outcomes
        return {o.resource: (o.impact, o.lines) for o in outcomes}

    @property
    def inspected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.host.containers["app"]
        return found


@pytest.fixture
def world() -> World:
    """A program that runs as it should."""
    world = World()
    assert Status.FAILED not in world.apply()
    assert world.apply() == [Status.OK] * 3
    return world


# --- containers --------------------------------------------------------------------------------------


def test_a_container_that_was_just_started_is_what_was_wanted() -> None:
    world = World()
    assert world.apply() == [Status.CHANGED, Status.CHANGED, Status.OK]
    assert world.host.journal == [
        ["rm", "-f", MARKER],
        ["write", PATH, "0:0", "0644"],
        SPEC.argv(),
        WRITE_MARKER,
    ]
    assert state_of(world.inspected) == SPEC.state()
    assert world.reloads == []
    assert world.apply() == [Status.OK] * 3
    assert world.host.journal == []


DRIFTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "image": lambda c: c["Config"]["Labels"].update({"kbpg.inputs": "0" * 64}),
    "spec": lambda c: c["Config"]["Labels"].pop("kbpg.spec"),
    "command": lambda c: c["Config"].update(Cmd=["sleep", "infinity"]),
    "restart": lambda c: c["HostConfig"]["RestartPolicy"].update(Name="no"),
    "network": lambda c: c["HostConfig"].update(NetworkMode="bridge"),
    "mounts": lambda c: c["HostConfig"].update(Binds=["/opt/app:/etc/app:rw", "/opt/data:/data:rw"]),
    "tmpfs": lambda c: c["HostConfig"].update(Tmpfs=None),
    "ulimits": lambda c: c["HostConfig"].update(Ulimits=[{"Name": "nofile", "Soft": 9, "Hard": 1024}]),
    "shm_size": lambda c: c["HostConfig"].update(ShmSize=64 << 20),
    "stop_timeout": lambda c: c["Config"].update(StopTimeout=None),
    "privileged": lambda c: c["HostConfig"].update(Privileged=True),
    "user": lambda c: c["Config"].update(User="0:0"),
    "read_only": lambda c: c["HostConfig"].update(ReadonlyRootfs=False),
    "cap_drop": lambda c: c["HostConfig"].update(CapDrop=None),
    "cap_add": lambda c: c["HostConfig"].update(CapAdd=["SYS_ADMIN"]),
    "security_opt": lambda c: c["HostConfig"].update(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "pids_limit": lambda c: c["HostConfig"].update(PidsLimit=100_000),
    "health": lambda c: c["Config"].pop("Healthcheck"),
}


def test_every_option_that_is_looked_at_is_tried_here() -> None:
    assert {"status", *DRIFTS} == set(SPEC.state())


@pytest.mark.parametrize("option", DRIFTS)
def test_each_options_drift_is_seen_and_recreates_the_container(option: str, world: World) -> None:
    before = world.inspected["Id"]
    DRIFTS[option](world.inspected)
    impact, lines = world.plan()["container:app"]
    assert impact is Impact.RESTART
    assert [line.split(":")[0] for line in lines] == [option]
    assert world.apply() == [Status.OK, Status.CHANGED, Status.OK]
    assert world.host.journal == [STOP, REMOVE, SPEC.argv(), WRITE_MARKER]
    assert world.inspected["Id"] != before
    assert world.reloads == []
    assert world.apply() == [Status.OK] * 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "app:other"),
        ("command", ("app",)),
        ("mounts", ("/opt/app:/etc/app:ro",)),
        ("stop_timeout", 31),
        ("shm_size", 1 << 20),
        ("tmpfs", ()),
        ("restart_for", "192.0.2.2:7000"),
        ("user", "998:998"),
        ("read_only", False),
        ("cap_drop", ()),
        ("pids_limit", 512),
        ("health", Health("app --ping", interval=10)),
        ("health", Health("app --pong")),
        ("health", None),
        ("memory", 1 << 30),
    ],
)
def test_each_field_of_a_spec_is_in_its_digest_or_its_state(name: str, value: Any) -> None:
    other = dataclasses.replace(SPEC, **{name: value})
    if name in ("image", "memory"):
        # The name of an image is no matter, what is in it is; memory is changed in place (test_memory_limit.py)
        assert other.digest() == SPEC.digest()
        assert other.state() == SPEC.state()
    else:
        assert other.digest() != SPEC.digest()
        assert other.state() != SPEC.state()


PLAIN = ContainerSpec("app", IMAGE, INPUTS, ("app",), (), 30)


def test_a_spec_without_the_later_options_has_the_command_line_it_always_had() -> None:
    """So its digest is the one it had: a kbpg that knows more options restarts nothing that does not use them."""
    assert PLAIN._options() == [
        *("--restart", "unless-stopped", "--network", "host", "--security-opt", "no-new-privileges"),
        *("--stop-timeout", "30", "--shm-size", "67108864", "--log-driver=json-file"),
        *("--log-opt=max-size=20m", "--log-opt=max-file=5"),
    ]
    assert PLAIN.digest() == "25975c7d0dce"


def test_a_container_of_an_older_docker_or_a_spec_without_limits_shows_none() -> None:
    shown = {
        "State": {"Status": "running"},
        "Config": {},
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            "NetworkMode": "host",
            "ShmSize": 1,
            "Privileged": False,
        },
    }
    found = state_of(shown)
    names = ("user", "read_only", "cap_drop", "cap_add", "security_opt", "pids_limit", "health")
    assert [found[name] for name in names] == ["", False, "", "", "", 0, "not looked at"]


@pytest.mark.parametrize("shown", [None, 0, -1])
def test_a_limit_of_processes_that_the_kernel_cannot_keep_restarts_nothing(
    shown: int | None, world: World
) -> None:
    """Docker drops it with a warning, and would again."""
    world.inspected["HostConfig"]["PidsLimit"] = shown
    assert world.apply() == [Status.OK] * 3
    assert world.host.journal == []


def test_a_container_that_somebody_started_without_a_limit_of_processes_differs(world: World) -> None:
    world.inspected["HostConfig"]["PidsLimit"] = None
    world.inspected["Config"]["Labels"]["kbpg.spec"] = "0" * 12
    assert [line.split(":")[0] for line in world.plan()["container:app"][1]] == ["spec", "pids_limit"]


@pytest.mark.parametrize("health", ["starting", "unhealthy", "healthy"])
def test_what_docker_says_of_the_health_is_no_difference(health: str, world: World) -> None:
    world.inspected["State"]["Health"] = {"Status": health, "FailingStreak": 3}
    assert world.apply() == [Status.OK] * 3


@pytest.mark.parametrize(
    "options",
    [
        ["no-new-privileges:true"],
        ["no-new-privileges=true"],
        ["label=type:container_t", "no-new-privileges"],
        ["no-new-privileges", "label:disable"],
    ],
)
def test_other_spellings_of_the_security_options_and_selinux_labels_are_no_difference(
    options: list[str], world: World
) -> None:
    world.inspected["HostConfig"]["SecurityOpt"] = options
    assert world.apply() == [Status.OK] * 3


def test_the_image_is_compared_by_its_inputs_alone() -> None:
    other = dataclasses.replace(SPEC, inputs="f" * 64)
    assert other.digest() == SPEC.digest()
    assert {name for name in SPEC.state() if SPEC.state()[name] != other.state()[name]} == {"image"}


@pytest.mark.parametrize(
    ("status", "verb", "marked"),
    [
        ("exited", "start", True),
        ("created", "start", True),
        ("dead", "start", True),
        ("restarting", "restart", True),
        ("paused", "unpause", False),
    ],
)
def test_a_container_that_does_not_run_is_started_as_it_is(
    status: str, verb: str, marked: bool, world: World
) -> None:
    before = world.inspected["Id"]
    world.inspected["State"]["Status"] = status
    impact, lines = world.plan()["container:app"]
    assert (impact, lines) == (Impact.NONE, (f"status: {status} → running",))
    assert world.apply() == [Status.OK, Status.CHANGED, Status.OK]
    assert world.host.journal == [["docker", verb, "app"], *([WRITE_MARKER] if marked else [])]
    assert world.inspected["Id"] == before


def test_a_stopped_container_with_other_options_is_replaced_without_a_restart_for_anybody(
    world: World,
) -> None:
    world.inspected["State"]["Status"] = "exited"
    DRIFTS["user"](world.inspected)
    assert world.plan()["container:app"][0] is Impact.NONE
    world.apply()
    assert world.host.journal == [STOP, REMOVE, SPEC.argv(), WRITE_MARKER]


def test_a_container_that_does_not_stay_up_ends_with_its_log(world: World) -> None:
    world.inspected["State"]["Status"] = "exited"
    programs = dict(world.host.programs)

    def falls_over(host: FakeHost, argv: Any, stdin: bytes) -> Output:
        return Output(0, "app") if argv[0] == "start" else programs["docker"](host, argv, stdin)

    world.host.programs["docker"] = falls_over
    assert Status.FAILED in world.apply()
    (failed,) = world.report.of(Status.FAILED)
    assert failed.error is not None
    assert failed.error.message == "did not converge: status: exited → running"
    assert failed.error.detail == (
        "ran `docker start app`, exit 0",
        f"ran write {MARKER}",
        "last lines of the container's log:",
        "  one line",
        "  FATAL:  another",
    )


def test_log_lines_of_a_host_that_is_not_connected_are_none() -> None:
    assert log_lines(site("px-1", {}), "app", "px-2") == []


# --- loaded ------------------------------------------------------------------------------------------


def test_a_file_changed_by_hand_is_written_back_and_loaded_again(world: World) -> None:
    world.host.files[PATH].content = b"by hand\n"
    assert world.apply() == [Status.CHANGED, Status.OK, Status.CHANGED]
    assert world.host.journal == [["rm", "-f", MARKER], ["write", PATH, "0:0", "0644"], WRITE_MARKER]
    assert world.reloads == ["px-1"]


def test_a_run_that_died_before_the_reload_is_finished_by_the_next(world: World) -> None:
    world.host.files[PATH].content = b"old\n"
    world.refuses = HostError("px-1", "does not answer")
    assert world.apply() == [Status.CHANGED, Status.OK, Status.FAILED]
    assert MARKER not in world.host.files
    world.refuses = None
    assert world.plan()["loaded:app"] == (Impact.RELOAD, ("the configuration on disk is not loaded",))
    assert world.apply() == [Status.OK, Status.OK, Status.CHANGED]
    assert world.reloads == ["px-1"]
    assert world.apply() == [Status.OK] * 3


@pytest.mark.parametrize(
    "marker",
    [b"", b"config=other container=x\n", b"nonsense", None],
    ids=["empty", "other", "nonsense", "none"],
)
def test_a_marker_that_says_something_else_means_a_reload(marker: bytes | None, world: World) -> None:
    world.host.files.pop(MARKER)
    if marker is not None:
        world.host.files[MARKER] = FakeFile(marker)
    assert world.apply() == [Status.OK, Status.OK, Status.CHANGED]
    assert world.reloads == ["px-1"]


def test_a_container_that_somebody_recreated_has_not_loaded_what_kbpg_knows(world: World) -> None:
    world.inspected["Id"] = "f" * 64
    assert world.apply() == [Status.OK, Status.OK, Status.CHANGED]
    assert world.reloads == ["px-1"]


@pytest.mark.parametrize("drift", ["user", "status"])
def test_a_container_that_is_started_anyway_is_not_reloaded_on_top(drift: str, world: World) -> None:
    """A run died between "file written" and "reloaded", and the container is down or has to be recreated, too."""
    world.host.files.pop(MARKER)
    if drift == "status":
        world.inspected["State"]["Status"] = "exited"
    else:
        DRIFTS[drift](world.inspected)
    world.refuses = HostError("px-1", "does not listen yet")
    assert Status.FAILED not in world.apply()
    assert world.reloads == []
    assert world.apply() == [Status.OK] * 3


# --- what docker says --------------------------------------------------------------------------------


def asked(fact: ShellFact[Any], directory: Path, script: str | None) -> Any:
    """Ask with a `docker` that is this script, or none."""
    directory.mkdir()
    if script is not None:
        program = directory / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    for name in ("sh", "printf"):
        found = next(p for p in ("/bin", "/usr/bin") if Path(p, name).exists())
        (directory / name).symlink_to(Path(found, name))
    done = subprocess.run(
        ["/bin/sh", "-c", fact.script],
        capture_output=True,
        text=True,
        env={"PATH": str(directory)},
        timeout=30,
    )
    return fact.parse(Output(done.returncode, done.stdout, done.stderr))


APP = {"Name": "/app", "Id": "abc", "State": {}}
FOUND = json.dumps([APP])


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        (None, {}),  # no Docker
        ("[ $1 = version ] || { echo []; exit 1; }", {}),  # nothing of that name
        (f"echo '{FOUND}'", {"app": APP}),
        (f"echo '{FOUND}'; exit 1", {"app": APP}),  # some of the names are missing
        ("exit 1", "Docker does not answer"),
    ],
    ids=["no docker", "none", "one", "one of two", "no daemon"],
)
def test_containers_as_a_real_shell_finds_them(script: str | None, answer: object, tmp_path: Path) -> None:
    try:
        found = asked(CONTAINERS, tmp_path / "bin", script)
    except NotKnown as silence:
        found = silence.reason
    assert found == answer


DOCKER = """
[ $1 = inspect ] || exit 9
shift
echo '[{"Name": "/app", "State": {}}, {"RepoTags": ["app:latest"], "Config": {"Labels": {"kbpg.inputs": "abc"}}},'
echo ' {"Name": "other", "Driver": "bridge"}, {"RepoTags": null, "Config": {}}]'
"""
"""Prints what it has, of every sort."""
FOUND_APART = """
case "$1" in
    container) echo '[{"Name": "/app", "State": {}}]' ;;
    image) echo '[]'; exit 1 ;;
    version) ;;
    *) exit 1 ;;
esac
"""
"""Fails when asked for all at once, and not for the containers alone."""


@pytest.mark.parametrize(
    ("docker", "label"),
    [(DOCKER, {"app:latest": "abc"}), (FOUND_APART, {}), ("exit 1", None)],
    ids=["all", "one is missing", "no daemon"],
)
def test_containers_and_images_are_asked_in_one_call(
    docker: str, label: dict[str, str] | None, tmp_path: Path
) -> None:
    images = ImagesFact(("app:latest", "b:1"))
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{docker}")
    program.chmod(0o755)
    answers = answers_of([CONTAINERS, images], programs=tmp_path)
    if label is None:
        assert {answer.status for answer in answers.values()} == {46}
        return
    assert CONTAINERS.parse(answers[CONTAINERS.key]) == {"app": {"Name": "/app", "State": {}}}
    assert images.parse(answers[images.key]) == label
    others = ContainersFact(("elsewhere",))
    assert others.parse(answers[CONTAINERS.key]) == {}


def test_the_names_are_quoted(tmp_path: Path) -> None:
    fact = ContainersFact(("it's; touch hacked",))
    log = tmp_path / "arguments"
    asked(fact, tmp_path / "bin", f'for word; do printf "%s\\n" "$word"; done >> {log}')
    assert log.read_text().splitlines()[:3] == ["container", "inspect", "it's; touch hacked"]
    assert not Path("hacked").exists()
    assert os.sep in str(log)


@pytest.mark.parametrize("labels", [None, {}, {"kbpg.inputs": "abc"}])
def test_images_by_their_label(labels: dict[str, str] | None) -> None:
    fact = ImagesFact(("app:latest", "b:1"))
    shown = [{"RepoTags": ["app:latest", "elsewhere:2"], "Config": {"Labels": labels}}]
    wanted = (labels or {}).get("kbpg.inputs", "")
    assert fact.parse(Output(0, json.dumps(shown))) == {"app:latest": wanted}


# --- ahead of a replacement --------------------------------------------------------------------------

ANSWERS = ContainersFact(("other",))
"""Any fact will do for whether the program answers."""


def ahead(world: World, spec: ContainerSpec) -> LoadedAhead:
    return LoadedAhead(world.loaded, Container(spec, CONTAINERS, CONFIG), ANSWERS)


def applied_ahead(world: World, spec: ContainerSpec) -> Status:
    world.reloads.clear()
    run = Run(context(), {"px-1": world.host}, FakeHost("controller"))
    (outcome,) = run.apply([step(stage(("px-1", ahead(world, spec))))]).outcomes
    return outcome.status


def test_a_container_that_will_be_replaced_loads_its_files_before(world: World) -> None:
    del world.host.files[MARKER]
    assert applied_ahead(world, dataclasses.replace(SPEC, restart_for="192.0.2.9:7000")) is Status.CHANGED
    assert world.reloads == ["px-1"]
    assert applied_ahead(world, dataclasses.replace(SPEC, restart_for="192.0.2.9:7000")) is Status.OK


def test_a_container_that_stays_is_not_reloaded_ahead(world: World) -> None:
    del world.host.files[MARKER]
    assert applied_ahead(world, SPEC) is Status.OK
    assert world.reloads == []


def test_a_program_that_does_not_answer_is_not_reloaded_ahead(world: World) -> None:
    del world.host.files[MARKER]
    facts = knowing({"px-1": {CONTAINERS.key: world.host.containers, FileFact(MARKER).key: None}}, "px-1")
    resource = ahead(world, dataclasses.replace(SPEC, restart_for="192.0.2.9:7000"))
    assert resource.have(facts) == resource.want(facts)
