"""A lost credentials file, put together again from what the hosts themselves use: nothing is shown on the way.

Patroni's secrets.yml and PgBouncer's userlist.txt hold passwords in plain text. The application's password is
nowhere: the server keeps a verifier of it, with which a remembered one can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import yaml

from kbpg import scram
from kbpg.context import Context
from kbpg.credentials import Credentials, generate_password
from kbpg.engine.site import Site
from kbpg.errors import HostError, Refused
from kbpg.hosts.port import Writer
from kbpg.secret import Secret
from kbpg.steps.layout import (
    OWNER,
    PATRONI,
    POOLER_USER,
    REPLICATION_USER,
    REWIND_USER,
    layout,
)

APP_PASSWORD = "POSTGRES_APP_PASS"  # noqa: S105 (a name)
_IN_PATRONI = {
    "POSTGRES_SUPERPASS": ("postgresql", "authentication", "superuser", "password"),
    "POSTGRES_REPLICATION_PASS": ("postgresql", "authentication", "replication", "password"),
    "POSTGRES_REWIND_PASS": ("postgresql", "authentication", "rewind", "password"),
    "RAFT_PASS": ("raft", "password"),
    "PATRONI_REST_PASS": ("restapi", "authentication", "password"),
}
_IN_PGBOUNCER = "PGBOUNCER_AUTH_PASS"
_USER = re.compile(rf'^"{POOLER_USER}" "((?:[^"]|"")*)"$', re.MULTILINE)
_VERIFIERS = "select rolname || ' ' || coalesce(rolpassword, '') from pg_catalog.pg_authid where rolcanlogin"


@dataclass(frozen=True)
class Remains:
    """What the hosts still know. `passwords` by name of the file, `sources` the hosts that have it.

    `differing` are names of which hosts have several values; `verifiers` are the server's, by role, empty where no
    PostgreSQL answers; `silent` is what could not be read, by host.
    """

    superuser: str = ""
    passwords: Mapping[str, Secret] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    differing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    verifiers: Mapping[str, str] = field(default_factory=dict, repr=False)
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Return the names that no host knows, but for the application's."""
        return [name for name in (*_IN_PATRONI, _IN_PGBOUNCER) if name not in self.passwords]


def look(site: Site) -> Remains:
    """Read what the connected hosts have. Changes nothing, and writes nothing down."""
    names = [host.name for host in site.context.inventory.hosts if host.name in site.hosts]
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        read = dict(zip(names, pool.map(lambda name: _read(site, name), names), strict=True))
    values: dict[str, dict[str, list[str]]] = {}
    for name, found in read.items():
        for key, value in found.passwords.items():
            values.setdefault(key, {}).setdefault(value.reveal(), []).append(name)
    superusers = {found.superuser for found in read.values() if found.superuser}
    return Remains(
        superuser=" or ".join(sorted(superusers)),
        passwords={key: Secret(next(iter(each))) for key, each in values.items()},
        sources={key: tuple(n for hosts in each.values() for n in hosts) for key, each in values.items()},
        differing={
            key: tuple(n for hosts in each.values() for n in hosts)
            for key, each in values.items()
            if len(each) > 1
        },
        verifiers=next((found.verifiers for found in read.values() if found.verifiers), {}),
        silent={name: why for found in read.values() for name, why in found.silent.items()},
    )


def _read(site: Site, name: str) -> Remains:
    host, paths = site.hosts[name], layout(site.context)
    try:
        if name not in site.context.db_names:
            return _pooler(_text(host, f"{paths.pgbouncer}/userlist.txt"))
        return _node(site.context, host, _text(host, f"{paths.patroni}/secrets.yml"))
    except (HostError, yaml.YAMLError, ValueError) as error:
        # Not the error of a parser: it shows the text
        why = error.reason if isinstance(error, HostError) else "its file with passwords cannot be understood"
        return Remains(silent={name: why})


def _text(host: Writer, path: str) -> str:
    output = host.run(["cat", path], check=False)
    if not output.ok:
        raise HostError(host.name, f"{path} cannot be read")
    return output.stdout


