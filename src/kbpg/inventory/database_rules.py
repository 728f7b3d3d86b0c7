"""What must hold between databases, roles and grants: known names, no two alike, nothing reserved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kbpg.inventory.databases import UNNAMED
from kbpg.inventory.document import Loc
from kbpg.inventory.host_rules import Found
from kbpg.inventory.models import Inventory
from kbpg.inventory.reserved import READ_SUFFIX, RESERVED_DATABASES, RESERVED_ROLES, read_name
from kbpg.inventory.show import shown

LONGEST_DATABASE = 63 - len(READ_SUFFIX)
"""NAMEDATALEN - 1, less what PgBouncer's name for reads adds; names are ASCII."""

GROUPS = frozenset(
    {
        "pg_checkpoint",
        "pg_monitor",
        "pg_read_all_data",
        "pg_read_all_settings",
        "pg_read_all_stats",
        "pg_signal_backend",
        "pg_stat_scan_tables",
        "pg_use_reserved_connections",
        "pg_write_all_data",
    }
)
"""PostgreSQL 16's predefined roles (manual, 22.5) that a role may be a member of."""
DANGEROUS = frozenset({"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"})
"""Those whose members can become superuser, as the manual says there."""

ON_DATABASE = ("connect", "create", "none")
IN_SCHEMA = ("read", "write", "create", "none")


def too_long(name: str) -> str | None:
    """Return why PgBouncer could not serve a database of that name; None where it can."""
    if len(name) <= LONGEST_DATABASE:
        return None
    return (
        f"wanted at most {LONGEST_DATABASE} characters (PgBouncer also serves it as {read_name('NAME')}), "
        f"got {len(name)}: {shown(name)}"
    )


def database_names(inventory: Inventory) -> Iterator[Found]:
    """Names of databases: not reserved, not too long, and no two the same, not even for reads."""
    c = inventory.cluster
    taken = {
        c.database: "cluster.database",
        read_name(c.database): f"PgBouncer's name for reads of {c.database}",
    }
    for index, database in enumerate(inventory.databases):
        place: Loc = ("databases", index, "name")
        name = database.name
        if name in RESERVED_DATABASES:
            yield place, f'"{name}" is reserved: {RESERVED_DATABASES[name]}'
        elif long := too_long(name):
            yield place, long
        elif name in taken:
            yield place, f'"{name}" is also {taken[name]}'
        elif read_name(name) in taken:
            yield (
                place,
                f"PgBouncer's name for reads of it, {read_name(name)}, is also {taken[read_name(name)]}",
            )
        taken.setdefault(name, f"the name of databases[{index}]")
        taken.setdefault(read_name(name), f"PgBouncer's name for reads of {name}")


def database_lists(inventory: Inventory) -> Iterator[Found]:
    """Owners are known, no schema or extension stands twice."""
    known = {
        inventory.cluster.superuser,
        inventory.cluster.app_user,
        *(role.name for role in inventory.roles),
    }
    for index, database in enumerate(inventory.databases):
        if database.owner is not None and database.owner not in known:
            yield ("databases", index, "owner"), _no_role(database.owner, known)
        for key, names in (("schemas", database.schemas), ("extensions", database.extensions)):
            yield from _twice(("databases", index, key), names)
        for position, schema in enumerate(database.schemas):
            if schema in ("public", "information_schema"):
                yield ("databases", index, "schemas", position), f'"{schema}" is in every database already'


def _no_role(name: str, known: Iterable[str]) -> str:
    return f"no role {shown(name)} in this inventory, wanted one of {_listed(known)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if not name.startswith(UNNAMED)))


def _twice(place: Loc, names: Iterable[str]) -> Iterator[Found]:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            yield (*place, position), f'"{name}" stands here twice'
        seen.add(name)


