"""Images: who has one, who builds one, and how it travels."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Sequence

import pytest

from kbpg.engine.run import Run
from kbpg.errors import CommandFailed, HostError, KbpgError
from kbpg.facts import Facts, Knowledge
from kbpg.hosts.fake import FakeHost, UnknownToFake
from kbpg.hosts.port import Output
from kbpg.model import CONTROLLER, Placed, Status
from kbpg.resources.docker import ImagesFact
from kbpg.resources.image import Images, ImageSpec

from .fake_docker import docker, image, with_docker
from .small_cluster import DATABASES, context, stage, step

ONE = ImageSpec(
    "one:latest", "1" * 64, lambda: {"b.txt": b"two", "Dockerfile": b"FROM x\n"}, ("--network", "host")
)
TWO = ImageSpec("two:latest", "2" * 64, lambda: {"Dockerfile": b"FROM one\n"})
NAMES = [ONE.name, TWO.name]
PACK_ZSTD = ["sh", "-c", 'docker save "$@" | zstd -q -1 -T0', "sh", *NAMES]
PACK_GZIP = ["sh", "-c", 'docker save "$@" | gzip -1', "sh", *NAMES]
LOAD_ZSTD, LOAD_GZIP = ["sh", "-c", "zstd -dc | docker load"], ["docker", "load"]


class Builder(FakeHost):
    """A host whose Docker builds, saves and loads; what is saved is its images' labels as JSON."""

    zstd = True
    usable = True
    full = False


