"""The inventory as a whole."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from kbpg.errors import UsageError
from kbpg.home import expanded
from kbpg.inventory.build import BaseImages, Build, Prepare
from kbpg.inventory.cluster import Cluster, Ports, Timers, Versions
from kbpg.inventory.databases import EmptyList, OwnDatabase, OwnRole
from kbpg.inventory.drills import Drills
from kbpg.inventory.hosts import DbHost, Host, ProxyHost, Ssh, SshSettings
from kbpg.inventory.networks import EVERYWHERE, LOOPBACK
from kbpg.inventory.presets import DEFAULT, with_preset
from kbpg.inventory.section import Section
from kbpg.inventory.services import Haproxy, Pgbouncer, Postgresql
from kbpg.inventory.tls import Tls
from kbpg.inventory.types import LocalPath, as_plain

Failover = Annotated[Literal["fast", "balanced", "tolerant"], BeforeValidator(as_plain)]


class Inventory(Section):
    """What must be. Made by `kbpg.inventory.load`, which also checks the rules between the fields."""

    cluster: Cluster = Field(description="the cluster's names and its promise about acknowledged commits")
    credentials: LocalPath = Field(
        "credentials/postgres.env", description="the credentials file, relative to the inventory"
    )
    versions: Versions = Field(Versions(), description="the versions to install")
    failover: Failover = Field(
        DEFAULT,
        description="preset of the timers of Patroni, HAProxy and PgBouncer: the defaults of the keys listed under "
        "Failover presets",
    )
    timers: Timers = Field(
        Timers(),
        description="Patroni's timers; loop_wait + 2 * retry_timeout <= ttl and 2 * (loop_wait + 4) <= ttl",
    )
    ports: Ports = Field(Ports(), description="TCP ports, 1024 or higher")
    postgresql: Postgresql = Field(Postgresql(), description="what PostgreSQL may use, and its settings")
    haproxy: Haproxy = Field(Haproxy(), description="HAProxy's limits and how fast it notices")
    pgbouncer: Pgbouncer = Field(Pgbouncer(), description="PgBouncer's pools (transaction mode)")
    tls: Tls = Field(
        Tls(), description="encryption between all programs and to clients; a plain word is the mode"
    )
    databases: Annotated[tuple[OwnDatabase, ...], Field(strict=False), EmptyList] = Field(
        (),
        description="databases besides cluster.database; one that is removed here is reported, never dropped",
    )
    roles: Annotated[tuple[OwnRole, ...], Field(strict=False), EmptyList] = Field(
        (),
        description="roles besides the superuser and the application's; one that is removed here is reported, never "
        "dropped",
    )
    ssh: SshSettings = Field(
        SshSettings(), description="how SSH reaches the hosts, unless a host says otherwise"
    )
    build: Build = Field(Build(), description="where and how the images are built")
    prepare: Prepare = Field(
        Prepare(), description="what may be changed on the hosts, and what is asked of them"
    )
    drills: Drills = Field(Drills(), description="how kbpg drill switches hosts off and on")
    db: Annotated[tuple[DbHost, ...], Field(strict=False, json_schema_extra={"minItems": 3})] = Field(
        description="the hosts that run PostgreSQL: three, or a larger odd number; the first starts as leader"
    )
    proxies: Annotated[tuple[ProxyHost, ...], Field(strict=False, json_schema_extra={"minItems": 1})] = Field(
        description="the hosts that run HAProxy and PgBouncer: at least one, two for high availability"
    )

    _path: Path = PrivateAttr(default=Path("inventory.yaml"))

    @model_validator(mode="before")
    @classmethod
    def _preset_gives_defaults(cls, value: Any) -> Any:
        return with_preset(value)

    @property
    def path(self) -> Path:
        """The inventory file, as it was given."""
        return self._path

    @property
    def directory(self) -> Path:
        """The absolute directory of the inventory file; relative paths in it start here."""
        return self._path.absolute().parent

    @property
    def credentials_path(self) -> Path:
        """The absolute path of the credentials file."""
        return self.resolve(self.credentials)

    @property
    def pki_path(self) -> Path:
        """The absolute directory of the certificates and keys that kbpg issues, beside the credentials file."""
        return self.credentials_path.parent / "pki"

    @property
    def own_certificates_path(self) -> Path | None:
        """The absolute path of `tls.certificates`."""
        return self.resolve(self.tls.certificates) if self.tls.certificates else None

    @property
    def ca_bundle_path(self) -> Path | None:
        """The absolute path of `build.ca_bundle`."""
        return self.resolve(self.build.ca_bundle) if self.build.ca_bundle else None

    @property
    def wheels_path(self) -> Path | None:
        """The absolute path of `build.wheels`."""
        return self.resolve(self.build.wheels) if self.build.wheels else None

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts in the inventory's order: db, then proxies."""
        return (*self.db, *self.proxies)

    @property
    def first_db(self) -> DbHost:
        """The db host that leads after a first install."""
        return self.db[0]

    @property
    def images(self) -> BaseImages:
        """The base images: those of `build.images`, or the ones that follow from `versions`."""
        chosen, versions = self.build.images, self.versions
        return BaseImages(
            python=chosen.python or f"python:{versions.python}-slim-trixie",
            pgvector=chosen.pgvector
            or f"pgvector/pgvector:{versions.pgvector}-pg{versions.postgresql}-trixie",
            debian=chosen.debian or "debian:trixie-slim",
        )

    def listens_at(self, proxy: Host) -> tuple[str, ...]:
        """Return the addresses at which a proxy takes clients."""
        return (EVERYWHERE,) if self.cluster.proxy_listen == "any" else (proxy.address, LOOPBACK)

    @property
    def login_roles(self) -> tuple[str, ...]:
        """The names of the roles under `roles:` that log in, and so have a password."""
        return tuple(role.name for role in self.roles if role.login)

    @property
    def database_names(self) -> tuple[str, ...]:
        """The names of the application's database and of those under `databases:`."""
        return (self.cluster.database, *(database.name for database in self.databases))

    def owner_of(self, database: OwnDatabase) -> str:
        """Return who owns a database of the list."""
        return database.owner or self.cluster.app_user

    def host(self, name: str) -> Host:
        """Return the host of that name; raises UsageError."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = [host.name for host in self.hosts]
        close = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"no host {name} in {self._path}" + (f", did you mean {close[0]}?" if close else ""),
            hint=f"hosts: {', '.join(names)}",
        )

    def resolve(self, path: str) -> Path:
        """Return `path` absolute: `~/` expanded, relative to the inventory's directory."""
        return self.directory / expanded(path)

    def ssh_for(self, host: Host) -> Ssh:
        """Return how SSH reaches `host`: its own settings first, then those of all hosts."""
        own, shared = host.ssh, self.ssh
        key = own.key or shared.key
        known_hosts = own.known_hosts or shared.known_hosts
        return Ssh(
            host=own.host,
            port=own.port or shared.port,
            user=own.user or shared.user,
            key=self.resolve(key) if key else None,
            jump=own.jump or shared.jump,
            known_hosts=self.resolve(known_hosts) if known_hosts else None,
            connect_timeout=own.connect_timeout or shared.connect_timeout,
            sudo=shared.sudo if own.sudo is None else own.sudo,
            fingerprints=own.fingerprint,
            # Of another jump host than all others' they would be wrong
            jump_fingerprints=own.jump_fingerprint or (() if own.jump else shared.jump_fingerprint),
        )
