"""PEM to certificates and keys, and what can be said of them. Pure; every problem is a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from kbpg.pki.names import Names

if TYPE_CHECKING:
    from kbpg.secret import Secret

PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey
"""Kinds of keys that all programs can use; channel binding of SCRAM has no hash for others (RFC 5929, 4.1)."""
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_PURPOSES = {SERVER: "serverAuth", CLIENT: "clientAuth"}


class UnusableError(Exception):
    """A file that holds no certificate or key as wanted; the text says what, and never a part of it."""


@dataclass(frozen=True)
class Purpose:
    """What a certificate must be good for."""

    names: Names
    usages: tuple[x509.ObjectIdentifier, ...]


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates in `pem`, one at least. Raises `UnusableError`."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        for certificate in found:
            _ = certificate.extensions  # parsed when it is first looked at
    except (ValueError, x509.DuplicateExtension) as error:
        raise UnusableError("no certificate can be read in it: wanted PEM") from error
    return found


def private_key(text: Secret) -> PrivateKey:
    """Return the key in a PEM text. Raises `UnusableError`."""
    try:
        # The check of an RSA key takes 0.1 s and looks for wrong keys; that it fits its certificate is enough
        found = load_pem_private_key(text.reveal().encode("ascii"), None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise UnusableError(
            "the key is encrypted, and there is nobody to ask: wanted one without a passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):  # their texts could quote what was read
        raise UnusableError("no private key can be read in it: wanted PEM") from None
    if not isinstance(found, (EllipticCurvePrivateKey, RSAPrivateKey)):
        raise UnusableError("the key is of another kind: wanted one for elliptic curves (EC) or RSA")
    return found


def fits(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Return whether the key is the certificate's."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer`, by name and signature, has issued the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def is_authority(certificate: x509.Certificate) -> bool:
    """Return whether the certificate may issue others."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return basic.ca
    return basic.ca and usage.key_cert_sign


def out_of_date(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return why the certificate is not valid at `now`, None where it is."""
    if certificate.not_valid_after_utc <= now:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_before_utc > now:
        return f"is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: is the clock right?"
    return None


def names_in(certificate: x509.Certificate) -> Names:
    """Return the names that the certificate is good for; the common name is none (RFC 9525)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names((), ())
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return Names.of([*found.get_values_for_type(x509.DNSName), *addresses])


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's common name; empty where there is none."""
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def uncovered(certificate: x509.Certificate, wanted: Names) -> list[str]:
    """Return which wanted names the certificate is not good for; `*.` stands for one label (RFC 9525, 6.3)."""
    has = names_in(certificate)
    dns = [name for name in wanted.dns if name not in has.dns and _wildcard(name) not in has.dns]
    return [*dns, *(str(address) for address in wanted.addresses if address not in has.addresses)]


def _wildcard(name: str) -> str:
    return f"*.{name.partition('.')[2]}"


def usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    """Return what the certificate may be used for, None where it says nothing and so anything goes."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return frozenset(found)


def unusable_for(certificate: x509.Certificate, wanted: tuple[x509.ObjectIdentifier, ...]) -> list[str]:
    """Return which of the wanted usages the certificate forbids, by name."""
    has = usages(certificate)
    if has is None or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in has:
        return []
    return [_PURPOSES[usage] for usage in wanted if usage not in has]
