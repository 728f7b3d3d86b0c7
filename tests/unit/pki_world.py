"""A directory of real certificates, and ways to look into them and to break them."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from kbpg.inventory import Inventory, parse
from kbpg.pki import Leaf, Pki, load, names_of, write
from kbpg.pki.completing import complete

from .small_cluster import HOSTS

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def inventory(settings: str = "", hosts: str = HOSTS, path: str = "i.yaml") -> Inventory:
    return parse(f"cluster: {{name: kb}}\n{settings}\n{hosts}", path)


@dataclass
class Store:
    """What `complete` and `write` do with a directory."""

    directory: Path

    def complete(
        self,
        now: datetime = NOW,
        *,
        cluster: Inventory | None = None,
        renew: bool = False,
        early: bool = True,
    ) -> Pki:
        names = names_of(cluster or inventory())
        return complete(load(self.directory), names, "kb", now=now, renew=renew, early=early)

    def run(self, now: datetime = NOW, *, cluster: Inventory | None = None, renew: bool = False) -> Pki:
        """Complete and write, as step 00 does."""
        pki = self.complete(now, cluster=cluster, renew=renew)
        write(pki, load(self.directory))
        return pki

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.directory.glob("*.*")) if path.is_file()}

    def changed(self, before: dict[str, bytes]) -> set[str]:
        after = self.files()
        return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def handshake(
    server: Leaf, trusted: bytes, name: str, directory: Path, client: Leaf | None = None
) -> str | None:
    """Shake hands over a pair of sockets as a client that knows `trusted` and wants `name`; None: it went well.

    With `client`, the server wants a certificate of the same authority. Returns why either side refused.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _use(serving, server, directory / "server.pem")
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    asking.load_verify_locations(cadata=trusted.decode())
    if client:
        serving.verify_mode = ssl.CERT_REQUIRED
        serving.load_verify_locations(cadata=trusted.decode())
        _use(asking, client, directory / "client.pem")
    here, there = socket.socketpair()
    refusals: list[str] = []

    def serve() -> None:
        try:
            with serving.wrap_socket(there, server_side=True) as stream:
                stream.sendall(stream.recv(1))
        except (ssl.SSLError, OSError) as error:
            refusals.append(f"server: {error}")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        here.settimeout(10)
        with asking.wrap_socket(here, server_hostname=name) as stream:
            stream.sendall(b"?")
            if stream.recv(1) != b"?":
                refusals.append("client: the server hung up")
    except (ssl.SSLError, OSError) as error:
        refusals.insert(0, f"client: {error}")
    finally:
        here.close()
        thread.join()
    return "; ".join(refusals) or None


def _use(context: ssl.SSLContext, leaf: Leaf, path: Path) -> None:
    path.write_bytes(leaf.certificate + leaf.key.reveal().encode())
    context.load_cert_chain(path)
