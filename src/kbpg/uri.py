"""Connection strings for applications and people, as libpq reads them (PostgreSQL's manual, 34.1.1.2)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

from kbpg.inventory import read_name
from kbpg.pki.model import CA, certificate_file
from kbpg.prediction import TCP_USER_TIMEOUT
from kbpg.secret import MASK
from kbpg.trust import directory_of

if TYPE_CHECKING:
    from kbpg.credentials import Credentials
    from kbpg.inventory import Inventory

CONNECT_TIMEOUT = 3
"""Seconds a client gives one address before it tries the next, or fails and can try again; libpq's minimum is 2.
Without it a client waits minutes for an address that does not answer."""


class Kind(StrEnum):
    """The ways in: HAProxy to the leader, PgBouncer to it, and each of them to the replicas."""

    DIRECT = "direct"
    POOLED = "pooled"
    READ_ONLY = "read-only"
    READ_ONLY_POOLED = "read-only-pooled"

    @property
    def pooled(self) -> bool:
        """Return whether it goes through PgBouncer."""
        return self in (Kind.POOLED, Kind.READ_ONLY_POOLED)


def uri(
    inventory: Inventory,
    credentials: Credentials,
    kind: Kind = Kind.POOLED,
    *,
    user: Literal["app", "superuser"] = "app",
    role: str | None = None,
    database: str | None = None,
    show_password: bool = False,
) -> str:
    """Return the libpq URI of a database, with the password as `***` unless it is asked for.

    `database` is by default the application's; `role`, in place of `user`, one of the inventory's own that logs in.
    It names the load balancer, or else every proxy. Every option in it is known to libpq 12 and newer.
    """
    name = credentials.app_user if user == "app" else credentials.superuser
    password = credentials.app_password if user == "app" else credentials.superuser_password
    if role is not None:
        name, password = role, credentials.roles[role]
    shown = _encoded(password.reveal()) if show_password else MASK
    port = _port(inventory, kind)
    hosts = ",".join(f"{_host(address)}:{port}" for address in _addresses(inventory))
    options = urlencode(_options(inventory, kind), quote_via=quote)
    database = database or inventory.cluster.database
    database = _encoded(read_name(database) if kind == Kind.READ_ONLY_POOLED else database)
    return f"postgresql://{_encoded(name)}:{shown}@{hosts}/{database}?{options}"


def _addresses(inventory: Inventory) -> list[str]:
    balancer = inventory.cluster.load_balancer
    return [str(balancer)] if balancer else [str(proxy.address) for proxy in inventory.proxies]


def _port(inventory: Inventory, kind: Kind) -> int:
    ports = inventory.ports
    return ports.pgbouncer if kind.pooled else ports.replicas if kind == Kind.READ_ONLY else ports.primary


def _options(inventory: Inventory, kind: Kind) -> dict[str, str]:
    options = verified(inventory)
    # With one address too: a load balancer that moves to another machine leaves its clients as silent a connection.
    options["connect_timeout"] = str(CONNECT_TIMEOUT)
    options["tcp_user_timeout"] = str(TCP_USER_TIMEOUT)
    if kind == Kind.DIRECT:
        # Right after a failover HAProxy may still lead to the old leader. Not through PgBouncer: it repeats
        # the in_hot_standby of its first server connection to every client (pgbouncer issue 859), so that one
        # connection made during a promotion would lock out clients with target_session_attrs for good.
        options["target_session_attrs"] = "read-write"
    if kind == Kind.READ_ONLY and inventory.haproxy.read_fallback == "primary":
        # Replicas refuse writes by themselves; the leader, where it serves reads, because the session asks for it.
        options["options"] = "-c default_transaction_read_only=on"
    return options


def verified(inventory: Inventory) -> dict[str, str]:
    """Return libpq's options for a connection whose server proves who it is; none where `tls` is off."""
    if inventory.tls.mode == "off":
        return {}
    return {"sslmode": "verify-full", "sslrootcert": str(directory_of(inventory) / certificate_file(CA))}


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else _encoded(address)


def _encoded(text: str) -> str:
    return quote(text, safe="")
