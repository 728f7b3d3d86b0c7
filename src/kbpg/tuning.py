"""PostgreSQL's parameters from a db host's memory and cores, and from what the inventory asks for.

Sources: the chapter "Resource Consumption" of PostgreSQL's documentation (shared_buffers 25 % of memory), the
formulas of PgTune (https://github.com/le0pard/pgtune, web application on SSDs), and Patroni's CMDLINE_OPTIONS
(patroni/postgresql/config.py) for lower bounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kbpg.inventory import version_tuple

if TYPE_CHECKING:
    from kbpg.inventory import Inventory

Parameter = str | int | float

KB, MB, GB = 1024, 1024**2, 1024**3

AUTH_CONNECTIONS = 5
"""Server connections one PgBouncer keeps at most for its auth query; pgbouncer.ini.j2 sets the same limit."""
SUPERUSER_CONNECTIONS = 10
"""The same for the cluster's superuser, in each database."""
OTHER_CONNECTIONS = 5
"""The same for any other role in `postgres`, where nobody works for long and where passwords are looked up."""
UNLISTED_CONNECTIONS = 12
"""The same in a database that the inventory does not name, for all roles together: one for each client of a drill,
whose database is such a one, also while a single proxy serves them all."""
DIRECT_CONNECTIONS = 40
"""Room for connections past the pools: through HAProxy, Patroni, kbpg, backups, monitoring. It is also all there is
for a second database that the inventory does not name: see `connections_needed`."""
RESERVED_CONNECTIONS = 5
"""superuser_reserved_connections: Patroni and a human always get in."""
STEP = 256 * MB
"""Memory counts in whole steps: a kernel that keeps 3 MB more for itself must not restart PostgreSQL."""
WAL_SHARES = {"max_wal_size": 10, "wal_keep_size": 5, "max_slot_wal_keep_size": 25}
"""Percent of the data's file system that each limit may come to: together they leave more than half to the data."""
LEAST_WAL = 256 * MB
"""Bytes that no disk lowers these limits below: 16 segments."""

FROM_HARDWARE = frozenset(
    {
        *("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem"),
        *("max_wal_size", "min_wal_size", "wal_keep_size", "max_slot_wal_keep_size"),
        *("max_worker_processes", "max_parallel_workers", "max_parallel_workers_per_gather"),
        "max_parallel_maintenance_workers",
    }
)
"""Parameters that follow from the smallest db host's memory, cores or disk."""

FIXED: dict[str, Parameter] = {
    # Promises: what acknowledged commits, pg_rewind and SCRAM rest on.
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "wal_level": "replica",
    "wal_log_hints": "on",
    # A client or a host that vanished is noticed within about a minute; units are seconds.
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "client_connection_check_interval": "10s",
    # A leader that is cut off stops, and is ready to follow, only when the connections to its replicas have timed out
    # (a fast shutdown waits for them); by default after 60 s. The price: a replica whose disk stalls for longer
    # than this has to connect again.
    "wal_sender_timeout": "20s",
    # A replica that lost its leader waits so long between two attempts, by default 5 s. A promotion that is asked
    # for at the wrong moment is noticed at the next (seen: 2 s after `pg_ctl promote`).
    "wal_retrieve_retry_interval": "500ms",
    # SSDs (PgTune); JIT costs more than it gives in short queries, as they come through a transaction pool.
    "random_page_cost": "1.1",
    "effective_io_concurrency": 200,
    "jit": "off",
    # Fewer full-page images between checkpoints, and smaller ones.
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "pglz",
    "superuser_reserved_connections": RESERVED_CONNECTIONS,
    # To stderr, that is to the container's log. Who came and went, and what was done to roles, rights and tables;
    # kbpg itself sets passwords in sessions whose statements are not logged (sql.py). Statements are not logged for
    # being slow, because a statement may hold data: pg_stat_statements shows slow ones without their values.
    "shared_preload_libraries": "pg_stat_statements",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_statement": "ddl",
    "log_checkpoints": "on",
    "log_lock_waits": "on",
    "log_temp_files": "64MB",
    "log_autovacuum_min_duration": "10s",
}
"""Parameters that depend on nothing."""


