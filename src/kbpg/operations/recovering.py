"""A lost credentials file, put together again from what the hosts themselves use: nothing is shown on the way.

Patroni's secrets.yml and PgBouncer's userlist.txt hold passwords in plain text. The application's password is
nowhere: the server keeps a verifier of it, with which a remembered one can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kbpg import scram
from kbpg.adoption.in_use import PatroniInUseFact, PoolerInUseFact
from kbpg.adoption.passwords import compared, passwords_of, unfit
from kbpg.context import Context
from kbpg.credentials import PASSWORDS, Credentials, generate_password
from kbpg.engine.site import Site
from kbpg.errors import HostError, Refused
from kbpg.facts import NotKnown
from kbpg.layout import OWNER, PATRONI, POOLER_USER, REPLICATION_USER, REWIND_USER, layout
from kbpg.secret import Secret

APP_PASSWORD = "POSTGRES_APP_PASS"  # noqa: S105 (a name)
_POOLER = "PGBOUNCER_AUTH_PASS"
RECOVERABLE = tuple(name for name in PASSWORDS if name != APP_PASSWORD)
"""The names of the file whose passwords some host has."""
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
    differing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verifiers: Mapping[str, str] = field(default_factory=dict, repr=False)
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Return the names that no host knows, but for the application's."""
        return [name for name in RECOVERABLE if name not in self.passwords]


def look(site: Site) -> Remains:
    """Read what the connected hosts have. Changes nothing, and writes nothing down."""
    context, paths = site.context, layout(site.context)
    patroni = PatroniInUseFact(f"{paths.patroni}/secrets.yml")
    pooler = PoolerInUseFact(f"{paths.pgbouncer}/userlist.txt")
    facts = site.look(
        {**dict.fromkeys(context.db_names, (patroni,)), **dict.fromkeys(context.proxy_names, (pooler,))}
    )
    told: dict[str, dict[str, Secret]] = {}
    silent: dict[str, str] = {}
    superusers: set[str] = set()
    for name in context.db_names:
        try:
            running = facts.get(patroni, name)
        except NotKnown as reason:
            silent[name] = reason.reason
            continue
        if running and "superuser" in running.roles:
            user, password = running.roles["superuser"]
            superusers.add(user)
            told[name] = {"POSTGRES_SUPERPASS": password, **passwords_of(running)}
    for name in context.proxy_names:
        if found := facts.known(pooler, name):
            told[name] = {_POOLER: found}
    agreed, differing = compared(told)
    sources = {key: tuple(host for host in told if key in told[host]) for key in agreed}
    user = " or ".join(sorted(superusers))
    return Remains(user, agreed, sources, differing, _verifiers(site, user), silent)


def _verifiers(site: Site, superuser: str) -> dict[str, str]:
    """Return the verifiers of all roles that may log in, from the first node that tells; {} where none does.

    Asked over the node's socket, which wants no password.
    """
    port = str(site.context.inventory.ports.postgresql)
    psql = ["psql", "-XAtq", "-U", superuser, "-p", port, "-d", "postgres", "-c", _VERIFIERS]
    for host in (site.hosts[name] for name in site.context.db_names if name in site.hosts):
        try:
            output = host.run(["docker", "exec", "--user", OWNER, PATRONI, *psql], check=False)
        except HostError:
            continue
        if output.ok:
            rows = (line.partition(" ") for line in output.stdout.splitlines())
            return {role: verifier for role, _, verifier in rows}
    return {}


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
    if unfit(seen.passwords):
        return _unfit(seen)
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


def _unfit(seen: Remains) -> Refused:
    return Refused(
        "a credentials file cannot hold the passwords in use",
        detail=[f"{name} {why}" for name, why in unfit(seen.passwords).items()],
        hint="change them with kbpg psql and in the hosts' files, then again",
    )


def checks(context: Context, seen: Remains) -> dict[str, bool | None]:
    """Return of each role's password, by name, whether the server's verifier fits; None where it does not tell."""
    roles = {
        "POSTGRES_SUPERPASS": context.inventory.cluster.superuser,
        "POSTGRES_REPLICATION_PASS": REPLICATION_USER,
        "POSTGRES_REWIND_PASS": REWIND_USER,
        _POOLER: POOLER_USER,
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
        pgbouncer_password=found[_POOLER],
        raft_password=found["RAFT_PASS"],
        rest_password=found["PATRONI_REST_PASS"],
    )
