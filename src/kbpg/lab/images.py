"""The images a lab needs on this machine: three public base images, or stand-ins, and the hosts' own."""

from __future__ import annotations

import hashlib
import selectors
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, cast

from kbpg.lab.docker import build, inspect
from kbpg.lab.standin import build_debian, build_pgvector, build_python
from kbpg.lab.standin.packages import LABEL as STAND_IN
from kbpg.lab.templates import lab_templates

Report = Callable[[str], None]

DEBIAN = "debian:trixie-slim"
PYTHON = "python:3.12-slim-trixie"
PGVECTOR = "pgvector/pgvector:0.8.1-pg16-trixie"
# In the order in which the stand-ins need each other.
BASES: dict[str, Callable[[str], None]] = {
    DEBIAN: build_debian,
    PYTHON: build_python,
    PGVECTOR: build_pgvector,
}
HOST_IMAGE = "kbpg-lab-host"
INPUTS = "kbpg.inputs"
# Seconds until the registry must have said its first word; then a pull may take its time.
REGISTRY_SECONDS = 20.0
PULL_SECONDS = 900.0


@dataclass(frozen=True)
class BaseImage:
    """A base image on this machine; `packages` maps a stand-in's packages to their versions."""

    tag: str
    present: bool
    stand_in: bool
    packages: dict[str, str]


def base_images() -> list[BaseImage]:
    """Return the state of the three base images."""
    found = {tag: image for image in inspect("image", *BASES) for tag in image["RepoTags"] or []}
    described = []
    for tag in BASES:
        labels = (found[tag]["Config"].get("Labels") or {}) if tag in found else {}
        packages = {
            k.removeprefix(f"{STAND_IN}."): v for k, v in labels.items() if k.startswith(f"{STAND_IN}.")
        }
        described.append(BaseImage(tag, tag in found, STAND_IN in labels, packages))
    return described


def ensure_base_images(report: Report) -> None:
    """See that the base images are there: present ones are used, missing ones pulled or stood in for."""
    registry = True
    for base in base_images():
        if base.present:
            continue
        if registry:
            report(f"pulling {base.tag}")
            registry = _pull(base.tag)
            if registry:
                continue
        report(f"no registry in reach: building a stand-in for {base.tag} from packages")
        BASES[base.tag](base.tag)


def _pull(tag: str) -> bool:
    with subprocess.Popen(
        ["docker", "pull", tag], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as pull:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(cast("IO[bytes]", pull.stdout), selectors.EVENT_READ)
                if not selector.select(REGISTRY_SECONDS):
                    return False
            pull.communicate(timeout=PULL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        finally:
            pull.kill()
    return pull.returncode == 0


def ensure_host_image(report: Report) -> None:
    """See that the hosts' image is there and was built from today's templates."""
    context = lab_templates() / "host"
    digest = hashlib.sha256()
    for file in sorted(context.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(inspect("image", DEBIAN)[0]["Id"].encode())
    inputs = digest.hexdigest()
    found = inspect("image", HOST_IMAGE)
    if found and (found[0]["Config"].get("Labels") or {}).get(INPUTS) == inputs:
        return
    report("building the lab hosts' image")
    build(context, context / "Dockerfile", HOST_IMAGE, labels={INPUTS: inputs}, network="host")
