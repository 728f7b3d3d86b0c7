"""PostgreSQL's settings as the running servers have them, and what the program itself says of a new value."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbpg.facts import Login, NotKnown, ShellFact, SqlFact
from kbpg.hosts.port import Output
from kbpg.layout import DATA_INSIDE, OWNER, PATRONI
from kbpg.resources.file import digest

DATA = f"{DATA_INSIDE}/pgdata"
"""The data directory in the container: templates/patroni/patroni.yml.j2."""
INSIDE = ("docker", "exec", "-u", OWNER, PATRONI)
PRELOADED = "shared_preload_libraries"
DIGITS = 16
"""Hexadecimal ones that tell a value from another in the name of a question."""


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
    and check as one from the configuration file (src/backend/postmaster/postmaster.c, guc.c).
    """

    name: str
    value: str
    major: int

    @property
    def key(self) -> str:
        """Return the name of the question, which the journal has: the value may hold a password."""
        return f"setting:{self.name}:{digest(self.value.encode(), secret=True)[:DIGITS]}"

    @property
    def script(self) -> str:
        """Return the fragment: the program in the container of the running server."""
        base = f"/usr/lib/postgresql/{self.major}"
        given = f"{self.name}={self.value}"
        asked = [*INSIDE, f"{base}/bin/postgres", "-D", DATA, "-C", self.name, "-c", given]
        return f"{shlex.join(asked)} 2>&1"

    def parse(self, output: Output) -> Trial:
        """Read the answer; raises `NotKnown` where the program did not run."""
        lines = output.stdout.strip().splitlines()
        if output.ok:
            return Trial(text=lines[-1] if lines else "")
        said = [line.split(":  ", 1)[1] for line in lines if ":  " in line]
        if output.status != 1 or not said:
            raise NotKnown(
                f"PostgreSQL could not be asked about {self.name}: {' '.join(lines) or output.stderr}"
            )
        return Trial(refused="; ".join(text[:1].lower() + text[1:].rstrip(".") for text in said))


@dataclass(frozen=True)
class LibraryDirectoryFact(SqlFact[str]):
    """Where PostgreSQL looks for libraries without a path."""

    login: Login

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "sql:library directory"

    @property
    def query(self) -> str:
        """Return the query."""
        return "select setting from pg_catalog.pg_config where name = 'PKGLIBDIR'"

    def parse(self, rows: Sequence[tuple[Any, ...]]) -> str:
        """Read the answer."""
        return str(rows[0][0])


@dataclass(frozen=True)
class LibrariesFact(ShellFact[tuple[str, ...]]):
    """Those of `names`, a value of shared_preload_libraries, that are not there: PostgreSQL would not start."""

    names: str
    directory: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"libraries:{self.names}"

    @property
    def script(self) -> str:
        """Return the fragment: each library that is missing, one a line."""
        found = []
        for name in self.names.translate({ord(quote): None for quote in "'\""}).replace(",", " ").split():
            plain = name.replace("$libdir", self.directory).removesuffix(".so")
            path = plain if "/" in plain else f"{self.directory}/{plain}"
            found.append(
                f"{shlex.join([*INSIDE, 'test', '-e', f'{path}.so'])} || printf '%s\\n' {shlex.quote(name)}"
            )
        return "\n".join([f"{shlex.join([*INSIDE, 'true'])} || exit 1", *found, "true"])

    def parse(self, output: Output) -> tuple[str, ...]:
        """Read the answer; raises `NotKnown` where nobody could look."""
        if not output.ok:
            raise NotKnown(f"the libraries could not be looked for: {output.stderr.strip()}")
        return tuple(output.stdout.split())