def _pooler(text: str) -> Remains:
    found = _USER.search(text)
    return Remains(passwords={_IN_PGBOUNCER: Secret(found[1].replace('""', '"'))} if found else {})


def _node(context: Context, host: Writer, text: str) -> Remains:
    settings = yaml.safe_load(text)
    passwords = {}
    for name, path in _IN_PATRONI.items():
        value = _at(settings, path)
        if isinstance(value, str):
            passwords[name] = Secret(value)
    superuser = _at(settings, ("postgresql", "authentication", "superuser", "username"))
    return Remains(str(superuser or ""), passwords, verifiers=_verifiers(context, host, str(superuser)))


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _verifiers(context: Context, host: Writer, superuser: str) -> dict[str, str]:
    """Return the verifiers of all roles that may log in, over the node's socket, which asks for no password."""
    port = str(context.inventory.ports.postgresql)
    psql = ["psql", "-XAtq", "-U", superuser, "-p", port, "-d", "postgres", "-c", _VERIFIERS]
    try:
        output = host.run(["docker", "exec", "--user", OWNER, PATRONI, *psql], check=False)
    except HostError:
        return {}
    if not output.ok:
        return {}
    rows = (line.partition(" ") for line in output.stdout.splitlines())
    return {role: verifier for role, _, verifier in rows}


def why_not_recover(context: Context, seen: Remains) -> Refused | None:
    """Return why no file can be made of this, or None."""
    silent = [f"{name}: {why}" for name, why in seen.silent.items()]
    if seen.differing:
        return Refused(
            "the hosts do not agree on their passwords",
            detail=[f"{name}: differs between {', '.join(hosts)}" for name, hosts in seen.differing.items()],
            hint="a run was left half-way; which is in force, the server's logs tell",
        )
    if seen.missing:
        return Refused(
            f"no host has {', '.join(seen.missing)}",
            detail=silent,
            hint="bring a host with them back, or restore the file from your copy",
        )
    wanted = context.inventory.cluster.superuser
    if seen.superuser != wanted:
        return Refused(
            f"the cluster's superuser is {seen.superuser}, but cluster.superuser in the inventory is {wanted}"
        )
    wrong = [name for name, fits in checks(context, seen).items() if fits is False]
    if wrong:
        return Refused(
            "the passwords on the hosts are not those of the server",
            detail=wrong,
            hint="they were changed by hand; set them back with kbpg psql, then again",
        )
    return None


def checks(context: Context, seen: Remains) -> dict[str, bool | None]:
    """Return of each role's password, by name, whether the server's verifier fits; None where it does not tell."""
    roles = {
        "POSTGRES_SUPERPASS": context.inventory.cluster.superuser,
        "POSTGRES_REPLICATION_PASS": REPLICATION_USER,
        "POSTGRES_REWIND_PASS": REWIND_USER,
        _IN_PGBOUNCER: POOLER_USER,
    }
    return {
        name: scram.matches(seen.verifiers[role], seen.passwords[name])
        if role in seen.verifiers and name in seen.passwords
        else None
        for name, role in roles.items()
    }


def fits_application(context: Context, seen: Remains, password: Secret) -> bool:
    """Return whether this is the application's password. Raises `Refused` where no server can tell."""
    stored = seen.verifiers.get(context.inventory.cluster.app_user)
    if stored is None:
        raise Refused(
            "no PostgreSQL tells whether that is the application's password",
            hint="start a db host, or --new-app-password",
        )
    return scram.matches(stored, password)


def credentials_of(context: Context, seen: Remains, app_password: Secret | None) -> Credentials:
    """Return the credentials; without `app_password` a new one is made."""
    cluster, found = context.inventory.cluster, seen.passwords
    return Credentials(
        superuser=cluster.superuser,
        app_user=cluster.app_user,
        superuser_password=found["POSTGRES_SUPERPASS"],
        app_password=app_password or generate_password(),
        replication_password=found["POSTGRES_REPLICATION_PASS"],
        rewind_password=found["POSTGRES_REWIND_PASS"],
        pgbouncer_password=found[_IN_PGBOUNCER],
        raft_password=found["RAFT_PASS"],
        rest_password=found["PATRONI_REST_PASS"],
    )
