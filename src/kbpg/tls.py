"""What each hop speaks, for the inventory's `tls` and on the way from one mode to the other: pure.

A change of mode goes through a state in between, in which everybody accepts both (docs/adr/0020-tls-modes.md). It is
the same state in both directions but for Patroni's REST API, which speaks what it spoke before until every HAProxy
checks it both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["off", "require"]
DIRECTORY: Final = "tls"
"""Below each program's own directory of configuration, on the host and in its container."""
CA_FILE: Final = "ca.crt"
CERTIFICATE: Final = "server.crt"
KEY: Final = "server.key"
BUNDLE: Final = "server.pem"
"""Certificate and key in one file, as HAProxy reads them (its manual, 5.1, `crt`)."""
OLD_SUFFIX: Final = ".old"
"""Ends the name of a server that HAProxy checks in the mode that is on its way out."""


def other(mode: Mode) -> Mode:
    """Return the mode that a cluster comes from when it changes to `mode`."""
    return "off" if mode == "require" else "require"


@dataclass(frozen=True)
class Transport:
    """What the hops speak: `mode`, or with `between` both, on the way there."""

    mode: Mode
    between: bool = False

    @property
    def tag(self) -> str:
        """Return what the files on the hosts say of themselves."""
        return f"from {other(self.mode)} to {self.mode}" if self.between else self.mode

    @property
    def rest(self) -> bool:
        """Return whether Patroni's REST API speaks TLS."""
        return (self.mode == "require") != self.between

    @property
    def checks(self) -> tuple[bool, ...]:
        """Return how HAProxy asks it: with TLS, without, or both ways."""
        return (False, True) if self.between else (self.mode == "require",)

    @property
    def hba(self) -> str:
        """Return the type of the lines in pg_hba.conf: `hostssl` refuses connections without TLS."""
        return "hostssl" if self.mode == "require" and not self.between else "host"

    @property
    def client(self) -> str:
        """Return what a server that clients come to asks of them (PgBouncer's client_tls_sslmode)."""
        return "allow" if self.between else {"off": "disable", "require": "require"}[self.mode]

    @property
    def pooler(self) -> str:
        """Return what PgBouncer asks of PostgreSQL (its server_tls_sslmode): a certificate of the cluster's.

        Not `verify-full`: it takes the whole list in `host=127.0.0.1,OTHER` for the name (seen with 1.24.1), and one
        address alone would not outlive this host's HAProxy. Behind HAProxy any db host is right anyway, and the
        authority signs nobody but this cluster's hosts.
        """
        return "prefer" if self.between else {"off": "disable", "require": "verify-ca"}[self.mode]

    @property
    def server(self) -> str:
        """Return what a client of PostgreSQL asks of it (libpq's sslmode)."""
        return "prefer" if self.between else {"off": "disable", "require": "verify-full"}[self.mode]
