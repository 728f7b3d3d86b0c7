"""What is in PostgreSQL: the database, roles and their passwords, settings that protect data."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from kbpg.facts import REFUSED, Fact
from kbpg.health.check import LEADERLESS, Check, Seen
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI, USER
from kbpg.model import ABSENT, CLUSTER, Resource
from kbpg.render import sql_identifier
from kbpg.resources.roles import ManagedRole
from kbpg.resources.sql import Database, Role
from kbpg.resources.unmanaged import Unmanaged

CROWDED = 0.9
"""Share of max_connections in use that is worth a warning."""


def by_step(number: str, will: str, risk: str = "none") -> Repair:
    return Repair(Action.APPLY_STEP, CLUSTER, will, risk, {"step": number})


def database(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that the application's database is not there."""
    for step, found in snapshot.differing(Database):
        name = found.placed.resource.id.removeprefix("database:")
        if found.change and found.change.have is ABSENT:
            others = snapshot.facts.known(_databases(found.placed.resource), snapshot.leader or "") or ()
            yield Seen(
                CLUSTER,
                f"there is no database {name} on {snapshot.leader}",
                tuple(f"there is: {row[0]}" for row in others),
                repair=by_step(
                    f"{step.number:02d}",
                    f"create the database {name}, empty",
                    "it is empty: what the old one held is in a backup alone, or in a database by another name; "
                    "applications write into the empty one",
                ),
                subject="" if name == snapshot.inventory.cluster.database else name,
            )


def _databases(resource: Resource) -> Fact[Any]:
    assert isinstance(resource, Database)  # noqa: S101 (`differing` yields no other)
    return resource.databases


def roles(snapshot: Snapshot, *, absent: bool) -> Iterable[Seen]:
    """Yield the roles that are missing, or whose password is not that of the credentials file."""
    for step, found in snapshot.differing(Role, ManagedRole):
        change, name = found.change, found.placed.resource.id.removeprefix("role:")
        number = f"{step.number:02d}"
        if change is None or (change.have is ABSENT) is not absent:
            continue
        if absent:
            seen, will = f"there is no role {name}", f"create the role {name}"
            risk = "what it owned and was granted before, kbpg's own grants apart, it does not get back"
        elif isinstance(change.have, Mapping) and change.have.get("password") == "differs":
            seen = f"the password of {name} is not the one in {snapshot.inventory.credentials_path.name}"
            will = f"set the password of {name} to the one in the credentials file"
            risk = "who logs in with the present password is refused from then on"
        else:
            continue
        yield Seen(
            CLUSTER,
            seen,
            remedy=f"{{kbpg}} step {number}",
            repair=by_step(number, will, risk),
            subject=name,
        )


def role_missing(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the roles that are missing."""
    return roles(snapshot, absent=True)


def role_password(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the roles with another password; of the superuser, when it keeps kbpg itself out."""
    yield from roles(snapshot, absent=False)
    user = snapshot.inventory.cluster.superuser
    for host in snapshot.db:
        why = snapshot.why_not(snapshot.ask.roles, host)
        if REFUSED in why:
            where = snapshot.leader or host
            command = (
                f"docker exec -it --user {USER} {PATRONI} psql -h /var/run/postgresql -U {user} -d postgres"
            )
            yield Seen(
                CLUSTER,
                f"kbpg cannot log in as {user}: its password is not the one in "
                f"{snapshot.inventory.credentials_path.name}",
                (f"{host}: {why}", r"there: \password, with the password of the credentials file"),
                snapshot.on_host(where, command),
                subject=user,
            )
            return


def unmanaged(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the databases and roles that the inventory does not name."""
    names, roles = Unmanaged(snapshot.context).found(snapshot.facts)
    for kind, found in (("database", names), ("role", roles)):
        for name in found:
            yield Seen(CLUSTER, f"{kind} {name} is not in the inventory", subject=f"{kind} {name}")


def scram(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the roles with a password that is not SCRAM, and rules that let others in without it."""
    leader = snapshot.leader
    found = snapshot.facts.known(snapshot.ask.roles, leader) if leader else None
    ours = {
        differing.placed.resource.id.removeprefix("role:"): step.number
        for step, differing in snapshot.differing(Role, ManagedRole)
    }
    for name, role in (found or {}).items():
        verifier = str(role["verifier"] or "")
        if role["login"] and verifier and not verifier.startswith("SCRAM-SHA-256$"):
            # A role that the inventory or kbpg itself knows gets the verifier of the password in the credentials file
            remedy = f"{{kbpg}} step {ours[name]:02d}" if name in ours else _asking_for(name)
            yield Seen(CLUSTER, f"the password of {name} is stored as MD5", remedy=remedy, subject=name)
    for host in snapshot.db:
        rules = snapshot.facts.known(snapshot.ask.views.rules, host) or ()
        weak = [r for r in rules if r[4] in ("trust", "md5", "password") and r[0] != "local"]
        for kind, databases, users, address, method, _ in weak:
            line = f"{kind} {databases} {users} {address} {method}"
            yield Seen(
                host, f"pg_hba lets clients in with `{method}`", (line,), "{kbpg} step 02", subject=line
            )


def _asking_for(name: str) -> str:
    """Return the command that asks for a new password of a role of nobody's, as the superuser: others may not."""
    # psql runs what stands in backquotes, and a role may be called anything
    asked = f"\\password {name}" if name.isidentifier() and name.isascii() else None
    word = f'"{asked}"' if asked else shlex.quote(f"\\password {sql_identifier(name)}")
    return f"{{kbpg}} psql -c {word}"


def crowded(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the nodes that are about to refuse connections."""
    for host in snapshot.db:
        rows = snapshot.facts.known(snapshot.ask.views.connections, host)
        most = snapshot.settings(host).get("max_connections", ("", "", False))[0]
        if rows and most.isdigit() and int(rows[0][0]) > CROWDED * int(most):
            yield Seen(host, f"{rows[0][0]} of {most} connections are taken")


CHECKS = (
    Check(
        "role-missing",
        "role missing",
        Severity.CRITICAL,
        "who logs in as this role is refused",
        "{kbpg} apply-all",
        role_missing,
        explained_by=LEADERLESS,
    ),
    Check(
        "role-password",
        "password differs from the credentials file",
        Severity.CRITICAL,
        "whoever uses the password of the credentials file is refused",
        "{kbpg} apply-all",
        role_password,
        explained_by=LEADERLESS,
    ),
    Check(
        "database-missing",
        "database missing",
        Severity.CRITICAL,
        "the application cannot connect; if it was dropped, its data is in a backup only",
        "{kbpg} step 05",
        database,
        explained_by=LEADERLESS,
    ),
    Check(
        "unmanaged",
        "not in the inventory",
        Severity.NOTICE,
        "it was made by hand, or left the inventory; kbpg does nothing about it and never drops it",
        "add it to databases: or roles: in the inventory, or drop it by hand",
        unmanaged,
        explained_by=LEADERLESS,
    ),
    Check(
        "scram-missing",
        "SCRAM is not used",
        Severity.CRITICAL,
        "passwords can be taken from the network or from the catalogue and used as they are",
        "{kbpg} psql -c '\\password NAME'",
        scram,
        explained_by=(),
    ),
    Check(
        "connections-full",
        "nearly all connections are taken",
        Severity.WARNING,
        "new connections are about to be refused",
        "{kbpg} status",
        crowded,
    ),
)
