"""The parts of steps 00 and 05 that are about the inventory's own databases and roles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kbpg.context import Context
from kbpg.model import CLUSTER, Placed, Resource, Stage
from kbpg.resources.databases import ManagedDatabase, ManagedExtension
from kbpg.resources.grants import DatabaseGrant, SchemaGrant
from kbpg.resources.public_rights import PublicRights
from kbpg.resources.role_settings import Timeouts, of_role
from kbpg.resources.roles import ManagedRole, Membership, PasswordKnown
from kbpg.resources.sql import Schema
from kbpg.resources.unmanaged import Unmanaged

ROLES = "roles"
"""Title of the stage of the inventory's own roles; there is none where it has none."""


def requirements(context: Context) -> Iterator[Stage]:
    """Yield what must hold before anything is changed: no password is made up for a role that has one."""
    known = [PasswordKnown(context, name) for name in context.inventory.login_roles]
    if known:
        yield Stage("passwords of roles", _placed(known), requirement=True)


def roles(context: Context) -> Iterator[Stage]:
    """Yield the stages that make the roles."""
    own = context.inventory.roles
    if own:
        yield Stage(ROLES, _placed([ManagedRole(context, role) for role in own]))
        yield Stage("memberships", _placed([Membership(context, role) for role in own]))
    limited = {role.name: timeouts for role in own if (timeouts := of_role(role))}
    if limited:
        yield Stage(
            "timeouts of roles", _placed([Timeouts(context, name, given) for name, given in limited.items()])
        )


def databases(context: Context) -> Iterator[Stage]:
    """Yield the stages that make the databases, what is in them, and who may do what there."""
    inventory = context.inventory
    own = [ManagedDatabase(context, each.name, inventory.owner_of(each)) for each in inventory.databases]
    if own:
        yield Stage("databases", _placed(own))
    inside: list[Resource] = []
    for each in inventory.databases:
        inside.append(PublicRights(context, each.name))
        inside += [Schema(context, each.name, name, inventory.owner_of(each)) for name in each.schemas]
        for name in each.extensions:
            version = inventory.versions.pgvector if name == "vector" else None
            inside.append(ManagedExtension(context, each.name, name, version))
    if inside:
        yield Stage("schemas and extensions", _placed(inside))
    if granted := list(_grants(context)):
        yield Stage("grants", _placed(granted))
    yield Stage("not in the inventory", _placed([Unmanaged(context)]))


def _grants(context: Context) -> Iterator[Resource]:
    inventory = context.inventory
    owners = {each.name: inventory.owner_of(each) for each in inventory.databases}
    owners[inventory.cluster.database] = inventory.cluster.app_user
    for role in inventory.roles:
        access: dict[str, str] = {grant.on: grant.access for grant in role.grants}
        for on, kind in access.items():
            database, _, schema = on.partition(".")
            if schema and kind != "none":
                access = {database: "connect"} | access  # without it, what is in the schema cannot be reached
        for on, kind in access.items():
            database, _, schema = on.partition(".")
            if schema:
                creators = dict.fromkeys((owners[database], inventory.cluster.superuser))
                yield SchemaGrant(context, role.name, database, schema, kind, list(creators))
            else:
                yield DatabaseGrant(context, role.name, database, kind)


def _placed(resources: Sequence[Resource]) -> tuple[Placed, ...]:
    return tuple(Placed(CLUSTER, resource) for resource in resources)
