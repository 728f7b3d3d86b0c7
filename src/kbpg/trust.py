"""How kbpg knows that a host's services are who they should be, and proves to them who it is.

While `tls` is being changed some of them speak TLS and others do not yet: what a service does not speak is found out,
and remembered. Everything travels through SSH to the host itself (or its own sockets), so without TLS it is not in
clear on any network; whoever speaks TLS must prove itself.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kbpg.pki.model import CA, CLIENT, certificate_file, key_file
from kbpg.tls import Mode

if TYPE_CHECKING:
    from kbpg.inventory import Inventory


def directory_of(inventory: Inventory) -> Path:
    """Return where the certificates are on the controller: kbpg's own, or the user's."""
    return inventory.own_certificates_path or inventory.pki_path


@dataclass
class Trust:
    """The authority's certificate and kbpg's own, as files in `directory`; `mode` is what is expected.

    `changing`: this run changes `tls`, so a service may rightly not speak as `mode` wants it.
    """

    directory: Path
    mode: Mode
    changing: bool = False
    _spoken: dict[tuple[str, int], bool] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        """Return the authority's certificate."""
        return self.directory / certificate_file(CA)

    def speaks(self, host: str, port: int) -> bool:
        """Return whether a service is expected to speak TLS: as it did last, or as the inventory says."""
        return self._spoken.get((host, port), self.mode == "require") and self.ca.exists()

    def learn(self, host: str, port: int, speaks: bool) -> None:
        """Remember what a service speaks."""
        self._spoken[host, port] = speaks

    @cached_property
    def client(self) -> ssl.SSLContext:
        """Return what verifies Patroni's REST API, and shows kbpg's own certificate. Raises `OSError`."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.directory / certificate_file(CLIENT), self.directory / key_file(CLIENT))
        return context

    @cached_property
    def anyone(self) -> ssl.SSLContext:
        """Return what verifies a server, and shows no certificate: PgBouncer refuses one it did not ask for."""
        return ssl.create_default_context(cafile=str(self.ca))
