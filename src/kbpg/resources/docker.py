"""What Docker says: containers and images of a host, asked in one call where all of them exist."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Joint, Output
from kbpg.layout import HAPROXY, PATRONI, PGBOUNCER

LABEL_INPUTS = "kbpg.inputs"
"""Image label, inherited by containers: the digest of all that the image was built from."""
LABEL_SPEC = "kbpg.spec"
"""Container label: the digest of the options it was started with."""


def signalled(container: str, signal: str) -> list[str]:
    """Return the command that sends a signal (`HUP`) to a container's first process, from inside it.

    `docker kill` would do, but Docker takes whatever it sends for a stop by hand (daemon/kill.go sets
    HasBeenManuallyStopped for every signal): after a crash or a reboot it would not start the container again.
    """
    return ["docker", "exec", container, "sh", "-c", f"kill -{signal} 1"]


def runs(found: Mapping[str, Mapping[str, Any]] | None, name: str) -> bool:
    """Return whether this container is among those `found`, and runs; what is not known (None) does not."""
    return bool(found and name in found and found[name]["State"]["Status"] == "running")


def _inspect(kind: str, names: tuple[str, ...]) -> str:
    """Return a fragment that prints a JSON array of those of `names` that exist.

    Docker exits with 1 when any of them is missing; only an empty answer can mean that the daemon is down,
    so only then a second call tells the two apart.
    """
    asked = " ".join(shlex.quote(name) for name in names)
    return (
        "command -v docker >/dev/null || exit 45; "
        f"found=$(docker {kind} inspect {asked} 2>/dev/null); "
        'if [ "$found" = "[]" ] || [ -z "$found" ]; then docker version >/dev/null 2>&1 || exit 46; fi; '
        'printf "%s" "$found"'
    )


def _together(questions: Sequence[ContainersFact | ImagesFact]) -> Joint:
    """Return how containers and images are asked in one call; each question reads its own from what is found.

    Only where Docker has found them all: what it does not say of one may be a failure. For a name without a kind it
    looks for a container, then for an image, then for much else, which the questions do not take for theirs.
    """
    asked = " ".join(shlex.quote(name) for question in questions for name in question.names)
    prepare = f"command -v docker >/dev/null && found=$(docker inspect {asked} 2>/dev/null)"
    return Joint(prepare, ('printf %s "$found"; s=0',) * len(questions))


def _decode(output: Output) -> list[dict[str, Any]]:
    if output.status == 45:
        return []  # without Docker there is no container and no image
    if output.status == 46:
        raise NotKnown("Docker does not answer")
    found: list[dict[str, Any]] = json.loads(output.stdout or "[]")
    return found


@dataclass(frozen=True)
class ContainersFact(ShellFact[Mapping[str, Mapping[str, Any]]]):
    """The containers called `names`, as `docker inspect` shows them, by name."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "docker"
    together = staticmethod(_together)

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"containers:{','.join(self.names)}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        return _inspect("container", self.names)

    def parse(self, output: Output) -> Mapping[str, Mapping[str, Any]]:
        """Read the answer."""
        containers = {found["Name"].lstrip("/"): found for found in _decode(output) if "State" in found}
        return {name: found for name, found in containers.items() if name in self.names}


DB_CONTAINERS = ContainersFact((PATRONI,))
PROXY_CONTAINERS = ContainersFact((HAPROXY, PGBOUNCER))


@dataclass(frozen=True)
class ImagesFact(ShellFact[Mapping[str, str]]):
    """The images called `names` ("name:tag"): their `kbpg.inputs` label, or "" for one without it."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "docker"
    together = staticmethod(_together)

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"images:{','.join(self.names)}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        return _inspect("image", self.names)

    def parse(self, output: Output) -> Mapping[str, str]:
        """Read the answer."""
        return {
            tag: (image["Config"].get("Labels") or {}).get(LABEL_INPUTS, "")
            for image in _decode(output)
            for tag in image.get("RepoTags") or ()
            if tag in self.names
        }
