"""The part of step 00 that is about certificates: kept fresh, and no authority made for a cluster that has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import Refused
from kbpg.facts import Fact, Facts, LocalFact
from kbpg.inventory import Host
from kbpg.layout import layout
from kbpg.model import ABSENT, CONTROLLER, Change, Placed, Resource, Stage, Want
from kbpg.pki.model import CA, certificate_file, key_file
from kbpg.pki.store import Stored, load, write
from kbpg.resources.file import FileFact

CERTIFICATE = "server.crt"
"""The name of a host's certificate on the host."""


def on_host(context: Context, host: Host, name: str) -> str:
    """Return the path of a file on the host, beside the configuration of the program that shows it to clients."""
    paths = layout(context)
    return f"{paths.patroni if host.role == 'db' else paths.pgbouncer}/tls/{name}"


@dataclass(frozen=True)
class StoredFact(LocalFact[Stored]):
    """What is in the directory of certificates on the controller."""

    directory: Path

    @classmethod
    def of(cls, context: Context) -> StoredFact:
        """Return the question for the inventory's directory."""
        return cls(context.inventory.pki_path)

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"certificates:{self.directory}"

    def read(self) -> Stored:
        """Read the files; whether others have a right to them was judged when the session was opened."""
        return load(self.directory, lenient=True)


class PkiSafe(Resource):
    """No authority is made up for a cluster that trusts one: without its key, this host must hold nothing of it."""

    id = "certificates:lost"

    def __init__(self, context: Context, host: Host) -> None:
        self._stored = StoredFact.of(context)
        self._there = FileFact(on_host(context, host, certificate_file(CA)))
        self.facts = (self._there,)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask the controller for its files, the host for an authority."""
        return [(CONTROLLER, self._stored), (place, self._there)]

    def want(self, facts: Facts) -> Want:
        """Return that nothing stands in the way."""
        return {"authority without its key": "none"}

    def have(self, facts: Facts) -> Want:
        """Return what the host trusts, if the key to it is missing."""
        if key_file(CA) in facts.get(self._stored, CONTROLLER).files or facts.get(self._there) is None:
            return self.want(facts)
        return {"authority without its key": self._there.path}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what is there, and what to do."""
        missing = self._stored.directory / key_file(CA)
        return [
            f"{missing} is missing, but this host has the certificate of an authority in {self._there.path}",
            f"hint: restore {self._stored.directory} from a backup; a new authority would lock out every client that "
            "trusts the old one (docs/tls.md says how to make one all the same)",
        ]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("no authority is made while hosts trust another one")


class PkiUnchanged(Resource):
    """The files hold what this run works with: they were read before the hosts were locked."""

    id = "certificates:as read"

    def __init__(self, context: Context) -> None:
        self._pki = context.pki
        self._fact = StoredFact.of(context)
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that nobody changed them."""
        return {"since they were read": "unchanged"}

    def have(self, facts: Facts) -> Want:
        """Return whether somebody did; a leaf that this run renews too does not matter."""
        stored, read = facts.get(self._fact).files, self._pki.files()
        authority = (certificate_file(CA), key_file(CA))
        checked = [name for name in read if name in stored]
        same = all(
            stored[name] == read[name] or (name in self._pki.fresh and name not in authority)
            for name in checked
        )
        return {"since they were read": "unchanged" if same else "changed"}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what happened, and what to do."""
        return [
            f"{self._fact.directory} was changed while this run began",
            "hint: run the same command again",
        ]

    def fix(self, site: Site, change: Change) -> None:
        """Never: this is a requirement."""
        raise Refused("the certificates were changed meanwhile")


class PkiFiles(Resource):
    """Every certificate and key is on the controller, good for its names and for a while."""

    def __init__(self, context: Context) -> None:
        self._pki = context.pki
        self._fact = StoredFact.of(context)
        self.id = f"certificates:{self._fact.directory}"
        self.facts = (self._fact,)

    def want(self, facts: Facts) -> Want:
        """Return that nothing is missing, and nothing out of date."""
        return {"missing": "none", "outdated": "none"}

    def have(self, facts: Facts) -> Want:
        """Return the names of the files that are."""
        stored = facts.get(self._fact)
        if not stored.files:
            return ABSENT
        found = stored.differing(self._pki)
        return {
            state: ", ".join(name for name, each in found.items() if each == state) or "none"
            for state in ("missing", "outdated")
        }

    def fix(self, site: Site, change: Change) -> None:
        """Write them; what is good stays as it is."""
        write(self._pki, site.facts.get(self._fact))


def requirements(context: Context) -> Iterator[Stage]:
    """Yield what must hold before anything is written; nothing is where the certificates are the user's own."""
    if context.pki.ca_key is None:
        return
    hosts = context.inventory.hosts
    lost = tuple(Placed(host.name, PkiSafe(context, host)) for host in hosts)
    yield Stage("no cluster without its authority", lost, requirement=True, unlimited=True)
    yield Stage("certificates as read", (Placed(CONTROLLER, PkiUnchanged(context)),), requirement=True)


def stages(context: Context) -> Iterator[Stage]:
    """Yield the stage that writes them."""
    if context.pki.ca_key is not None:
        yield Stage("certificates", (Placed(CONTROLLER, PkiFiles(context)),))
