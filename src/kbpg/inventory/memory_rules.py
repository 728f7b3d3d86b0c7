"""What must hold between the limits of memory of the proxies' programs and the connections that they accept.

A program that reaches its limit is ended by the kernel, and with it all its connections: so there has to be room for
as many as it accepts. What the kernel buffers for a connection counts as the program's.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbpg.inventory.host_rules import Found
from kbpg.inventory.models import Inventory
from kbpg.inventory.show import human_size

MB = 1 << 20
USUAL = 1024 * MB
"""Bytes that each may use where the inventory names no limit, and its connections need no more."""
ITSELF = 64 * MB
"""Bytes of a program without connections. Measured: HAProxy 3.0.11 with 2 threads 6 MB, with 64, the most that it
starts by itself, 24 MB; PgBouncer 1.24.1 3 MB; program and libraries 20 MB each. The rest is for health checks, the
file system in memory (4 MB at most), prepared statements."""
HAPROXY_CONNECTION = (1 << 30) // 20_000
"""Bytes of a connection through HAProxy whose buffers are full, the system's included: 20,000 a GB (HAProxy's starter
guide, 3.6 Sizing). Two of `tune.bufsize`, 16 kB each, are HAProxy's own. Measured when idle: 3.4 kB."""
PGBOUNCER_CONNECTION = 64 * 1024
"""Bytes of a connection of PgBouncer. Measured with TLS, when idle: a client's 23 kB (1.2 kB without TLS), one to a
server 56 kB (PgBouncer 1.24.1, OpenSSL 3.5.9). While data pass, `pkt_buf`, 4 kB, and two TLS records, 17 kB each, are
added, which go afterwards (SSL_MODE_RELEASE_BUFFERS in libusual's tls.c): never on all connections at once."""
POOLS = ("memory_limit", "max_client_connections", "pool_size", "reserve_pool_size", "read_pool_size")
"""Keys of `pgbouncer` that the rule about it reads."""


def haproxy(inventory: Inventory) -> Iterator[Found]:
    """A limit that is given has room for the connections that are accepted."""
    own = inventory.haproxy
    of = f"max_connections ({own.max_connections})"
    yield from _too_small("haproxy", own.memory_limit, _haproxy_needs(inventory), of)


def pgbouncer(inventory: Inventory) -> Iterator[Found]:
    """The same for clients and pools."""
    own = inventory.pgbouncer
    of = f"max_client_connections ({own.max_client_connections}) and pools"
    yield from _too_small("pgbouncer", own.memory_limit, _pgbouncer_needs(inventory), of)


def haproxy_memory(inventory: Inventory) -> int:
    """Return the bytes one HAProxy may use; 0 is no limit."""
    return _limit(inventory.haproxy.memory_limit, _haproxy_needs(inventory))


def pgbouncer_memory(inventory: Inventory) -> int:
    """Return the bytes one PgBouncer may use; 0 is no limit."""
    return _limit(inventory.pgbouncer.memory_limit, _pgbouncer_needs(inventory))


def _limit(given: int | None, needed: int) -> int:
    return max(USUAL, needed) if given is None else given


def _haproxy_needs(inventory: Inventory) -> int:
    """After a reload the old worker keeps its connections, until `drain_timeout`: twice as much as one needs."""
    return _whole(2 * (ITSELF + inventory.haproxy.max_connections * HAPROXY_CONNECTION))


def _pgbouncer_needs(inventory: Inventory) -> int:
    """Clients and pools; a reload starts no second process."""
    return _whole(ITSELF + pooled_connections(inventory) * PGBOUNCER_CONNECTION)


def _whole(size: int) -> int:
    return -(-size // MB) * MB


def _too_small(section: str, limit: int | None, needed: int, of: str) -> Iterator[Found]:
    if limit is not None and 0 < limit < needed:
        yield (
            (section, "memory_limit"),
            f"wanted {human_size(needed)} or more for {of}, got {human_size(limit)}: give more memory, accept fewer "
            "connections, or leave it out, which is enough; 0 is no limit",
        )


def pooled_connections(inventory: Inventory) -> int:
    """Return how many connections one PgBouncer may have: its clients', and those of its pools.

    Databases that the inventory does not name have pools too: room for a few of them.
    """
    own = inventory.pgbouncer
    listed = own.read_pool_size + sum(2 * database.pool_size for database in inventory.databases)
    return own.max_client_connections + 10 * (own.pool_size + own.reserve_pool_size) + listed
