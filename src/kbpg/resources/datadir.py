"""Owner and mode of PostgreSQL's data directory, once there is one; its content is never touched."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.facts import Facts, NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.model import ABSENT, Change, Resource, Want
from kbpg.resources.paths import NOTHING_THERE

CHOWN_TIMEOUT = 600.0
"""Seconds to give all files of a large database back to their owner; about a million files a minute."""


@dataclass(frozen=True)
class DataDirectory:
    """Owner ("uid:gid") and mode of the directory, and the first entry found that belongs to somebody else."""

    owner: str
    mode: int
    stranger: str


@dataclass(frozen=True)
class DataDirectoryFact(ShellFact[DataDirectory | None]):
    """The directory at `path`; None when nothing is there. Entries are looked at two levels deep: a restore or a
    copy by hand changes the owner of everything, and a look at every file would cost minutes."""

    path: str
    uid: int

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"data directory:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment. Files that PostgreSQL removes meanwhile are no error."""
        path = shlex.quote(self.path)
        return (
            f"[ -d {path} ] || exit {NOTHING_THERE}; stat -L -c '%u:%g %a' {path} && "
            f"{{ find {path}/ -maxdepth 2 ! -uid {self.uid} -print -quit 2>/dev/null; true; }}"
        )

    def parse(self, output: Output) -> DataDirectory | None:
        """Read the answer."""
        if output.status == NOTHING_THERE:
            return None
        if not output.ok:
            raise NotKnown(f"{self.path} cannot be read: {output.stderr.strip()}")
        stat, _, stranger = output.stdout.partition("\n")
        owner, mode = stat.split()
        return DataDirectory(owner, int(mode, 8), stranger.strip())


class DataDirectoryOwner(Resource):
    """The data directory, if there is one, belongs to `uid` with all that is in it, and only that user may look.

    PostgreSQL refuses to start with any mode but 0700 and 0750; initdb makes 0700.
    """

    def __init__(self, path: str, *, uid: int, gid: int, mode: int = 0o700) -> None:
        self.id = f"data directory:{path}"
        self._path, self._mode = path, mode
        self._uid, self._owner = uid, f"{uid}:{gid}"
        self._fact = DataDirectoryFact(path, uid)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return owner and mode, or nothing where there is no data."""
        if facts.get(self._fact) is None:
            return ABSENT
        return {"owner": self._owner, "mode": f"{self._mode:04o}", "files of others": "none"}

    def have(self, facts: Facts) -> Want:
        """Return what the host has."""
        found = facts.get(self._fact)
        if found is None:
            return ABSENT
        stranger = found.stranger.removeprefix(f"{self._path}/") or "."
        others = stranger if found.stranger else "none"
        return {"owner": found.owner, "mode": f"{found.mode:04o}", "files of others": others}

    def fix(self, site: Site, change: Change) -> None:
        """Give back ownership; links are not followed, so tablespaces elsewhere are left alone."""
        if not change.only("mode"):
            site.host.run(["chown", "-R", "-h", self._owner, self._path], timeout=CHOWN_TIMEOUT)
        if "mode" in change.names():
            site.host.run(["chmod", f"{self._mode:04o}", self._path])
