"""PostgreSQL's settings as the running servers have them, and what the program itself says of a new value."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbpg.facts import Login, NotKnown, ShellFact, SqlFact
from kbpg.hosts.port import Output
from kbpg.steps.layout import OWNER, PATRONI

DATA = "/var/lib/postgresql/data/pgdata"
"""The data directory in the container: templates/patroni/patroni.yml.j2."""
MISSING = "no such library: "


@dataclass(frozen=True)
class ServerSetting:
    """One line of pg_settings: the value in its unit and as SHOW prints it, and where it comes from."""

    name: str
    text: str
    shown: str
    context: str
    pending_restart: bool
    source: str
    file: str


@dataclass(frozen=True)
class SettingsFact(SqlFact[Mapping[str, ServerSetting]]):
    """All settings of a node by their names in lower case."""

    login: Login
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "sql:server settings"

    @property
    def query(self) -> str:
        """Return the query."""
        return (
            "select name, setting, current_setting(name), context, pending_restart, source,"
            " coalesce(sourcefile, '') from pg_catalog.pg_settings order by name"
        )

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> Mapping[str, ServerSetting]:
        """Read the answer."""
        return {row[0].lower(): ServerSetting(*row) for row in rows}


@dataclass(frozen=True)
class FileErrorsFact(SqlFact[tuple[str, ...]]):
    """What PostgreSQL refuses in its configuration files, as `name: reason`."""

    login: Login
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "sql:file errors"

    @property
    def query(self) -> str:
        """Return the query."""
        return "select coalesce(name, sourcefile), error from pg_catalog.pg_file_settings where error is not null"

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
        """Read the answer."""
        return tuple(f"{name}: {error}" for name, error in rows)


@dataclass(frozen=True)
class Trial:
    """What PostgreSQL makes of a value: in the unit of pg_settings, or why it refuses it."""

    text: str = ""
    refused: str = ""


@dataclass(frozen=True)
class TrialFact(ShellFact[Trial]):
    """What PostgreSQL says of a value, asked without touching the running server.

    `postgres -C NAME` prints a setting and ends; a value from its command line goes through the same parser, bounds
    and check as one from the configuration file (src/backend/postmaster/postmaster.c, guc.c). Whether libraries to
    preload exist is not part of that, so it is looked up.
    """

    name: str
    value: str
    major: int

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"setting:{self.name}={self.value}"

    @property
    def script(self) -> str:
        """Return the fragment: the program in the container of the running server, or the look for libraries."""
        base = f"/usr/lib/postgresql/{self.major}"
        inside = ["docker", "exec", "-u", OWNER, PATRONI]
        given = ["-c", f"{self.name}={self.value}"]
        asked = shlex.join([*inside, f"{base}/bin/postgres", "-D", DATA, "-C", self.name, *given])
        looks = []
        if self.name == "shared_preload_libraries":
            for library in self.value.replace('"', "").replace(",", " ").split():
                file = library if library.startswith("/") else f"{base}/lib/{library.removesuffix('.so')}.so"
                looks.append(
                    f"{shlex.join([*inside, 'test', '-e', file])} || "
                    f"{{ echo {shlex.quote(MISSING + library)}; exit 44; }}"
                )
        return "; ".join([*looks, f"{asked} 2>&1"])

    def parse(self, output: Output) -> Trial:
        """Read the answer; raises `NotKnown` where the program did not run."""
        lines = output.stdout.strip().splitlines()
        if output.ok:
            return Trial(text=lines[-1] if lines else "")
        if output.status == 44:
            return Trial(refused=lines[-1])
        said = [line.split(":  ", 1)[1] for line in lines if ":  " in line]
        if output.status != 1 or not said:
            raise NotKnown(
                f"PostgreSQL could not be asked about {self.name}: {' '.join(lines) or output.stderr}"
            )
        return Trial(refused="; ".join(text[:1].lower() + text[1:].rstrip(".") for text in said))
