"""Certificates of the user's own authority (`tls.certificates`): read and checked, never written or issued."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kbpg.errors import CredentialsError
from kbpg.pki import reading
from kbpg.pki.completing import HOST_USAGES
from kbpg.pki.model import CA, CLIENT, Leaf, Pki, certificate_file, key_file
from kbpg.pki.names import Names
from kbpg.pki.reading import PrivateKey, Purpose, UnusableError
from kbpg.pki.store import read_file

if TYPE_CHECKING:
    from cryptography import x509

    from kbpg.secret import Secret

LONGEST_CHAIN = 8
"""Certificates between a leaf and an authority; real ones have one or two."""


def given(
    directory: Path,
    names: Mapping[str, Names],
    *,
    now: datetime | None = None,
    dates: bool = True,
    lenient: bool = False,
) -> Pki:
    """Return the certificates in `directory`. Raises CredentialsError with everything that is wrong with them.

    `ca.crt` may hold several authorities. A leaf's file may hold the intermediate certificates after the leaf.
    `dates`: whether a certificate that has expired is wrong. `lenient`: a key that others may read is told of in
    `Pki.exposed`, for who only looks.
    """
    reader = _Reader(directory, (now or datetime.now(UTC)) if dates else None, lenient=lenient)
    trusted = reader.authorities()
    client = reader.leaf(CLIENT, Purpose(Names((), ()), (reading.CLIENT,)), trusted)
    hosts = {name: reader.leaf(name, Purpose(wanted, HOST_USAGES), trusted) for name, wanted in names.items()}
    found = {name: leaf for name, leaf in hosts.items() if leaf is not None}
    if reader.problems or client is None:
        raise CredentialsError(
            "\n".join(reader.problems),
            hint="correct the files; kbpg issues none where the inventory has tls.certificates (docs/tls.md)",
        )
    return Pki(reader.authority, None, found, client, exposed=reader.exposed or {})


class _Reader:
    """Reads one directory and notes what is wrong."""

    def __init__(self, directory: Path, now: datetime | None, *, lenient: bool) -> None:
        self._directory, self._now = directory, now
        self.problems: list[str] = []
        self.exposed: dict[Path, int] | None = {} if lenient else None
        self.authority = b""

    def authorities(self) -> list[x509.Certificate]:
        """Return whom everybody is to trust; empty where that is not known, which was noted."""
        file = certificate_file(CA)
        found = self._certificates(file)
        for certificate in found:
            if not reading.is_authority(certificate):
                self._wrong(file, f"{_called(certificate)} is no authority (CA)")
            elif late := self._late(certificate):
                self._wrong(file, f"{_called(certificate)} {late}")
        return found

    def leaf(self, name: str, purpose: Purpose, trusted: list[x509.Certificate]) -> Leaf | None:
        """Return one certificate and its key, None where there are none."""
        file = certificate_file(name)
        chain, key = self._certificates(file), self._key(key_file(name))
        if not chain or key is None:
            return None
        text, parsed = key
        own = chain[0]
        if not reading.fits(parsed, own):
            self._wrong(file, f"does not belong to the key in {key_file(name)}")
        if late := self._late(own):
            self._wrong(file, late)
        if missing := reading.uncovered(own, purpose.names):
            self._wrong(file, f"is not good for {', '.join(missing)} (subject alternative names)")
        if missing := reading.unusable_for(own, purpose.usages):
            self._wrong(file, f"is not for {' and '.join(missing)} (extended key usage)")
        if trusted and not self._reaches(own, chain[1:], trusted):
            self._wrong(
                file, f"was not issued by {certificate_file(CA)}, nor through certificates in this file"
            )
        return Leaf(self._text(file).reveal().encode(), text)

    def _reaches(
        self, leaf: x509.Certificate, between: list[x509.Certificate], trusted: list[x509.Certificate]
    ) -> bool:
        """Return whether a chain of valid issuers leads from the leaf to one that is trusted."""
        at = leaf
        for _ in range(LONGEST_CHAIN):
            if any(reading.issued(at, root) for root in trusted):
                return True
            issuers = [each for each in between if reading.issued(at, each) and self._may_issue(each)]
            if not issuers or issuers[0] == at:
                return False
            at = issuers[0]
        return False

    def _may_issue(self, certificate: x509.Certificate) -> bool:
        return reading.is_authority(certificate) and self._late(certificate) is None

    def _late(self, certificate: x509.Certificate) -> str | None:
        return reading.out_of_date(certificate, self._now) if self._now else None

    def _certificates(self, file: str) -> list[x509.Certificate]:
        try:
            text = self._text(file).reveal().encode()
            found = reading.certificates(text)
        except CredentialsError as error:
            self.problems.append(error.message)
            return []
        except UnusableError as error:
            self._wrong(file, str(error))
            return []
        if file == certificate_file(CA):
            self.authority = text
        return found

    def _key(self, file: str) -> tuple[Secret, PrivateKey] | None:
        try:
            text = self._text(file)
            return text, reading.private_key(text)
        except CredentialsError as error:
            self.problems.append(error.message)
        except UnusableError as error:
            self._wrong(file, str(error))
        return None

    def _text(self, file: str) -> Secret:
        return read_file(self._directory / file, follow=True, exposed=self.exposed)

    def _wrong(self, file: str, text: str) -> None:
        self.problems.append(f"{self._directory / file}: {text}")


def _called(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"