def role_list(inventory: Inventory) -> Iterator[Found]:
    """Names of roles: not reserved, not the cluster's own, no two the same; limits that proxies can share.

    What holds for sessions is for roles that have some.
    """
    c = inventory.cluster
    taken = {c.superuser: "cluster.superuser", c.app_user: "cluster.app_user"}
    for index, role in enumerate(inventory.roles):
        place: Loc = ("roles", index, "name")
        if role.name in RESERVED_ROLES:
            yield place, f'"{role.name}" is reserved: {RESERVED_ROLES[role.name]}'
        elif role.name == "postgres":
            yield place, '"postgres" is reserved: by tradition a superuser, not an application'
        elif role.name in taken:
            yield place, f'"{role.name}" is also {taken[role.name]}'
        taken.setdefault(role.name, f"the name of roles[{index}]")
        if role.direct_from and not role.login:
            yield (
                ("roles", index, "direct_from"),
                f'"{role.name}" does not log in: wanted login: true, or no list',
            )
        for key in ("idle_in_transaction_timeout", "statement_timeout"):
            if getattr(role, key) is not None and not role.login:
                # What is set for a role holds for its own sessions, not for its members'
                yield (
                    ("roles", index, key),
                    f'"{role.name}" does not log in: wanted login: true, or no timeout',
                )
        limit, proxies = role.connection_limit, len(inventory.proxies)
        if limit is not None and limit < proxies:
            yield (
                ("roles", index, "connection_limit"),
                f"wanted {proxies} or more, one for each proxy's PgBouncer, got {limit}",
            )


def memberships(inventory: Inventory) -> Iterator[Found]:
    """Who is a member of what: known groups, no way to become superuser, no circles."""
    c = inventory.cluster
    known = {c.app_user, *(role.name for role in inventory.roles)}
    above = {role.name: set(role.member_of) for role in inventory.roles}
    for index, role in enumerate(inventory.roles):
        yield from _twice(("roles", index, "member_of"), role.member_of)
        for position, group in enumerate(role.member_of):
            place: Loc = ("roles", index, "member_of", position)
            if group in DANGEROUS or group == c.superuser:
                yield place, f"members of {group} can become superuser"
            elif group not in known | GROUPS:
                yield place, f"{_no_role(group, known)}, or of PostgreSQL's {_listed(GROUPS)}"
            elif role.name in _reached(group, above):
                yield place, f"{role.name} would be a member of itself"


def _reached(start: str, above: dict[str, set[str]]) -> set[str]:
    found, todo = {start}, [start]
    while todo:
        more = above.get(todo.pop(), set()) - found
        found |= more
        todo += more
    return found


def grants(inventory: Inventory) -> Iterator[Found]:
    """Grants: known databases and schemas, the kinds of access each has, none twice."""
    schemas = {database.name: {"public", *database.schemas} for database in inventory.databases}
    schemas[inventory.cluster.database] = {"public", inventory.cluster.app_user}
    owners = {database.name: inventory.owner_of(database) for database in inventory.databases}
    for index, role in enumerate(inventory.roles):
        yield from _twice(("roles", index, "grants"), (grant.on for grant in role.grants))
        for position, grant in enumerate(role.grants):
            place: Loc = ("roles", index, "grants", position)
            database, _, schema = grant.on.partition(".")
            if database not in schemas:
                names = _listed(schemas)
                yield (*place, "on"), f'no database "{database}" in this inventory, wanted one of {names}'
            elif schema and schema not in schemas[database]:
                names = ", ".join(sorted(schemas[database]))
                yield (
                    (*place, "on"),
                    f'no schema "{schema}" of {database} in this inventory, wanted one of {names}',
                )
            elif owners.get(database) == role.name:
                yield (*place, "on"), f"{role.name} owns {database}: it may do everything there"
            allowed = IN_SCHEMA if schema else ON_DATABASE
            if grant.access not in allowed:
                where = "in a schema" if schema else "on a database"
                yield (*place, "access"), f"wanted {', '.join(allowed)} {where}, got {grant.access}"
