"""What a container is kept from doing, and how Docker sees that its program answers. See docs/containers.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.layout import USER

NO_NEW_PRIVILEGES = "no-new-privileges"
NO_HEALTH = "not looked at"
"""What is shown of a container whose health nobody asks for."""
ALL = ("ALL",)
"""Every capability: programs that run as 999:999 and listen above port 1023 use none."""
SMALL = 1024
"""Processes and threads of a proxy's container. PgBouncer has one thread. HAProxy has one for each core, 64 at most
in one thread group (its manual, `nbthread`), and an old worker keeps its own while it has connections, until
`haproxy.drain_timeout` after the reload: room for fourteen such workers on such a host."""
THROW_AWAY = (
    "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", NO_NEW_PRIVILEGES,
    "--pids-limit", str(SMALL),
)  # fmt: skip
"""Options of `docker run` for a container that answers one question, writes nothing and is gone."""
_SECOND = 1_000_000_000
"""Docker shows durations in nanoseconds."""


@dataclass(frozen=True)
class Health:
    """How Docker asks whether the program answers: `command` for the container's shell, times in seconds.

    Docker only shows the answer (`docker ps`); it neither restarts nor stops a container for it. Each question
    starts a process in the container, 50 to 100 ms of one core, so that 30 s cost 0.3 % of one at most.
    """

    command: str
    interval: int = 30
    timeout: int = 5
    retries: int = 3
    start_period: int = 60

    def options(self) -> list[str]:
        """Return the options of `docker run`."""
        return [
            f"--health-cmd={self.command}",
            f"--health-interval={self.interval}s",
            f"--health-timeout={self.timeout}s",
            f"--health-retries={self.retries}",
            f"--health-start-period={self.start_period}s",
        ]

    def text(self) -> str:
        """Return it on one line, as `health_of` does."""
        return _text(self.command, self.interval, self.timeout, self.retries, self.start_period)


def health_of(config: Mapping[str, Any]) -> str:
    """Return how a container's health is asked for, from `Config` of `docker inspect`, as `Health.text` does."""
    check = config.get("Healthcheck") or {}
    kind, *words = check.get("Test") or ["NONE"]
    if kind == "NONE":
        return NO_HEALTH
    times = [(check.get(name) or 0) // _SECOND for name in ("Interval", "Timeout", "StartPeriod")]
    return _text(" ".join(words), times[0], times[1], check.get("Retries") or 0, times[2])


def _text(command: str, interval: int, timeout: int, retries: int, start: int) -> str:
    return f"{command} (every {interval} s, {timeout} s each, {retries} times, after {start} s)"


def security_of(host: Mapping[str, Any]) -> str:
    """Return the security options of `HostConfig`, sorted; those of SELinux, which the host adds itself, not."""
    options = [str(option).replace("=", ":", 1) for option in host.get("SecurityOpt") or []]
    kept = [option.removesuffix(":true") for option in options if not option.startswith("label:")]
    return " ".join(sorted(kept))


def memory(path: str, megabytes: int, mode: str = "0700") -> str:
    """Return the mount of a small file system in memory at `path`, owned by the containers' user, for `--tmpfs`.

    Docker adds noexec, nosuid and nodev by itself. What an image has at `path` is not seen.
    """
    return f"{path}:uid={USER},gid={USER},mode={mode},size={megabytes}m"


def pids_limit(connections: int) -> int:
    """Return how many processes and threads PostgreSQL's container may have, for its `max_connections`.

    One process for each connection, and 1024 for all else: at most a few dozen of PostgreSQL's own (workers one for
    each core, WAL senders, autovacuum), about fifteen threads of Patroni, and sessions inside the container. It is
    the power of two above that, 4096 at least: a change of `max_connections` below 3072 leaves the container alone,
    and above that few do not. Where it is reached PostgreSQL refuses a connection and goes on.
    """
    return max(4096, 1 << (connections + 1024 - 1).bit_length())
