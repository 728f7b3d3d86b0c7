"""Certificates of the user's own authority."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from kbpg.errors import CredentialsError
from kbpg.pki import Names, Pki, names_of
from kbpg.pki.completing import HOST_USAGES
from kbpg.pki.given import given
from kbpg.pki.issuing import authority, certificate_pem, key_pem, leaf, new_key
from kbpg.pki.reading import CLIENT, SERVER, Purpose
from kbpg.pki.whole import pki_of

from .pki_world import DAY, NOW, inventory, parsed

CLUSTER = inventory()
NAMES = names_of(CLUSTER)


class Own:
    """A directory as a user would fill it: an authority that is not kbpg's, with an intermediate one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.root_key, self.key = new_key(), new_key()
        self.root = authority(self.root_key, "root", NOW)
        self.issuer = self._intermediate()
        self.put("ca.crt", certificate_pem(self.root))
        self.leaf("kbpg", Names((), ()), (CLIENT,))
        for name, names in NAMES.items():
            self.leaf(name, names)

    def _intermediate(self) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "between")]))
            .issuer_name(self.root.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + 1000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.root_key, SHA256())
        )

    def leaf(
        self,
        name: str,
        names: Names,
        usages: tuple[x509.ObjectIdentifier, ...] = HOST_USAGES,
        *,
        age: timedelta = timedelta(0),
    ) -> None:
        key = new_key()
        made = leaf(key, name, Purpose(names, usages), self.issuer, self.key, NOW - age)
        self.put(f"{name}.crt", certificate_pem(made) + certificate_pem(self.issuer))
        self.put(f"{name}.key", key_pem(key).reveal().encode())

    def put(self, name: str, content: bytes) -> None:
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(0o600)

    def read(self, *, dates: bool = True) -> Pki:
        return given(self.directory, NAMES, now=NOW, dates=dates)

    def problems(self) -> list[str]:
        with pytest.raises(CredentialsError) as caught:
            self.read()
        assert "PRIVATE" not in "\n".join(caught.value.lines())
        return [line.removeprefix(f"{self.directory}/") for line in caught.value.message.splitlines()]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path / "own")


def test_good_ones_are_taken_as_they_are(own: Own) -> None:
    before = {path.name: path.read_bytes() for path in own.directory.iterdir()}
    pki = own.read()
    assert pki.ca_key is None
    assert pki.files() == {}
    assert pki.ca == before["ca.crt"]
    assert set(pki.hosts) == set(NAMES)
    assert pki.hosts["db-1"].certificate == before["db-1.crt"]
    assert pki.hosts["db-1"].key.reveal().encode() == before["db-1.key"]
    assert pki.client.certificate == before["kbpg.crt"]
    assert {path.name: path.read_bytes() for path in own.directory.iterdir()} == before


def test_the_inventory_names_the_directory(own: Own, tmp_path: Path) -> None:
    path = str(tmp_path / "inventory.yaml")
    found = pki_of(inventory("tls: {certificates: own}", path=path), now=NOW)
    assert found == own.read()
    assert not (tmp_path / "credentials").exists()


def test_links_are_followed_where_somebody_else_puts_the_files(own: Own, tmp_path: Path) -> None:
    (own.directory / "db-1.key").rename(tmp_path / "secret")
    (own.directory / "db-1.key").symlink_to(tmp_path / "secret")
    assert own.read()


def test_every_problem_is_said_at_once(own: Own) -> None:
    names = NAMES["db-1"]
    own.leaf("db-1", Names(names.dns[1:], names.addresses[1:]))
    own.leaf("db-2", NAMES["db-2"], age=398 * DAY)
    own.leaf("db-3", NAMES["db-3"], (SERVER,))
    (own.directory / "px-1.crt").unlink()
    own.put("px-2.key", key_pem(new_key()).reveal().encode())
    (own.directory / "kbpg.key").chmod(0o644)
    assert own.problems() == [
        "kbpg.key: mode 0644: wanted 0600",
        "db-1.crt: is not good for db-1, 192.0.2.1 (subject alternative names)",
        f"db-2.crt: expired on {NOW - DAY - timedelta(hours=1):%Y-%m-%d}",
        "db-3.crt: is not for clientAuth (extended key usage)",
        "px-1.crt: no such file",
        "px-2.crt: does not belong to the key in px-2.key",
    ]


def test_an_expired_one_does_not_stop_who_only_looks(own: Own) -> None:
    own.leaf("db-2", NAMES["db-2"], age=398 * DAY)
    assert own.problems()
    assert own.read(dates=False)


def test_the_chain_must_lead_to_the_authority(own: Own) -> None:
    first = (own.directory / "db-1.crt").read_bytes()
    own.put("db-1.crt", certificate_pem(parsed(first)))
    assert own.problems() == ["db-1.crt: was not issued by ca.crt, nor through certificates in this file"]
    own.put("ca.crt", certificate_pem(own.root) + certificate_pem(own.issuer))
    assert own.read().ca.count(b"BEGIN CERTIFICATE") == 2


def test_another_authority_is_refused(own: Own) -> None:
    own.put("ca.crt", certificate_pem(authority(new_key(), "root", NOW)))
    assert len(own.problems()) == len(NAMES) + 1
    own.put("ca.crt", (own.directory / "db-1.crt").read_bytes())
    assert "ca.crt: CN=db-1 is no authority (CA)" in own.problems()


def test_an_authority_that_has_expired_is_refused(own: Own) -> None:
    with pytest.raises(CredentialsError, match="CN=kbpg root expired on"):
        given(own.directory, NAMES, now=NOW + 3653 * DAY)


def test_a_wildcard_stands_for_one_label(own: Own) -> None:
    cluster = inventory("", path="i.yaml").model_copy(
        update={"cluster": CLUSTER.cluster.model_copy(update={"load_balancer": "pg.example.org"})}
    )
    names = names_of(cluster)
    for name, wanted in names.items():
        dns = tuple("*.example.org" if each == "pg.example.org" else each for each in wanted.dns)
        own.leaf(name, Names(dns, wanted.addresses))
    assert given(own.directory, names, now=NOW)
    for name, wanted in names.items():
        own.leaf(name, Names(("*.org", *wanted.dns[:-1]), wanted.addresses))
    with pytest.raises(CredentialsError, match=r"is not good for pg\.example\.org"):
        given(own.directory, names, now=NOW)


def test_a_directory_that_is_missing_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        given(tmp_path / "none", NAMES, now=NOW)
    assert f"{tmp_path}/none/ca.crt: no such file" in caught.value.message
    assert not list(tmp_path.iterdir())
