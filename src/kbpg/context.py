"""What every step is a function of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kbpg.facts import Login
from kbpg.tls import Transport

if TYPE_CHECKING:
    from kbpg.credentials import Credentials
    from kbpg.inventory import Inventory
    from kbpg.pki import Pki


@dataclass(frozen=True)
class Context:
    """The inventory, the credentials and the certificates: all that decides what must be.

    `between`: everything accepts connections with TLS and without, on the way to the inventory's mode.
    `adopting`: a cluster that is provably this one, and that kbpg did not start, is taken over. `former` are the
    credentials of before, while a rotation of them is not ended: each password in force is this or that one. `limit`
    are the hosts that `--limit` names; empty: all.
    """

    inventory: Inventory
    credentials: Credentials
    adopting: bool = False
    between: bool = False
    former: Credentials | None = None
    limit: frozenset[str] = frozenset()
    pki: Pki = field(kw_only=True)

    @property
    def transport(self) -> Transport:
        """Return what every hop speaks."""
        return Transport(self.inventory.tls.mode, self.between)

    def login(self, user: str, field: str, database: str, port: int) -> Login:
        """Return a login with the password that the credentials have as `field`, and with the one of before."""
        password = getattr(self.credentials, field)
        former = getattr(self.former, field) if self.former else password
        return Login(user, password, database, port, former if former != password else None)

    def superuser(self, database: str = "postgres") -> Login:
        """Return how kbpg asks a db host's own PostgreSQL."""
        port = self.inventory.ports.postgresql
        return self.login(self.credentials.superuser, "superuser_password", database, port)

    def application(self, port: int) -> Login:
        """Return how an application reaches its database through `port` of a proxy."""
        return self.login(self.credentials.app_user, "app_password", self.inventory.cluster.database, port)

    @property
    def db_names(self) -> list[str]:
        """Return the names of the db hosts, in the inventory's order."""
        return [host.name for host in self.inventory.db]

    @property
    def left_out(self) -> list[str]:
        """Return the names of the db hosts that `--limit` leaves out, in the inventory's order."""
        return [name for name in self.db_names if self.limit and name not in self.limit]

    @property
    def proxy_names(self) -> list[str]:
        """Return the names of the proxies, in the inventory's order."""
        return [host.name for host in self.inventory.proxies]