def parameters(
    memory: int, cores: int, inventory: Inventory, disk: int | None = None
) -> dict[str, Parameter]:
    """Return PostgreSQL's parameters for hosts of `memory` bytes and `cores` cores, sorted by name.

    `disk` is the size in bytes of the smallest file system that holds data; None where it is not known.
    They are the same on all nodes (a replica with a smaller max_connections than its leader does not start),
    so give the smallest host's figures. Values are written as SHOW prints them: `1GB`, not `1024MB`; `on`, not
    true. Those of `inventory.postgresql.parameters` come last and win.
    """
    memory = max(memory // STEP, 1) * STEP
    own = {name: _plain(value) for name, value in inventory.postgresql.parameters.items()}
    computed = {
        **FIXED,
        **_memory(memory, max_connections(inventory)),
        **_wal(memory, len(inventory.db), disk),
    }
    return dict(sorted({**computed, **_workers(cores, inventory), **own}.items()))


def max_connections(inventory: Inventory) -> int:
    """Return max_connections: the inventory's, or enough for all pools of all PgBouncers to be full at once.

    A pool that PostgreSQL refuses to fill is an error for the application, one that is full is a short wait.
    """
    if inventory.postgresql.max_connections is not None:
        return inventory.postgresql.max_connections
    return max(100, math.ceil(connections_needed(inventory) / 10) * 10)


def connections_needed(inventory: Inventory) -> int:
    """Return the connections of all full pools, and those that go past the pools.

    Every database in pgbouncer.ini has a `max_db_connections`; this is the sum of them in all PgBouncers. A database
    that the inventory does not name has one too, but PgBouncer has no limit for how many of these it serves (its
    `max_user_connections` is one for each user, whose number has no limit either): one of them is counted.
    """
    # Reads count too: when no replica serves them, the leader does
    own = database_connections(inventory) + inventory.pgbouncer.read_pool_size
    named = sum(2 * database.pool_size for database in inventory.databases)
    one = own + named + 2 * maintenance_connections(inventory) + UNLISTED_CONNECTIONS
    return len(inventory.proxies) * one + DIRECT_CONNECTIONS + RESERVED_CONNECTIONS


def database_connections(inventory: Inventory) -> int:
    """Return the server connections that one PgBouncer opens at most to the application's database.

    That is what the pools of the application and of the superuser come to; other roles share it with them.
    """
    pool = inventory.pgbouncer
    return pool.pool_size + pool.reserve_pool_size + _superuser_connections(inventory)


def maintenance_connections(inventory: Inventory) -> int:
    """Return the server connections that one PgBouncer opens at most to `postgres`, and as many for reads of it.

    A full pool of the superuser and one of another role leave the auth query its own: whoever logs in needs it.
    """
    return AUTH_CONNECTIONS + _superuser_connections(inventory) + OTHER_CONNECTIONS


def _superuser_connections(inventory: Inventory) -> int:
    return SUPERUSER_CONNECTIONS if inventory.pgbouncer.superuser_access else 0


def _memory(memory: int, connections: int) -> dict[str, Parameter]:
    buffers = _between(memory // 4, 128 * MB, 32 * GB)
    return {
        "max_connections": connections,
        "shared_buffers": size(buffers),
        "effective_cache_size": size(max(memory * 3 // 4, 256 * MB)),
        # A sort may use work_mem several times and hashes twice of it, so a third of an even share.
        "work_mem": size(_between((memory - buffers) // (connections * 3), 4 * MB, 256 * MB)),
        # Three autovacuum workers and one index build at a time stay within a quarter of the memory.
        "maintenance_work_mem": size(_between(memory // 16, 64 * MB, 2 * GB)),
    }


def _wal(memory: int, nodes: int, disk: int | None) -> dict[str, Parameter]:
    memory_allows = _between(memory // 2, GB, 8 * GB)
    most = _fitting("max_wal_size", memory_allows, disk)
    # Per replica one stream and one more for pg_basebackup, four to spare.
    senders = max(10, 2 * (nodes - 1) + 4)
    return {
        "max_wal_size": size(most),
        "min_wal_size": size(most // 4),
        "wal_keep_size": size(_fitting("wal_keep_size", memory_allows // 4, disk)),
        # A replica that is away longer is cloned again; without a limit it would fill the leader's disk.
        "max_slot_wal_keep_size": size(_fitting("max_slot_wal_keep_size", memory_allows * 4, disk)),
        "max_wal_senders": senders,
        "max_replication_slots": senders,
    }


def _fitting(name: str, wanted: int, disk: int | None) -> int:
    """Return `wanted` bytes, or less where the disk is too small for it.

    Sizes count in steps of an eighth of the power of two below them, so that a file system that lost a few blocks
    to its own bookkeeping changes no setting.
    """
    if disk is None:
        return wanted
    step = 1 << max(disk.bit_length() - 4, 0)
    limit = disk // step * step * WAL_SHARES[name] // 100
    return min(wanted, max(limit // (64 * MB) * (64 * MB), LEAST_WAL))


def _workers(cores: int, inventory: Inventory) -> dict[str, Parameter]:
    # CVE-2026-3172: parallel HNSW builds of pgvector before 0.8.2 overflow a buffer.
    safe = version_tuple(inventory.versions.pgvector) >= (0, 8, 2)
    return {
        "max_worker_processes": max(8, cores),
        "max_parallel_workers": max(2, cores),
        "max_parallel_workers_per_gather": _between(cores // 2, 1, 4),
        "max_parallel_maintenance_workers": _between(cores // 2, 1, 4) if safe else 0,
    }


def size(amount: int) -> str:
    """Return `amount` bytes, rounded down to whole MB, as PostgreSQL prints it: in GB where that divides."""
    megabytes = amount // MB
    return f"{megabytes // 1024}GB" if megabytes % 1024 == 0 else f"{megabytes}MB"


def _between(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _plain(value: str | int | float | bool) -> Parameter:
    return ("on" if value else "off") if isinstance(value, bool) else value
