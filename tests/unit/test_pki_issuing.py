"""What is issued, parsed back; and whether TLS accepts it."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kbpg.inventory import parse
from kbpg.pki import Leaf, Names, Pki, names_of

from .pki_world import NOW, Store, handshake, inventory, parsed
from .small_cluster import HOSTS

DOORS = ("px-1", "px-2")
DOOR_ADDRESSES = ("192.0.2.11", "192.0.2.12")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Store(tmp_path_factory.mktemp("pki") / "pki").run()


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_db_host_goes_by_every_name_that_a_client_may_use() -> None:
    found = names_of(inventory())
    assert list(found) == ["db-1", "db-2", "db-3", "px-1", "px-2"]
    assert found["db-2"].texts() == (
        *("db-2", "localhost", *DOORS),
        *("192.0.2.2", "127.0.0.1", *DOOR_ADDRESSES),
    )
    assert found["px-1"].texts() == ("px-1", "localhost", "192.0.2.11", "127.0.0.1")


@pytest.mark.parametrize(
    ("balancer", "dns", "addresses"),
    [
        ("10.0.0.10", (), ("10.0.0.10",)),
        ("2001:db8::10", (), ("2001:db8::10",)),
        ("PG.Example.org.", ("pg.example.org",), ()),
    ],
)
def test_the_load_balancer_is_a_name_of_all(
    balancer: str, dns: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    text = f'cluster: {{name: kb, load_balancer: "{balancer}"}}\n{HOSTS}'
    for names in names_of(parse(text, "i.yaml")).values():
        assert set(dns) <= set(names.dns)
        assert set(map(ipaddress.ip_address, addresses)) <= set(names.addresses)


def test_a_name_is_not_taken_twice() -> None:
    found = Names.of(["a", "A.", "127.0.0.1", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "a.b"])
    assert found.dns == ("a", "a.b")
    assert [str(address) for address in found.addresses] == ["127.0.0.1", "::1"]


def test_the_authority(pki: Pki) -> None:
    found = parsed(pki.ca)
    assert common_name(found.subject) == common_name(found.issuer) == "kbpg kb"
    assert found.not_valid_before_utc == NOW - timedelta(hours=1)
    assert found.not_valid_after_utc - NOW > timedelta(days=3650)
    extensions = found.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    subject_key = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert subject_key == x509.SubjectKeyIdentifier.from_public_key(found.public_key())
    found.verify_directly_issued_by(found)


def test_a_host(pki: Pki) -> None:
    found, authority = parsed(pki.hosts["db-1"].certificate), parsed(pki.ca)
    assert common_name(found.subject) == "db-1"
    assert found.not_valid_before_utc == NOW - timedelta(hours=1)
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=397)
    assert found.signature_hash_algorithm is not None
    assert found.signature_hash_algorithm.name == "sha256"
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    extensions = found.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db-1", "localhost", *DOORS]
    addresses = ["192.0.2.1", "127.0.0.1", *DOOR_ADDRESSES]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == addresses
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject_key = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == subject_key.key_identifier
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    found.verify_directly_issued_by(authority)


def test_kbpg_itself_is_a_client_and_nothing_else(pki: Pki) -> None:
    found = parsed(pki.client.certificate)
    assert common_name(found.subject) == "kbpg"
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        found.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_keys_are_pkcs8_and_all_different(pki: Pki) -> None:
    texts = [key.reveal() for key in pki.private_keys()]
    assert len(set(texts)) == len(texts) == 7
    for text in texts:
        assert text.startswith("-----BEGIN PRIVATE KEY-----\n")
        assert load_pem_private_key(text.encode(), None)
    assert "PRIVATE KEY" not in repr(pki)


def fresh(directory: Path) -> Pki:
    """Return certificates that are valid now, as OpenSSL looks at its own clock."""
    return Store(directory / "pki").complete(datetime.now(UTC))


def test_a_handshake_with_every_name_goes_well(tmp_path: Path) -> None:
    pki = fresh(tmp_path)
    for host, names in names_of(inventory()).items():
        for name in names.texts():
            assert handshake(pki.hosts[host], pki.ca, name, tmp_path) is None, (host, name)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        *(("db-1", name) for name in ("db-2", "192.0.2.2", "example.org", "127.0.0.2")),
        *(("px-1", name) for name in ("px-2", "192.0.2.12", "db-1")),
    ],
)
def test_a_handshake_with_a_wrong_name_is_refused(host: str, name: str, tmp_path: Path) -> None:
    pki = fresh(tmp_path)
    refusal = handshake(pki.hosts[host], pki.ca, name, tmp_path)
    assert refusal is not None
    assert "mismatch" in refusal


def test_a_handshake_with_another_authority_is_refused(tmp_path: Path) -> None:
    pki, other = fresh(tmp_path), fresh(tmp_path)
    refusal = handshake(pki.hosts["db-1"], other.ca, "db-1", tmp_path)
    assert refusal is not None
    assert "certificate verify failed" in refusal


def test_a_handshake_with_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = Store(tmp_path / "pki").complete(datetime.now(UTC) - timedelta(days=397))
    refusal = handshake(old.hosts["db-1"], old.ca, "db-1", tmp_path)
    assert refusal is not None
    assert "expired" in refusal


def test_clients_are_verified_too(tmp_path: Path) -> None:
    pki, other = fresh(tmp_path), fresh(tmp_path)
    server = pki.hosts["db-1"]
    for good in (pki.client, pki.hosts["px-1"]):
        assert handshake(server, pki.ca, "db-1", tmp_path, client=good) is None
    refusal = handshake(server, pki.ca, "db-1", tmp_path, client=other.client)
    assert refusal is not None
    assert "server: " in refusal


def test_the_client_certificate_cannot_serve(tmp_path: Path) -> None:
    pki = fresh(tmp_path)
    refusal = handshake(Leaf(pki.client.certificate, pki.client.key), pki.ca, "kbpg", tmp_path)
    assert refusal is not None
    assert "certificate verify failed" in refusal
