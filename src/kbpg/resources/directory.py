"""Directories: owner and mode, of the directory itself, never of what is in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown, ShellFact
from kbpg.hosts.port import Joint, Output
from kbpg.model import ABSENT, Change, Resource, Want
from kbpg.resources.paths import NOTHING_THERE, statted

_STAT = "-L -c '%u:%g %a %F'"


@dataclass(frozen=True)
class DirectoryFact(ShellFact[tuple[str, int] | None]):
    """Owner ("uid:gid") and mode of the directory at `path`; None when nothing is there."""

    path: str
    kind: ClassVar[str] = "directory"

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"directory:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        path = shlex.quote(self.path)
        return f"[ -e {path} ] || exit {NOTHING_THERE}; stat {_STAT} {path}"

    @staticmethod
    def together(questions: Sequence[DirectoryFact]) -> Joint:
        """Return how many of them are asked at once."""
        return statted([question.path for question in questions], _STAT, [""] * len(questions))

    def parse(self, output: Output) -> tuple[str, int] | None:
        """Read the answer."""
        if output.status == NOTHING_THERE:
            return None
        if not output.ok:
            raise NotKnown(f"{self.path} cannot be read: {output.stdout.strip()}")
        owner, mode, kind = output.stdout.strip().split(" ", 2)
        if kind != "directory":
            raise NotKnown(f"{self.path} is a {kind}, not a directory")
        return owner, int(mode, 8)


@dataclass(frozen=True)
class ListingFact(ShellFact[frozenset[str]]):
    """The names in the directory `path`; none where there is no such directory."""

    path: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"listing:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment."""
        return f"ls -A {shlex.quote(self.path)} 2>/dev/null; true"

    def parse(self, output: Output) -> frozenset[str]:
        """Read the answer."""
        return frozenset(output.stdout.splitlines())


class Directory(Resource):
    """A directory with this owner ("uid:gid") and mode."""

    def __init__(self, path: str, *, owner: str = "0:0", mode: int = 0o755) -> None:
        self.id = f"directory:{path}"
        self.path, self.owner, self.mode = path, owner, mode
        self._fact = DirectoryFact(path)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return owner and mode."""
        return {"owner": self.owner, "mode": f"{self.mode:04o}"}

    def have(self, facts: Facts) -> Want:
        """Return what the host has."""
        found = facts.get(self._fact)
        return {"owner": found[0], "mode": f"{found[1]:04o}"} if found else ABSENT

    def fix(self, site: Site, change: Change) -> None:
        """Make the directory, or set owner and mode of the one there; its content stays untouched."""
        user, group = self.owner.split(":")
        mode = f"{self.mode:04o}"
        site.host.run(["install", "-d", "-o", user, "-g", group, "-m", mode, self.path])
