"""Where things are on a host, and the names that several steps share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbpg.context import Context

PATRONI = "patroni"
HAPROXY = "haproxy"
PGBOUNCER = "pgbouncer"

USER = 999
"""Who runs the programs in all containers, and the user's group; the official PostgreSQL image's `postgres`."""
OWNER = f"{USER}:{USER}"

PATRONI_STOP = 120
"""Seconds for a clean shutdown of PostgreSQL, its last checkpoint included, before Docker kills it."""

DATA_INSIDE = "/var/lib/postgresql/data"
"""Where Patroni's container has the directory `Layout.data`."""

REPLICATION_USER = "replicator"
REWIND_USER = "rewind_user"
POOLER_USER = "pgbouncer_auth"


@dataclass(frozen=True)
class Layout:
    """Paths below the inventory's base_dir."""

    base: str

    @property
    def data(self) -> str:
        """The mount that holds the data directory. Patroni renames that, so it is a directory inside."""
        return f"{self.base}/postgres/data"

    @property
    def pgdata(self) -> str:
        """PostgreSQL's data directory."""
        return f"{self.data}/pgdata"

    @property
    def raft(self) -> str:
        """Raft's log and snapshots."""
        return f"{self.base}/postgres/raft"

    @property
    def patroni(self) -> str:
        """Patroni's configuration files."""
        return f"{self.base}/patroni"

    @property
    def haproxy(self) -> str:
        """HAProxy's configuration file."""
        return f"{self.base}/haproxy"

    @property
    def pgbouncer(self) -> str:
        """PgBouncer's configuration files."""
        return f"{self.base}/pgbouncer"

    def marker(self, container: str) -> str:
        """The marker of what `container` has loaded."""
        return f"{self.base}/kbpg/loaded/{container}"


def layout(context: Context) -> Layout:
    """Return the paths for the inventory's base_dir."""
    return Layout(context.inventory.cluster.base_dir)
