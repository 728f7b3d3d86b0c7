"""New keys and certificates. `now` is UTC; nothing is written.

P-256 with SHA-256 is what every client of PostgreSQL that speaks TLS 1.2 knows, and what costs a handshake least
(docs/adr/0018-certificate-authority.md).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kbpg.pki.reading import PrivateKey, Purpose
from kbpg.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CA_LIFE = timedelta(days=3652)
"""Ten years: replacing an authority means a new ca.crt for every client, which nobody wants to do often."""
LEAF_LIFE = timedelta(days=397)
"""What a leaf is valid for, backdating included: a year, and a month in which it is renewed, for whoever runs
kbpg once a year. 397 days was the most that public authorities were advised to give from 2020 to 2026
(CA/Browser Forum, Baseline Requirements, 6.3.2). No limit of theirs binds a private authority, but what clients
refuse by dates alone (825 days on Apple's systems) is beyond it."""
BACKDATED = timedelta(hours=1)
"""How much earlier than now a certificate begins. It is used seconds after it was made, on hosts and by clients whose
clocks may be behind the controller's; preflight bounds the hosts' clocks to a second, nobody bounds the clients'. An
hour also covers a clock that a time zone or summer time was set wrong on by one."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> Secret:
    """Return the key as PEM, PKCS #8, not encrypted."""
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def authority(key: PrivateKey, cluster: str, now: datetime) -> x509.Certificate:
    """Return the certificate of the cluster's authority, which issues leaves and no other authority."""
    name = _name(f"kbpg {cluster}")
    return (
        _begun(name, name, key.public_key(), now, now - BACKDATED + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )


def leaf(
    key: PrivateKey,
    common_name: str,
    purpose: Purpose,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    now: datetime,
) -> x509.Certificate:
    """Return a certificate for `key`; it ends with its issuer's at the latest."""
    end = min(now - BACKDATED + LEAF_LIFE, issuer.not_valid_after_utc)
    builder = (
        _begun(_name(common_name), issuer.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purpose.usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    names = purpose.names
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    general += [x509.IPAddress(address) for address in names.addresses]
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(issuer_key, SHA256())


def _begun(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
