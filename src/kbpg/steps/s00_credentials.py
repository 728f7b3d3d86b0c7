"""Step 00: the credentials file, generated once, completed where names are missing, never replaced; certificates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbpg import credentials
from kbpg.context import Context
from kbpg.credentials import Found
from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Fact, Facts, LocalFact
from kbpg.layout import PATRONI, layout
from kbpg.model import ABSENT, CONTROLLER, Change, Placed, Resource, Stage, Step, Want
from kbpg.resources.directory import DirectoryFact
from kbpg.resources.docker import DB_CONTAINERS, LABEL_SPEC, PROXY_CONTAINERS
from kbpg.resources.file import FileFact
from kbpg.resources.identity import record_path
from kbpg.steps import authority, databases


@dataclass(frozen=True)
class CredentialsFact(LocalFact[Found | None]):
    """What is in the credentials file; None when there is none."""

    path: Path
    roles: tuple[str, ...] = ()

    @classmethod
    def of(cls, context: Context) -> CredentialsFact:
        """Return the question for the inventory's file, with the passwords that it should have."""
        return cls(context.inventory.credentials_path, context.inventory.login_roles)

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"credentials:{self.path}"

    def read(self) -> Found | None:
        """Read the file."""
        return credentials.load(self.path, self.roles)


class Safe(Resource):
    """No credentials are made up for a cluster that exists: without a file, this host must hold nothing of it."""

    id = "credentials:lost"

    def __init__(self, context: Context) -> None:
        paths = layout(context)
        self._file = CredentialsFact.of(context)
        self._data = DirectoryFact(paths.pgdata)
        self._record = FileFact(record_path(paths.base))
        self.facts: tuple[Fact[object], ...] = (DB_CONTAINERS, self._data, self._record)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask the controller for the file, the host for traces of a cluster."""
        return [(CONTROLLER, self._file), *((place, fact) for fact in self.facts)]

    def want(self, facts: Facts) -> Want:
        """Return that nothing stands in the way."""
        return {"traces of a cluster": "none"}

    def have(self, facts: Facts) -> Want:
        """Return what there is of a cluster, if the file is missing."""
        if facts.get(self._file, CONTROLLER) is not None:
            return self.want(facts)
        traces = [name for name, there in self._traces(facts) if there]
        return {"traces of a cluster": ", ".join(traces) or "none"}

    def _traces(self, facts: Facts) -> list[tuple[str, bool]]:
        return [
            (f"container {PATRONI}", PATRONI in facts.get(DB_CONTAINERS)),
            (f"data in {self._data.path}", facts.get(self._data) is not None),
            (f"a record in {self._record.path}", self._claimed(facts)),
        ]

    def _claimed(self, facts: Facts) -> bool:
        """Return whether the host's record names a cluster that was born; a mere claim holds no data."""
        found = facts.get(self._record)
        return found is not None and '"system_identifier": ""' not in (found.text or "")

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what is there, and what to do."""
        return [
            f"{self._file.path} is missing, but this host holds {'; '.join(self._values(change))}",
            "hint: restore the file from a backup, or kbpg credentials recover; a new one would lock everybody out",
        ]

    def _values(self, change: Change) -> list[str]:
        return [str(value) for value in change.have.values()] if isinstance(change.have, dict) else []

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("credentials are not generated while a cluster exists")


class SafeProxy(Safe):
    """The same of a proxy: while it serves a cluster, there is one, whatever the db hosts say."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.facts = (PROXY_CONTAINERS,)

    def _traces(self, facts: Facts) -> list[tuple[str, bool]]:
        """Return the containers that kbpg started: somebody else's say nothing of this cluster."""
        found = facts.get(PROXY_CONTAINERS)
        return [
            (f"container {name}", LABEL_SPEC in ((container.get("Config") or {}).get("Labels") or {}))
            for name, container in found.items()
        ]


class Unchanged(Resource):
    """The file holds what this run works with: it was read before the hosts were locked."""

    id = "credentials:as read"

    def __init__(self, context: Context) -> None:
        self._values = (context.former or context.credentials).values()
        self._fact = CredentialsFact.of(context)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that nobody changed it."""
        return {"since it was read": "unchanged"}

    def have(self, facts: Facts) -> Want:
        """Return whether somebody did."""
        found = facts.get(self._fact)
        values = found.values if found else {}
        same = all(self._values.get(name) == value for name, value in values.items() if name in self._values)
        return {"since it was read": "unchanged" if same else "changed"}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what happened, and what to do."""
        return [f"{self._fact.path} was changed while this run began", "hint: run the same command again"]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("the credentials file was changed meanwhile")


class CredentialsFile(Resource):
    """The file has all names, and only its owner may read it."""

    def __init__(self, context: Context) -> None:
        self._path = context.inventory.credentials_path
        self._context = context
        self._fact = CredentialsFact.of(context)
        self.id = f"file:{self._path}"
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that nothing is missing, and the mode."""
        return {"missing": "none", "mode": "0600"}

    def have(self, facts: Facts) -> Want:
        """Return what the file lacks."""
        found = facts.get(self._fact)
        if found is None:
            return ABSENT
        return {"missing": ", ".join(found.missing) or "none", "mode": f"{found.mode or 0:04o}"}

    def fix(self, site: Site, change: Change) -> None:
        """Write the file, what stands in it untouched."""
        found = site.facts.get(self._fact)
        credentials.write(self._path, credentials.render(self._context.credentials, found))


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 00."""
    lost = [Placed(name, Safe(context)) for name in context.db_names]
    lost += [Placed(name, SafeProxy(context)) for name in context.proxy_names]
    return (
        Stage("no cluster without its credentials", tuple(lost), requirement=True, unlimited=True),
        *databases.requirements(context),
        Stage("credentials as read", (Placed(CONTROLLER, Unchanged(context)),), requirement=True),
        *authority.requirements(context),
        Stage("file", (Placed(CONTROLLER, CredentialsFile(context)),)),
        *authority.stages(context),
    )


STEP = Step(0, "credentials", "generate or complete credentials/postgres.env and the certificates", stages)
