"""What a diagnosis asks besides what the steps ask: logs, PgBouncer's console, PostgreSQL's views."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbpg import pooler
from kbpg.facts import CallFact, Login, NotKnown, ShellFact
from kbpg.hosts.port import Output, Reader
from kbpg.resources import container_log

LOG_LINES = 250
"""Lines of each container's log: Patroni prints some 75 for each attempt to start a damaged PostgreSQL, and tries two
ways in turn, of which one tells more (seen: crash recovery, then a start)."""
_MARK = "kbpg-log-of"
DOCKER_ROOT, CONTAINERD_ROOT = "/var/lib/docker", "/var/lib/containerd"
"""Where Docker keeps images and logs, unless told otherwise, and containerd its images."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class LogsFact(ShellFact[Mapping[str, tuple[str, ...]]]):
    """The last lines of the logs of the containers called `names`, by name; what does not exist is left out.

    Lines about connections are left out as well.
    """

    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"logs:{','.join(self.names)}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        each = [
            f"echo {_MARK} {shlex.quote(name)}; {container_log.script(name, LOG_LINES)}"
            for name in self.names
        ]
        return f"command -v docker >/dev/null || exit 45; {'; '.join(each)}; true"

    def parse(self, output: Output) -> Mapping[str, tuple[str, ...]]:
        """Read the answer."""
        if output.status == 45:
            raise NotKnown("Docker is not installed")
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in output.stdout.splitlines():
            if line.startswith(f"{_MARK} "):
                lines = found.setdefault(line.split(" ", 1)[1], [])
            else:
                lines.append(line.rstrip())
        return {name: tuple(said[-LOG_LINES:]) for name, said in found.items()}


@dataclass(frozen=True)
class Neighbour:
    """A running container that is not one of kbpg's: its name, and the host's directories it mounts."""

    name: str
    image: str
    mounts: tuple[str, ...]


@dataclass(frozen=True)
class NeighboursFact(ShellFact[tuple[Neighbour, ...]]):
    """The running containers but those called `ours`."""

    ours: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"neighbours:{','.join(self.ours)}"

    @property
    def script(self) -> str:
        """Return the fragment: one line a container, parts separated by tabs."""
        return "docker ps --no-trunc --format '{{.Names}}\\t{{.Image}}\\t{{.Mounts}}' 2>/dev/null"

    def parse(self, output: Output) -> tuple[Neighbour, ...]:
        """Read the answer."""
        if not output.ok:
            raise NotKnown("Docker does not answer")
        parts = [line.split("\t") for line in output.stdout.splitlines() if line.count("\t") == 2]
        return tuple(
            Neighbour(name, image, tuple(mount for mount in mounts.split(",") if mount))
            for name, image, mounts in parts
            if name not in self.ours
        )


@dataclass(frozen=True)
class Usage:
    """A file system, by a directory that is on it: its size and its free bytes."""

    path: str
    size: int
    free: int


@dataclass(frozen=True)
class UsageFact(ShellFact[tuple[Usage, ...]]):
    """The file systems that hold `paths` and what Docker keeps: each once, by the first path that is on it.

    Docker's images and logs are where daemon.json says, else in its usual directory; with the image store of
    containerd (new installations of Docker 29 have it) images are in containerd's. Docker itself is not asked: where
    it hangs, the disk may be why.
    """

    paths: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"usage:{','.join(self.paths)}"

    @property
    def script(self) -> str:
        """Return the fragment: file system, blocks, free blocks for users, and their size, by statfs(2)."""
        root = (
            r"""sed -n 's/.*"data-root"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' /etc/docker/daemon.json"""
        )
        asked = " ".join(shlex.quote(path) for path in self.paths)
        return (
            f"root=$({root} 2>/dev/null); "
            f"stat -f -c '%i %b %a %S %n' -- {asked} \"${{root:-{DOCKER_ROOT}}}\" {CONTAINERD_ROOT}"
        )

    def parse(self, output: Output) -> tuple[Usage, ...]:
        """Read the answer: of what is there, whether all is or not."""
        found: dict[tuple[str, str, str], Usage] = {}
        for line in output.stdout.splitlines():
            system, blocks, free, size, path = line.split(" ", 4)
            usage = Usage(path, int(blocks) * int(size), int(free) * int(size))
            found.setdefault((system, blocks, size), usage)
        if not found:
            raise NotKnown(f"{', '.join(self.paths)}: {output.stderr.strip()}")
        return tuple(found.values())


@dataclass(frozen=True)
class Pooler:
    """What PgBouncer's console shows, each SHOW as rows of names and values."""

    pools: tuple[Row, ...] = ()
    databases: tuple[Row, ...] = ()
    stats: tuple[Row, ...] = ()
    servers: tuple[Row, ...] = ()
    state: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True)
class PoolerFact(CallFact[Pooler]):
    """PgBouncer's console, all in one connection."""

    login: Login
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"pooler:{self.login.port}"

    def ask(self, reader: Reader) -> Pooler:
        """Ask; raises `NotKnown` where the console does not answer."""
        import psycopg

        from kbpg import sql

        try:
            with sql.connect(reader, self.login, pooled=True) as connection:
                wanted = ("POOLS", "DATABASES", "STATS", "SERVERS")
                shown = {what: tuple(pooler.rows(connection, what)) for what in wanted}
                state = {str(row["key"]): str(row["value"]) for row in pooler.rows(connection, "STATE")}
                version = next(iter(pooler.rows(connection, "VERSION")), {"version": ""})
        except (OSError, psycopg.Error) as error:
            raise NotKnown(f"port {self.login.port}: {sql.short(error)}") from None
        return Pooler(
            shown["POOLS"],
            shown["DATABASES"],
            shown["STATS"],
            shown["SERVERS"],
            state,
            str(version.get("version", "")),
        )