def sh(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    assert isinstance(host, Builder)
    words = ["sh", *argv]
    if words == ["sh", "-c", "command -v zstd"]:
        return Output(0 if host.zstd else 127, "")
    if words in (PACK_ZSTD, PACK_GZIP):
        form = "zstd" if words == PACK_ZSTD else "gzip"
        return Output(0, f"{form}:" + json.dumps({name: host.images[name] for name in NAMES}))
    if words == LOAD_ZSTD:
        return load(host, "zstd", stdin)
    raise UnknownToFake(str(words))


def load(host: Builder, form: str, stdin: bytes) -> Output:
    found, _, images = stdin.decode().partition(":")
    if host.full or found != form:
        return Output(1, "", "no space left on device")
    host.images |= json.loads(images)
    return Output(0, "Loaded image")


def env(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    assert argv[:3] == ["DOCKER_BUILDKIT=0", "docker", "build"]
    assert argv[-1] == "-"
    inputs = argv[argv.index("--label") + 1].removeprefix("kbpg.inputs=")
    tag = argv[argv.index("--tag") + 1]
    with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
        assert tar.getnames()[0] == "Dockerfile"
    host.images[tag] = image(inputs, tag)
    return Output(0, "Successfully built")


def docker_too(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    assert isinstance(host, Builder)
    if list(argv) == ["load"]:
        return load(host, "gzip", stdin)
    if list(argv) == ["version"] and not host.usable:
        return Output(1, "", "Cannot connect to the Docker daemon")
    return docker(host, argv, stdin)


class World:
    def __init__(self, settings: str = "") -> None:
        self.hosts = {name: self._host(name) for name in DATABASES}
        self.controller = self._host(CONTROLLER)
        self.context = context(settings)

    def _host(self, name: str) -> Builder:
        host = Builder(name)
        with_docker(host)
        host.programs |= {"sh": sh, "env": env, "docker": docker_too}
        return host

    def has(self, *hosts: str, specs: Sequence[ImageSpec] = (ONE, TWO)) -> None:
        for name in hosts:
            host = self.controller if name == CONTROLLER else self.hosts[name]
            host.images |= {spec.name: image(spec.inputs, spec.name) for spec in specs}

    def apply(self) -> Status:
        run = Run(self.context, self.hosts, self.controller)
        (outcome,) = run.apply([step(stage((CONTROLLER, Images("all", (ONE, TWO), DATABASES))))]).outcomes
        self.error = outcome.error
        return outcome.status

    def built(self) -> list[str]:
        everybody = [self.controller, *self.hosts.values()]
        return [host.name for host in everybody for argv in host.journal if argv[0] == "env"]

    def packed(self) -> list[str]:
        everybody = [self.controller, *self.hosts.values()]
        return [host.name for host in everybody for argv in host.journal if argv in (PACK_ZSTD, PACK_GZIP)]

    def loaded(self) -> list[str]:
        return [h.name for h in self.hosts.values() for argv in h.journal if argv in (LOAD_ZSTD, LOAD_GZIP)]

    def whole(self) -> bool:
        specs = {spec.name: image(spec.inputs, spec.name) for spec in (ONE, TWO)}
        return all(host.images == specs for host in self.hosts.values())


def test_nothing_is_done_where_all_have_all() -> None:
    world = World()
    world.has(*DATABASES)
    assert world.apply() is Status.OK
    assert all(host.journal == [] for host in (world.controller, *world.hosts.values()))


def test_what_nobody_has_is_built_once_on_the_controller_and_sent_to_all() -> None:
    world = World()
    assert world.apply() is Status.CHANGED
    assert world.built() == [CONTROLLER, CONTROLLER]
    assert world.packed() == [CONTROLLER]
    assert world.loaded() == list(DATABASES)
    assert world.whole()


def test_what_the_controller_has_is_sent_from_there() -> None:
    world = World()
    world.has(CONTROLLER)
    assert world.apply() is Status.CHANGED
    assert (world.built(), world.packed(), world.loaded()) == ([], [CONTROLLER], list(DATABASES))


@pytest.mark.parametrize("builder", [CONTROLLER, "db-1"])
def test_a_former_image_that_got_its_tag_back_is_sent_and_not_built(builder: str) -> None:
    """docs/operations.md, the way back from a bad image: all hosts have another label under the same tags."""
    world = World()
    newer = [dataclasses.replace(spec, inputs="9" * 64) for spec in (ONE, TWO)]
    world.has(CONTROLLER, *DATABASES, specs=newer)
    world.has(builder)
    assert world.apply() is Status.CHANGED
    others = [name for name in DATABASES if name != builder]
    assert (world.built(), world.packed(), world.loaded()) == ([], [builder], others)
    assert world.whole()


def test_what_a_host_has_is_sent_to_those_that_lack_it() -> None:
    world = World()
    world.has("db-2")
    world.has("db-1", specs=[ONE])
    assert world.apply() is Status.CHANGED
    assert (world.built(), world.packed(), world.loaded()) == ([], ["db-2"], ["db-1", "db-3"])
    assert world.whole()


def test_an_image_of_other_inputs_or_without_a_label_is_none() -> None:
    world = World()
    world.has(*DATABASES)
    world.hosts["db-1"].images[ONE.name] = image("9" * 64, ONE.name)
    world.hosts["db-3"].images[TWO.name] = image(None, TWO.name)
    run = Run(world.context, world.hosts, world.controller)
    (outcome,) = run.plan([step(stage((CONTROLLER, Images("all", (ONE, TWO), DATABASES))))]).outcomes
    assert outcome.lines == (
        "db-1 one:latest: 999999999999 → 111111111111",
        "db-3 two:latest: not kbpg's → 222222222222",
    )
    assert world.apply() is Status.CHANGED
    assert (world.packed(), world.loaded()) == (["db-2"], ["db-1", "db-3"])
    assert world.whole()


@pytest.mark.parametrize(("without", "form"), [(None, "zstd"), ("db-3", "gzip"), (CONTROLLER, "gzip")])
def test_zstd_is_used_where_both_ends_have_it(without: str | None, form: str) -> None:
    world = World()
    world.has(CONTROLLER)
    if without:
        (world.controller if without == CONTROLLER else world.hosts[without]).zstd = False
    assert world.apply() is Status.CHANGED
    assert world.whole()
    assert (PACK_ZSTD if form == "zstd" else PACK_GZIP) in world.controller.journal
    assert all((LOAD_ZSTD if form == "zstd" else LOAD_GZIP) in host.journal for host in world.hosts.values())


@pytest.mark.parametrize(
    ("on", "usable", "built"),
    [
        ("auto", True, CONTROLLER),
        ("auto", False, "db-1"),
        ("controller", True, CONTROLLER),
        ("first_db", True, "db-1"),
        ("first_db", False, "db-1"),
    ],
)
def test_where_it_is_built(on: str, usable: bool, built: str) -> None:
    world = World(f"build: {{on: {on}}}\n")
    world.controller.usable = usable
    assert world.apply() is Status.CHANGED
    assert set(world.built()) == {built}
    assert world.loaded() == [name for name in DATABASES if name != built]
    assert world.whole()


def test_a_controller_without_docker_that_must_build_says_so() -> None:
    world = World("build: {on: controller}\n")
    world.controller.usable = False
    assert world.apply() is Status.FAILED
    assert isinstance(world.error, KbpgError)
    assert "no usable Docker" in world.error.message
    assert world.error.hint is not None


def test_a_host_that_cannot_take_it_fails_and_the_others_have_it() -> None:
    world = World()
    world.has(CONTROLLER)
    world.hosts["db-1"].full = True
    assert world.apply() is Status.FAILED
    assert isinstance(world.error, CommandFailed)
    assert world.error.host == "db-1"
    assert [name for name, host in world.hosts.items() if host.images] == ["db-2", "db-3"]


@pytest.mark.parametrize("away", DATABASES)
def test_a_host_that_is_not_connected_does_not_keep_the_others(away: str) -> None:
    world = World("build: {on: controller}\n")
    del world.hosts[away]
    assert world.apply() is Status.CHANGED
    assert world.built() == [CONTROLLER, CONTROLLER]
    assert world.whole()
    assert world.apply() is Status.OK


def test_a_connected_host_whose_docker_does_not_answer_is_no_host_that_is_away() -> None:
    world = World()
    world.has(*DATABASES)
    world.hosts["db-2"].answers[ImagesFact] = lambda host, question: Output(46, "")
    assert world.apply() is Status.FAILED
    assert world.error is not None
    assert "could not be read" in world.error.message


def test_an_image_cannot_be_built_on_a_host_that_is_away() -> None:
    world = World("build: {on: first_db}\n")
    del world.hosts["db-1"]
    assert world.apply() is Status.FAILED
    assert isinstance(world.error, HostError)
    assert world.error.host == "db-1"
    assert "not connected" in world.error.reason


def test_the_context_of_a_build_is_the_same_bytes_for_the_same_files() -> None:
    assert ONE.context() == ONE.context()
    with tarfile.open(fileobj=io.BytesIO(ONE.context())) as tar:
        members = {member.name: (member.mode, member.mtime, member.uid) for member in tar}
        assert members == {"Dockerfile": (0o644, 0, 0), "b.txt": (0o644, 0, 0)}
        content = tar.extractfile("b.txt")
        assert content is not None
        assert content.read() == b"two"


def test_the_command_of_a_build() -> None:
    assert ONE.build() == [
        *("env", "DOCKER_BUILDKIT=0", "docker", "build", "--force-rm", "--tag", "one:latest"),
        *("--label", f"kbpg.inputs={'1' * 64}", "--network", "host", "-"),
    ]


def test_what_is_missing_is_said_for_each_host_and_image() -> None:
    fact = ImagesFact(tuple(NAMES))
    images = Images("all", (ONE, TWO), DATABASES)
    knowledge = Knowledge()
    for name in DATABASES:
        knowledge.put(name, {fact.key: {ONE.name: ONE.inputs} if name == "db-1" else {}})
    have = images.have(Facts(knowledge, CONTROLLER))
    assert isinstance(have, dict)
    assert have["db-1 one:latest"] == "1" * 12
    assert [key for key, value in have.items() if value == "missing"] == [
        *("db-1 two:latest", "db-2 one:latest", "db-2 two:latest", "db-3 one:latest", "db-3 two:latest"),
    ]
    assert [place for place, _ in images.asks(CONTROLLER, context())] == list(DATABASES)
    assert Placed(CONTROLLER, images).resource.id == "image:all"
