"""What the cluster is: names, versions, timers, ports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kbpg.inventory.section import Section
from kbpg.inventory.types import (
    BaseDir,
    ClusterName,
    Duration,
    Identifier,
    OutsideEndpoint,
    Port,
    PythonRelease,
    Release,
    Size,
    as_plain,
)

Synchronous = Annotated[Literal["quorum", "strict", "off"], BeforeValidator(as_plain)]
Listen = Annotated[Literal["host", "any"], BeforeValidator(as_plain)]


class Cluster(Section):
    """The cluster's names and its promise about acknowledged commits."""

    name: ClusterName = Field(
        description="name of the cluster, Patroni's scope; fixed once the cluster is born"
    )
    database: Identifier = Field("keybuzz", description="the application's database")
    superuser: Identifier = Field("kb_admin", description="the cluster's superuser, for people and for kbpg")
    app_user: Identifier = Field("kb_app", description="the role the application connects as")
    base_dir: BaseDir = Field(
        "/opt/keybuzz",
        description="directory on every host that holds kbpg's files and data; fixed once the cluster is born",
    )
    load_balancer: OutsideEndpoint | None = Field(
        None,
        description="address or name of a load balancer in front of the proxies; it is outside kbpg, and stands in "
        "connection strings (null: all proxies do), in the certificates and, where it is an address, in the rules "
        "of prepare.firewall",
    )
    proxy_listen: Listen = Field(
        "host",
        description="where the proxies take clients: host, at the proxy's address and 127.0.0.1; any, at all its "
        "IPv4 addresses, as a virtual address that moves between the proxies needs (docs/datapath.md). HAProxy's "
        "statistics stay at the proxy's address",
    )
    synchronous: Synchronous = Field(
        "quorum",
        description="quorum: a commit waits for any replica (any two, of five hosts), and with no replica left the "
        "leader goes on alone and kbpg says so; strict: with no replica left writes stop; off: asynchronous, a "
        "failover may lose acknowledged commits. Patroni before 4.0 has no quorum commit: there quorum means named "
        "replicas",
    )


class Versions(Section):
    """The versions to install."""

    postgresql: int = Field(16, description="major version of PostgreSQL; 16 is the supported one")
    patroni: Release = Field("4.1.5", description="Patroni's version, 3.3.6 or newer")
    pgvector: Release = Field("0.8.1", description="pgvector's version")
    python: PythonRelease = Field(
        "3.12", description="Python in the Patroni image; in quotes, 3.10 would be 3.1"
    )


class Timers(Section):
    """Patroni's timers.

    Patroni wants `loop_wait + 2 * retry_timeout <= ttl`, the watchdog beside it `2 * (loop_wait + 4) <= ttl`.
    """

    ttl: Duration = Field(
        20,
        ge=20,
        le=3600,
        description="seconds after which a silent leader loses its lock; Patroni's minimum is 20",
    )
    loop_wait: Duration = Field(
        2, ge=1, le=600, description="seconds between two rounds of Patroni; at least 1"
    )
    retry_timeout: Duration = Field(
        5,
        ge=3,
        le=600,
        description="seconds Patroni retries PostgreSQL and Raft before the leader steps down; at least 3",
    )
    primary_start_timeout: Duration = Field(
        0,
        ge=0,
        le=86400,
        description="seconds a crashed leader may take to start again; 0: another takes over at once",
    )
    maximum_lag_on_failover: Size = Field(
        1024**2, description="bytes a replica may be behind and still become leader (asynchronous clusters)"
    )
    member_slots_ttl: Duration = Field(
        86400,
        ge=0,
        le=86400 * 30,
        description="seconds the leader keeps WAL for a replica that is away, up to `max_slot_wal_keep_size`; "
        "Patroni before 4.0 keeps none once `ttl` has passed",
    )


class Ports(Section):
    """TCP ports. 1024 or higher, because nothing in the containers runs as root."""

    postgresql: Port = Field(5432, description="PostgreSQL on the db hosts; fixed once the cluster is born")
    patroni: Port = Field(
        8008, description="Patroni's REST API on the db hosts; fixed once the cluster is born"
    )
    raft: Port = Field(
        7000, description="Raft, the consensus store, on the db hosts; fixed once the cluster is born"
    )
    primary: Port = Field(5432, description="HAProxy to the leader, on the proxies")
    replicas: Port = Field(5433, description="HAProxy to the replicas, read-only, on the proxies")
    stats: Port = Field(8404, description="HAProxy's statistics and metrics, on the proxies")
    pgbouncer: Port = Field(6432, description="PgBouncer on the proxies")
