"""Settings of the services: PostgreSQL, HAProxy, PgBouncer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from kbpg.inventory import parameters
from kbpg.inventory.section import Section
from kbpg.inventory.types import LONGEST_TIMEOUT, BaseDir, Duration, Milliseconds, Size, Text, as_plain

MB = 1024**2
GB = 1024**3

Fallback = Annotated[Literal["primary", "none"], BeforeValidator(as_plain)]


def _parameters(value: Any) -> Any:
    return {} if value is None else value


Parameters = dict[
    Annotated[str, PlainValidator(parameters.check_name), WithJsonSchema({"type": "string"})],
    Annotated[
        parameters.Parameter,
        PlainValidator(parameters.check_value),
        WithJsonSchema({"type": ["string", "number", "boolean"]}),
    ],
]


class Postgresql(Section):
    """What PostgreSQL may use, and settings that override what kbpg computes."""

    memory: Annotated[Size, Field(ge=256 * MB)] | None = Field(
        None,
        description="bytes of a db host's memory this cluster may use, such as 8GB (null: the host's "
        "memory, or its cgroup limit)",
    )
    max_connections: Annotated[int, Field(ge=25, le=10000)] | None = Field(
        None, description="connections PostgreSQL accepts, 25 or more (null: computed from PgBouncer's pools)"
    )
    parameters: Parameters = Field(
        {}, description="PostgreSQL settings that override what kbpg computes, such as work_mem: 32MB"
    )
    mounts: Annotated[tuple[BaseDir, ...], Field(strict=False)] = Field(
        (),
        description="directories of the db hosts that PostgreSQL's container has too, at the same path, such as "
        "[/srv/backup]: for archived WAL and backups (docs/backup.md)",
    )
    app_idle_in_transaction_timeout: Duration | None = Field(
        600,
        ge=0,
        le=LONGEST_TIMEOUT,
        description="seconds the application's role may leave a transaction open and idle before PostgreSQL ends its "
        "session; 0: forever (null: none is set, and one set by hand stays)",
    )
    app_statement_timeout: Duration | None = Field(
        None,
        ge=0,
        le=LONGEST_TIMEOUT,
        description="seconds a statement of the application's role may take; 0: forever (null: none is set, and one "
        "set by hand stays)",
    )
    locale: Text = Field(
        "C.UTF-8", description="locale of new databases; C.UTF-8 does not change with the image"
    )


class Haproxy(Section):
    """HAProxy's limits and how fast it notices."""

    max_connections: int = Field(5000, ge=10, le=1_000_000, description="connections one HAProxy accepts")
    memory_limit: Size | None = Field(
        None,
        description="bytes one HAProxy may use, its workers of before a reload included (null: 1GB, or more where "
        "`max_connections` need it; 0: no limit)",
    )
    check_interval: Milliseconds = Field(
        500, ge=50, le=60_000, description="milliseconds between two health checks of a node"
    )
    check_fast_interval: Milliseconds = Field(
        250, ge=50, le=60_000, description="milliseconds between two checks while a node changes state"
    )
    check_fall: int = Field(
        2,
        ge=1,
        le=100,
        description="failed checks until a node is out; with TLS twice as many, faster",
    )
    check_rise: int = Field(2, ge=1, le=100, description="good checks until a node is in")
    replica_max_lag: Size = Field(
        16 * MB, description="bytes a replica may be behind the leader and still serve the read-only port"
    )
    read_fallback: Fallback = Field(
        "primary",
        description="who serves reads when no replica is fit to: primary, the leader does; none, readers wait or "
        "are refused",
    )
    client_timeout: Duration = Field(
        86400,
        ge=1,
        le=86400 * 30,
        description="seconds without a byte from either side, a statement that runs included, until HAProxy closes "
        "a connection",
    )
    drain_timeout: Duration = Field(
        3600,
        ge=1,
        le=86400 * 30,
        description="seconds after a reload of HAProxy until connections of before it are closed",
    )


class Pgbouncer(Section):
    """PgBouncer's pools (transaction mode)."""

    max_client_connections: int = Field(
        2000, ge=1, le=1_000_000, description="client connections one PgBouncer accepts"
    )
    memory_limit: Size | None = Field(
        None,
        description="bytes one PgBouncer may use (null: 1GB, or more where its clients and pools need it; "
        "0: no limit)",
    )
    pool_size: int = Field(
        50, ge=1, le=10_000, description="server connections per user of the application's database"
    )
    reserve_pool_size: int = Field(
        10, ge=0, le=10_000, description="additional server connections when clients wait too long"
    )
    read_pool_size: int = Field(
        20,
        ge=1,
        le=10_000,
        description="server connections for reads of the application's database (NAME_ro), all roles together",
    )
    max_prepared_statements: int = Field(
        200,
        ge=0,
        le=100_000,
        description="prepared statements kept per connection; 0: none in transaction mode",
    )
    query_wait_timeout: Duration = Field(
        60,
        ge=0,
        le=86400,
        description="seconds a query may wait for a server connection, above a failover; 0: forever",
    )
    superuser_access: bool = Field(True, description="whether the superuser may connect through PgBouncer")
