"""What the certificates and keys of a cluster are, and the files they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from kbpg.secret import Secret

CA = "ca"
CLIENT = "kbpg"
"""Common name of kbpg's own client certificate, and the name of its files."""
RENEWED = timedelta(days=30)
"""A certificate with less time left is issued anew, and warned of where it is in use. A month lets a run of apply-all
a week come in good time several times over."""
TAKEN = (CA, CLIENT)
"""Names that no host may have: their files are not a host's."""


@dataclass(frozen=True)
class Leaf:
    """Somebody's certificate, followed by intermediate ones if a user gave such, and its key; both PEM.

    The key is PKCS #8 and not encrypted where kbpg made it, in any PEM form where a user gave it.
    """

    certificate: bytes
    key: Secret


@dataclass(frozen=True)
class Pki:
    """Every certificate that the cluster uses, and the keys.

    `ca` is the PEM of whom everybody trusts, `ca_key` its key, None where the certificates are the user's own.
    `hosts` is by the inventory's names, `client` is kbpg's own. `fresh` are the names of the files whose content
    was made just now: nobody has written it down yet. `exposed` are the keys on the controller, or their directory,
    that others have a right to, with their mode, where that was no reason to refuse them.
    """

    ca: bytes
    ca_key: Secret | None
    hosts: Mapping[str, Leaf] = field(hash=False)
    client: Leaf
    fresh: frozenset[str] = field(default=frozenset(), compare=False)
    exposed: Mapping[Path, int] = field(default_factory=dict, hash=False, compare=False)

    def private_keys(self) -> tuple[Secret, ...]:
        """Return every private key, for whoever removes secrets from what is shown."""
        own = () if self.ca_key is None else (self.ca_key,)
        return (*own, self.client.key, *(leaf.key for leaf in self.hosts.values()))

    def files(self) -> dict[str, Secret]:
        """Return the content of every file by its name; empty where the certificates are the user's own."""
        if self.ca_key is None:
            return {}
        found = {certificate_file(CA): Secret(self.ca.decode()), key_file(CA): self.ca_key}
        for name, leaf in {CLIENT: self.client, **self.hosts}.items():
            found[certificate_file(name)] = Secret(leaf.certificate.decode())
            found[key_file(name)] = leaf.key
        return found


def certificate_file(name: str) -> str:
    """Return the name of the file with a certificate: a host's, `CA` or `CLIENT`."""
    return f"{name}.crt"


def key_file(name: str) -> str:
    """Return the name of the file with a key."""
    return f"{name}.key"
