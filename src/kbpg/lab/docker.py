"""The lab's one way to the Docker command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kbpg.errors import KbpgError

SHORT_SECONDS = 60.0
BUILD_SECONDS = 900.0
MISSING = re.compile("no such|not found", re.IGNORECASE)
NO_DAEMON = re.compile(r"cannot connect to the docker daemon|permission denied.*docker", re.IGNORECASE)
START = "start Docker, or be a user who may use it; `script/demo` installs and starts it"


class DockerError(KbpgError):
    """A docker command failed, ran out of time, or no daemon answers."""


def docker(*args: str, timeout: float = SHORT_SECONDS, env: Mapping[str, str] | None = None) -> str:
    """Run `docker ARGS` and return its standard output without the last newline.

    `timeout` is in seconds, `env` adds to the environment. Raises DockerError with the last lines of what
    docker said.
    """
    done = _run(args, timeout, env or {})
    if done.returncode:
        raise DockerError(
            f"`docker {' '.join(args[:2])}` ended with exit code {done.returncode}",
            detail=_last_lines(done.stderr + done.stdout),
        )
    return done.stdout.rstrip("\n")


def inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """Return what `docker KIND inspect` says about those of `names` that exist.

    `kind` is `container`, `image` or `network`. Names without an object are left out.
    """
    done = _run((kind, "inspect", *names), SHORT_SECONDS, {})
    # The exit code is 1 as soon as one name is missing; the others are printed all the same.
    if done.returncode and not MISSING.search(done.stderr):
        raise DockerError(f"`docker {kind} inspect` failed", detail=_last_lines(done.stderr))
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def require_daemon() -> None:
    """Raise DockerError with a hint unless a Docker daemon answers."""
    docker("version", "--format", "{{.Server.Version}}", timeout=10)


def _run(args: Sequence[str], timeout: float, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            ["docker", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, **env},
        )
    except FileNotFoundError as exc:
        raise DockerError("there is no docker command on this machine", hint=START) from exc
    except subprocess.TimeoutExpired as exc:
        raise DockerError(f"`docker {args[0]}` took longer than {timeout:g} s") from exc
    if done.returncode and NO_DAEMON.search(done.stderr):
        raise DockerError(
            "no Docker daemon answers; the lab's hosts are containers of it",
            detail=_last_lines(done.stderr),
            hint=START,
        )
    return done


def _last_lines(text: str, count: int = 12) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][-count:]


def build(
    context: Path,
    dockerfile: Path,
    tag: str,
    *,
    args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    network: str | None = None,
) -> None:
    """Build `tag` from `dockerfile` and `context` with the classic builder, which needs no plugin."""
    docker(*build_arguments(context, dockerfile, tag, args, labels, network), timeout=BUILD_SECONDS,
           env={"DOCKER_BUILDKIT": "0"})  # fmt: skip


def build_arguments(
    context: Path,
    dockerfile: Path,
    tag: str,
    args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    network: str | None = None,
) -> Sequence[str]:
    """Return the arguments of `docker build`."""
    given = ["build", "--quiet", "--force-rm", "--tag", tag, "--file", str(dockerfile)]
    if network:
        given += ["--network", network]
    for key, value in (args or {}).items():
        given += ["--build-arg", f"{key}={value}"]
    for key, value in (labels or {}).items():
        given += ["--label", f"{key}={value}"]
    return [*given, str(context)]
