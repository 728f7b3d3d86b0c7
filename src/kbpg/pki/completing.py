"""From what is stored to all that a cluster needs: good certificates are kept, the others issued, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from kbpg.errors import CredentialsError
from kbpg.pki import issuing, reading
from kbpg.pki.model import CA, CLIENT, RENEWED, Leaf, Pki, certificate_file, key_file
from kbpg.pki.names import Names
from kbpg.pki.reading import PrivateKey, Purpose, UnusableError

if TYPE_CHECKING:
    from kbpg.pki.store import Stored
    from kbpg.secret import Secret

HOST_USAGES = (reading.SERVER, reading.CLIENT)
"""A host's certificate serves, and is shown by its programs where they are clients of other hosts."""


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey
    pem: bytes
    key_pem: Secret


def complete(
    stored: Stored,
    names: Mapping[str, Names],
    cluster: str,
    *,
    now: datetime | None = None,
    renew: bool = False,
    early: bool = True,
) -> Pki:
    """Return the certificates of a cluster: those stored that are good, byte for byte, and new ones.

    Issued anew is what is missing, has not the names that it should, is of another authority, or has less than
    `RENEWED` left; it gets a new certificate for the key that it has, so that the two files on a host fit each other
    at every moment. `renew`: every leaf is issued anew, with a new key. `early=False`: dates are not looked at, for
    commands that would not write down what they issue, and that must not fail because time went by. Write it
    afterwards. Raises CredentialsError with every file that is broken, or where the authority's key is lost.
    """
    moment = now or datetime.now(UTC)
    work = _Work(stored, moment)
    authority = work.authority(cluster)
    purposes = {CLIENT: Purpose(Names((), ()), (reading.CLIENT,))}
    purposes |= {name: Purpose(wanted, HOST_USAGES) for name, wanted in names.items()}
    found = {name: work.pair(name) for name in purposes}
    if work.problems or authority is None:
        raise CredentialsError("\n".join(work.problems), hint=_HINT)
    good = {
        name
        for name, (_, certificate) in found.items()
        if certificate is not None
        and not renew
        and _good(certificate, name, purposes[name], authority)
        and (not early or _lasting(certificate, authority, moment))
    }
    late = reading.out_of_date(authority.certificate, moment)
    if late and (early or good != set(purposes)):
        raise CredentialsError(f"{stored.path(certificate_file(CA))}: {late}", hint=_NEW_AUTHORITY)
    leaves = {}
    for name, purpose in purposes.items():
        key = None if renew else found[name][0]
        leaves[name] = work.kept(name) if name in good else work.issued(name, key, purpose, authority)
    client = leaves.pop(CLIENT)
    return Pki(authority.pem, authority.key_pem, leaves, client, frozenset(work.fresh), stored.exposed)


_HINT = "restore the files from a backup; a host's or kbpg's .crt and .key may also be removed, and are issued anew"
_NEW_AUTHORITY = "docs/tls.md says how a cluster gets a new authority"


class _Work:
    """What is made of the stored files, and the problems on the way."""

    def __init__(self, stored: Stored, now: datetime) -> None:
        self._stored, self._now = stored, now
        self.problems: list[str] = []
        self.fresh: set[str] = set()

    def authority(self, cluster: str) -> _Authority | None:
        """Return the authority, a new one where there is none; None where something is wrong with it."""
        certificate_name, key_name = certificate_file(CA), key_file(CA)
        key, certificate = self.pair(CA)
        files = self._stored.files
        if key is None and key_name not in files:
            if certificate_name in files:
                self._wrong(key_name, f"missing, though {certificate_name} is there")
                return None
            key = issuing.new_key()
            self.fresh.add(key_name)
        if key is None or (certificate is None and certificate_name in files):
            return None
        if certificate is None:  # of the same name and key it is as good as the one that was lost
            certificate = issuing.authority(key, cluster, self._now)
            self.fresh.add(certificate_name)
        elif not reading.is_authority(certificate) or not reading.issued(certificate, certificate):
            self._wrong(certificate_name, "is not the certificate of an authority (CA) that signed itself")
        pem = files[certificate_name].reveal().encode() if certificate_name in files else None
        return _Authority(
            certificate,
            key,
            pem or issuing.certificate_pem(certificate),
            files.get(key_name) or issuing.key_pem(key),
        )

    def pair(self, name: str) -> tuple[PrivateKey | None, x509.Certificate | None]:
        """Return the stored key and certificate, None for each that is missing or wrong."""
        key: PrivateKey | None = None
        certificate: x509.Certificate | None = None
        files = self._stored.files
        if (file := key_file(name)) in files:
            try:
                key = reading.private_key(files[file])
            except UnusableError as error:
                self._wrong(file, str(error))
        if (file := certificate_file(name)) in files:
            try:
                certificate = reading.certificates(files[file].reveal().encode())[0]
            except UnusableError as error:
                self._wrong(file, str(error))
        if key and certificate and not reading.fits(key, certificate):
            self._wrong(certificate_file(name), f"does not belong to the key in {key_file(name)}")
        return key, certificate if key else None

    def kept(self, name: str) -> Leaf:
        """Return what is stored."""
        files = self._stored.files
        return Leaf(files[certificate_file(name)].reveal().encode(), files[key_file(name)])

    def issued(
        self,
        name: str,
        key: PrivateKey | None,
        purpose: Purpose,
        authority: _Authority,
    ) -> Leaf:
        """Return a new certificate, for a new key where there is none."""
        self.fresh.add(certificate_file(name))
        text = self._stored.files.get(key_file(name)) if key else None
        if key is None or text is None:
            self.fresh.add(key_file(name))
            key = issuing.new_key()
            text = issuing.key_pem(key)
        made = issuing.leaf(key, name, purpose, authority.certificate, authority.key, self._now)
        return Leaf(issuing.certificate_pem(made), text)

    def _wrong(self, file: str, text: str) -> None:
        self.problems.append(f"{self._stored.path(file)}: {text}")


def _good(certificate: x509.Certificate, name: str, purpose: Purpose, authority: _Authority) -> bool:
    """Return whether a leaf says what a new one would say, whatever its dates."""
    has = reading.names_in(certificate)
    return (
        reading.common_name(certificate) == name
        and frozenset(has.texts()) == frozenset(purpose.names.texts())
        and reading.usages(certificate) == frozenset(purpose.usages)
        and reading.issued(certificate, authority.certificate)
    )


def _lasting(certificate: x509.Certificate, authority: _Authority, now: datetime) -> bool:
    """Return whether a leaf is valid, and long enough: `RENEWED`, or as long as its issuer."""
    enough = min(now + RENEWED, authority.certificate.not_valid_after_utc)
    return reading.out_of_date(certificate, now) is None and certificate.not_valid_after_utc >= enough
