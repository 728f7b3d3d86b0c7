"""What a build of Debian and Python packages needs on this machine, found out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kbpg.lab.docker import DockerError, docker, inspect
from kbpg.lab.standin.packages import DEFAULT_BUNDLE, run
from kbpg.lab.standin.python import find_python
from kbpg.render import templates_directory

DECISION = "build.json"
WHEELS = "wheels"
PROBE = "pysyncobj==0.3.17"
PROBE_SECONDS = 60.0
PATRONI = ("patroni==4.1.5", "patroni==3.3.11")
"""Both versions that the lab's inventories name."""
COLLECTED = "requirements.txt"
"""In the directory of the wheels: what was collected."""


@dataclass(frozen=True)
class BuildSettings:
    """The inventory's `build:` section, as far as the lab sets it; paths are absolute."""

    network: str = "host"
    ca_bundle: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    wheels: str | None = None


def build_settings(directory: Path, base: str, report: Callable[[str], None]) -> BuildSettings:
    """Return the settings with which packages can be installed in a build on `base`, a Python image.

    Whether the package index is reached from a container is tried once for each `base` and remembered in
    `directory`. Where it is not, wheels are collected outside with the user's own pip.
    """
    bundle = own_ca_bundle()
    args = {"PIP_CERT": str(DEFAULT_BUNDLE)} if bundle else {}
    wheels = directory / WHEELS
    if not _index_reached(directory / DECISION, base, args):
        collect_wheels(wheels, report)
    return BuildSettings(
        ca_bundle=str(bundle) if bundle else None,
        args=args,
        wheels=str(wheels.resolve()) if wheels.is_dir() else None,
    )


def own_ca_bundle() -> Path | None:
    """Return the CA bundle that this user's environment or pip configuration names, if any.

    Nobody names one who does not need it: without a name, builds use the base images' own.
    """
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT") or _pip_setting("global.cert")
    return Path(named) if named and Path(named).is_file() else None


def _pip_setting(name: str) -> str:
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", name],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _index_reached(decision: Path, base: str, args: dict[str, str]) -> bool:
    image = inspect("image", base)[0]["Id"]
    if decision.exists():
        known = json.loads(decision.read_text())
        if known.get("image") == image:
            return bool(known["index"])
    reached = _probe(base, args)
    decision.write_text(json.dumps({"image": image, "index": reached}) + "\n")
    return reached


def _probe(base: str, args: dict[str, str]) -> bool:
    environment = [option for name, value in args.items() for option in ("--env", f"{name}={value}")]
    command = ("pip", "download", "--quiet", "--no-deps", "--dest", "/tmp", PROBE)  # noqa: S108 - in a container
    try:
        docker("run", "--rm", "--network", "host", *environment, base, *command, timeout=PROBE_SECONDS)
    except DockerError:
        return False
    return True


def requirements() -> tuple[str, ...]:
    """Return every package of the Patroni image by its exact version: its Dockerfile says them, besides Patroni's."""
    text = (templates_directory() / "patroni" / "Dockerfile.j2").read_text(encoding="utf-8")
    return (*PATRONI, *re.findall(r"\b[A-Za-z][A-Za-z0-9_-]*==[0-9][0-9.]*", text))


def collect_wheels(directory: Path, report: Callable[[str], None]) -> None:
    """Build wheels of all requirements for Python 3.12 in `directory`, unless they are there already."""
    wanted = requirements()
    text = "".join(f"{each}\n" for each in wanted)
    there = directory / COLLECTED
    if there.is_file() and there.read_text() == text:
        return
    report("collecting wheels: builds do not reach the package index")
    fresh = directory.with_name(f".{directory.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    _, prefix = find_python()
    # Each by itself, as two versions of Patroni are among them; nothing is resolved, all of it is named
    pip = [str(prefix / "bin" / "python3.12"), "-m", "pip", "wheel", "--quiet", "--no-deps"]
    for some in (wanted[:1], wanted[1:2], wanted[2:]):
        run([*pip, "--wheel-dir", str(fresh), *some], timeout=600)
    (fresh / COLLECTED).write_text(text)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
