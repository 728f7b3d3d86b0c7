"""Databases and roles besides the application's own: what a list entry of each may say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kbpg.inventory import checks
from kbpg.inventory.networks import IPv4Network
from kbpg.inventory.section import Section
from kbpg.inventory.show import shown
from kbpg.inventory.types import LONGEST_TIMEOUT, Duration, Identifier, Text, as_plain


def _extension(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", value):
        raise ValueError(f"wanted the name of an extension such as pg_trgm or uuid-ossp, got {shown(value)}")
    return value


def _target(value: str) -> str:
    parts = value.split(".")
    if len(parts) > 2:
        raise ValueError(f"wanted a database or DATABASE.SCHEMA, got {shown(value)}")
    for part in parts:
        checks.identifier(part)
    return value


def _group(value: str) -> str:
    """Check the name of a role to be a member of: PostgreSQL's own are named in the rules."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value):
        raise ValueError(f"wanted the name of a role, got {shown(value)}")
    return value


def none_is_empty(value: Any) -> Any:
    """Turn a list with nothing in it, which YAML reads as null, into an empty one."""
    return () if value is None else value


UNNAMED = "unnamed_entry_of_"
"""How the name begins that an entry without a usable one has while the rest of the inventory is judged."""

Extension = Annotated[Text, AfterValidator(_extension), WithJsonSchema({"type": "string"})]
Target = Annotated[Text, AfterValidator(_target), WithJsonSchema({"type": "string"})]
Group = Annotated[Text, AfterValidator(_group), WithJsonSchema({"type": "string"})]
Access = Annotated[Literal["none", "connect", "read", "write", "create"], BeforeValidator(as_plain)]
EmptyList = BeforeValidator(none_is_empty)


class OwnDatabase(Section):
    """One more database; PgBouncer serves it by its name, and for reads as NAME_ro."""

    name: Identifier = Field(description="the database's name")
    owner: Identifier | None = Field(
        None, description="who owns it: a role of the inventory (null: cluster.app_user)"
    )
    schemas: Annotated[tuple[Identifier, ...], Field(strict=False), EmptyList] = Field(
        (), description="schemas besides public, owned by the database's owner"
    )
    extensions: Annotated[tuple[Extension, ...], Field(strict=False), EmptyList] = Field(
        (), description="extensions to create; vector has the version of versions.pgvector"
    )
    pool_size: int = Field(
        20,
        ge=1,
        le=10_000,
        description="server connections of one PgBouncer to it, all roles together; as many again for reads",
    )


class Grant(Section):
    """What a role may do in one place. What the inventory names is made so; what it does not name stays."""

    on: Target = Field(description="a database, or DATABASE.SCHEMA")
    access: Access = Field(
        description="on a database: connect, create (also schemas), none; in a schema: read, write, create (also "
        "tables), none. A grant in a schema lets the role connect to its database"
    )


class OwnRole(Section):
    """One more role. Its password is in the credentials file as POSTGRES_ROLE_NAME_PASS."""

    name: Identifier = Field(description="the role's name")
    login: bool = Field(True, description="whether it logs in; false: a group for others to be members of")
    connection_limit: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="connections it may have, at least one for each proxy (null: no limit)"
    )
    idle_in_transaction_timeout: Duration | None = Field(
        None,
        ge=0,
        le=LONGEST_TIMEOUT,
        description="seconds it may leave a transaction open and idle before PostgreSQL ends its session; 0: forever "
        "(null: none is set, and one set by hand stays)",
    )
    statement_timeout: Duration | None = Field(
        None,
        ge=0,
        le=LONGEST_TIMEOUT,
        description="seconds one of its statements may take; 0: forever (null: none is set, and one set by hand "
        "stays)",
    )
    member_of: Annotated[tuple[Group, ...], Field(strict=False), EmptyList] = Field(
        (),
        description="roles whose rights it has: others of the inventory, or PostgreSQL's own such as pg_monitor",
    )
    grants: Annotated[tuple[Grant, ...], Field(strict=False), EmptyList] = Field(
        (), description="what it may do where: entries with on and access"
    )
    direct_from: Annotated[tuple[IPv4Network, ...], Field(strict=False), EmptyList] = Field(
        (),
        description="networks and addresses from which it may also connect to the db hosts themselves, past the "
        "proxies, such as [10.30.0.7]: for a program that has to reach each node",
    )
