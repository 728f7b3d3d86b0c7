"""Docker on a fake host: what `docker run` asks for becomes what `docker inspect` shows.

Its own reading of a command line, so that what kbpg starts and what kbpg recognises meet in the middle.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from kbpg.hosts.fake import Answer, FakeDirectory, FakeHost, UnknownToFake
from kbpg.hosts.port import Output
from kbpg.resources.directory import DirectoryFact
from kbpg.resources.docker import ContainersFact, ImagesFact
from kbpg.resources.file import RUN_KEY, FileFact
from kbpg.resources.memory_limit import MemoryCgroupFact

REPEATED = ("label", "security-opt", "log-opt", "tmpfs", "volume", "ulimit", "cap-drop", "cap-add")
STARTED = itertools.count()
"""Every container has an id of its own."""
FLAGS = ("detach", "rm", "interactive", "privileged", "read-only")


def docker(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
    """Do what `docker VERB …` does, for the verbs that kbpg uses."""
    verbs: dict[str, Callable[[FakeHost, Sequence[str]], Output]] = {
        "run": _run,
        "stop": lambda h, a: _to(h, a[-1], "exited"),
        "start": lambda h, a: _to(h, a[-1], "running"),
        "restart": lambda h, a: _to(h, a[-1], "running"),
        "unpause": lambda h, a: _to(h, a[-1], "running"),
        "rm": _rm,
        "update": _update,
        "stats": lambda h, a: Output(0, "24.6MiB / 1GiB\n"),
        "logs": lambda h, a: Output(0, "one line\n", "FATAL:  another\n"),
        "version": lambda h, a: Output(0, "20.10"),
    }
    if argv[0] not in verbs:
        raise UnknownToFake(f"docker {shlex.join(argv)}")
    return verbs[argv[0]](host, argv[1:])


def _to(host: FakeHost, name: str, status: str) -> Output:
    if name not in host.containers:
        return Output(1, "", f"Error: No such container: {name}")
    host.containers[name]["State"]["Status"] = status
    return Output(0, name)


def _rm(host: FakeHost, argv: Sequence[str]) -> Output:
    if host.containers[argv[0]]["State"]["Status"] == "running":
        return Output(1, "", "You cannot remove a running container")
    del host.containers[argv[0]]
    return Output(0, argv[0])


def _run(host: FakeHost, argv: Sequence[str]) -> Output:
    options, image, command = _options(argv)
    (name,) = options["name"]
    if name in host.containers:
        return Output(125, "", f'The container name "/{name}" is already in use')
    if image not in host.images:
        return Output(125, "", f"Unable to find image '{image}' locally")
    identifier = hashlib.sha256(f"{next(STARTED)}".encode()).hexdigest()
    tmpfs = [each.partition(":") for each in options.get("tmpfs", [])]
    labels = dict(each.split("=", 1) for each in options.get("label", []))
    memory = int(options.get("memory", ["0"])[0])
    host.containers[name] = {
        "Id": identifier,
        "Name": f"/{name}",
        "State": {"Status": "running"},
        "Config": {
            # A container has the labels of its image, too
            "Labels": {**(host.images[image]["Config"]["Labels"] or {}), **labels},
            "Cmd": command or None,
            "StopTimeout": int(options["stop-timeout"][0]) if "stop-timeout" in options else None,
            "User": options.get("user", [""])[0],
            **({"Healthcheck": _health(options)} if "health-cmd" in options else {}),
        },
        "HostConfig": {
            "RestartPolicy": {"Name": options.get("restart", ["no"])[0]},
            "NetworkMode": options.get("network", ["default"])[0],
            "Binds": options.get("volume"),
            "Tmpfs": {path: how for path, _, how in tmpfs} or None,
            "Ulimits": [_ulimit(each) for each in options.get("ulimit", [])] or None,
            "ShmSize": int(options.get("shm-size", ["67108864"])[0]),
            "Privileged": "privileged" in options,
            "Memory": memory,
            # Unless it is given, as much swap as memory (adaptContainerSettings)
            "MemorySwap": int(options.get("memory-swap", [f"{2 * memory}"])[0]),
            "ReadonlyRootfs": "read-only" in options,
            "CapDrop": options.get("cap-drop"),
            "CapAdd": options.get("cap-add"),
            "SecurityOpt": options.get("security-opt"),
            "PidsLimit": int(options["pids-limit"][0]) if "pids-limit" in options else None,
        },
    }
    return Output(0, f"{identifier}\n")


def _update(host: FakeHost, argv: Sequence[str]) -> Output:
    """Change memory as UpdateContainer in container/container_unix.go does: 0 leaves it as it is."""
    options, name, _ = _options(argv)
    now = host.containers[name]["HostConfig"]
    memory, swap = (int(options.get(key, ["0"])[0]) for key in ("memory", "memory-swap"))
    if 0 < swap < memory:
        return Output(1, "", "Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory > now["MemorySwap"] and not swap:
        return Output(1, "", "Memory limit should be smaller than already set memoryswap limit")
    now.update(Memory=memory or now["Memory"], MemorySwap=swap or now["MemorySwap"])
    return Output(0, f"{name}\n")


def _health(options: dict[str, list[str]]) -> dict[str, Any]:
    def duration(name: str) -> int:
        (text,) = options[f"health-{name}"]
        return int(text.removesuffix("s")) * 1_000_000_000

    return {
        "Test": ["CMD-SHELL", *options["health-cmd"]],
        "Interval": duration("interval"),
        "Timeout": duration("timeout"),
        "StartPeriod": duration("start-period"),
        "Retries": int(options["health-retries"][0]),
    }


def _ulimit(text: str) -> dict[str, Any]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}


def _options(argv: Sequence[str]) -> tuple[dict[str, list[str]], str, list[str]]:
    options: dict[str, list[str]] = {}
    words = list(argv)
    while words[0].startswith("--"):
        name, given, value = words.pop(0)[2:].partition("=")
        if name in FLAGS:
            options[name] = []
            continue
        value = value if given else words.pop(0)
        if name in options and name not in REPEATED:
            raise UnknownToFake(f"--{name} twice")
        options.setdefault(name, []).append(value)
    return options, words[0], words[1:]


def image(inputs: str | None, *tags: str) -> dict[str, Any]:
    """Return what `docker image inspect` shows of an image with this `kbpg.inputs` label."""
    return {"RepoTags": list(tags), "Config": {"Labels": {"kbpg.inputs": inputs} if inputs else None}}


def _containers(host: FakeHost, question: ContainersFact) -> Output:
    return Output(0, json.dumps([host.containers[n] for n in question.names if n in host.containers]))


def _images(host: FakeHost, question: ImagesFact) -> Output:
    return Output(0, json.dumps([host.images[n] for n in question.names if n in host.images]))


def _file(host: FakeHost, question: FileFact) -> Output:
    found = host.files.get(question.path)
    if found is None:
        return Output(44, "")
    digest = hashlib.sha256(RUN_KEY.encode() + found.content).hexdigest()
    shown = f"{digest}  -\n" if question.secret else found.content.decode()
    return Output(0, f"{found.owner} {found.mode:o}\n{shown}")


def _directory(host: FakeHost, question: DirectoryFact) -> Output:
    found = host.directories.get(question.path)
    return Output(0, f"{found.owner} {found.mode:o} directory\n") if found else Output(44, "")


ANSWERS: dict[type, Answer] = {
    ContainersFact: _containers,
    ImagesFact: _images,
    FileFact: _file,
    DirectoryFact: _directory,
    MemoryCgroupFact: lambda host, question: Output(0, "yes\n"),
}
"""Answers to what kbpg asks about files, directories, containers and images, from what a fake host holds."""


def with_docker(host: FakeHost, *directories: str) -> FakeHost:
    """Give a fake host Docker, the answers above, and directories."""
    host.programs["docker"] = docker
    host.answers |= ANSWERS
    host.directories |= {path: FakeDirectory() for path in directories}
    return host
