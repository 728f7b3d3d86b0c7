"""Certificates for inventories of tests that only hand them on: no real ones, the same in every run."""

from __future__ import annotations

from kbpg.inventory import Inventory
from kbpg.pki import Leaf, Pki
from kbpg.secret import Secret


def placeholders(inventory: Inventory) -> Pki:
    """Return a text in place of each certificate and key."""
    return Pki(
        ca=_certificate("ca"),
        ca_key=Secret(_key("ca")),
        hosts={host.name: _leaf(host.name) for host in inventory.hosts},
        client=_leaf("kbpg"),
    )


def _leaf(name: str) -> Leaf:
    return Leaf(_certificate(name), Secret(_key(name)))


def _certificate(name: str) -> bytes:
    return f"the certificate of {name}\n".encode()


def _key(name: str) -> str:
    return f"the private key of {name}\n"
