"""What stands on the disk: what is kept, what is issued anew, what is refused."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kbpg.errors import CredentialsError
from kbpg.pki import load, names_of, store, write
from kbpg.pki.completing import complete
from kbpg.pki.issuing import CA_LIFE
from kbpg.secret import Secret

from .pki_world import DAY, NOW, Store, inventory, parsed
from .small_cluster import HOSTS

NAMES = ("db-1", "db-2", "db-3", "kbpg", "px-1", "px-2")
LEAVES = {f"{name}.crt" for name in NAMES}
KEYS = {f"{name}.key" for name in NAMES}
ALL = {"ca.crt", "ca.key"} | LEAVES | KEYS


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    """Return a directory that is complete."""
    found = Store(tmp_path / "credentials" / "pki")
    found.run()
    return found


def refused(place: Store, now: datetime = NOW, *, early: bool = True) -> str:
    before = place.files() if place.directory.is_dir() else {}
    with pytest.raises(CredentialsError) as caught:
        place.complete(now, early=early)
    assert "PRIVATE" not in "\n".join(caught.value.lines())
    assert (place.files() if place.directory.is_dir() else {}) == before
    return "\n".join(caught.value.lines())


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    place = Store(tmp_path / "pki")
    pki = place.complete()
    assert pki.fresh == ALL
    assert not place.directory.exists()
    assert load(place.directory).differing(pki) == dict.fromkeys(ALL, "missing")


def test_everything_is_its_owners_alone(kept: Store) -> None:
    assert stat.S_IMODE(kept.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.directory.parent.stat().st_mode) == 0o700
    assert set(kept.files()) == ALL
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.directory.iterdir()} == {0o600}


@pytest.mark.parametrize("days", [0, 1, 365])
def test_what_is_good_is_kept_byte_for_byte(kept: Store, days: int) -> None:
    before = kept.files()
    pki = kept.run(NOW + days * DAY)
    assert pki.fresh == frozenset()
    assert kept.files() == before
    assert {name: text.reveal().encode() for name, text in pki.files().items()} == before


@pytest.mark.parametrize("later", [367 * DAY, 400 * DAY])
def test_what_expires_soon_is_issued_anew_for_the_same_key(kept: Store, later: timedelta) -> None:
    before = kept.files()
    pki = kept.run(NOW + later)
    assert pki.fresh == LEAVES
    assert kept.changed(before) == LEAVES
    assert parsed(pki.hosts["db-1"].certificate).not_valid_after_utc > NOW + later + 390 * DAY
    assert kept.run(NOW + later).fresh == frozenset()


def test_a_command_that_writes_nothing_down_issues_nothing_because_of_the_date(kept: Store) -> None:
    for days in (367, 1000, 4000):
        assert kept.complete(NOW + days * DAY, early=False).fresh == frozenset()


def test_renewal_makes_new_keys_and_keeps_the_authority(kept: Store) -> None:
    before = kept.files()
    pki = kept.run(renew=True)
    assert pki.fresh == LEAVES | KEYS == kept.changed(before)
    assert pki.ca == before["ca.crt"]


def test_a_new_proxy_is_a_new_name_of_the_db_hosts(kept: Store) -> None:
    before = kept.files()
    more = inventory(hosts=HOSTS + "  - {name: px-3, address: 192.0.2.13}\n")
    pki = kept.run(cluster=more)
    assert pki.fresh == {"db-1.crt", "db-2.crt", "db-3.crt", "px-3.crt", "px-3.key"} == kept.changed(before)


def test_what_has_left_the_inventory_stays(kept: Store) -> None:
    (kept.directory / "old.crt").write_text("whatever\n")
    before = kept.files()
    assert kept.run().fresh == frozenset()
    assert kept.files() == before


def test_a_certificate_of_another_authority_is_replaced(kept: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.run()
    for name in ("px-1.crt", "px-1.key"):
        (kept.directory / name).write_bytes((other.directory / name).read_bytes())
    assert kept.complete().fresh == {"px-1.crt"}


@pytest.mark.parametrize(
    ("removed", "fresh"),
    [
        (["db-1.crt"], {"db-1.crt"}),
        (["db-1.key"], {"db-1.crt", "db-1.key"}),
        (["kbpg.crt", "kbpg.key"], {"kbpg.crt", "kbpg.key"}),
        (["ca.crt"], {"ca.crt"}),
    ],
)
def test_what_is_missing_is_issued(kept: Store, removed: list[str], fresh: set[str]) -> None:
    for name in removed:
        (kept.directory / name).unlink()
    before = kept.files()
    assert kept.run().fresh == fresh == kept.changed(before)
    assert kept.run().fresh == frozenset()


def test_without_its_key_an_authority_is_lost(kept: Store) -> None:
    (kept.directory / "ca.key").unlink()
    text = refused(kept)
    assert f"{kept.directory}/ca.key: missing, though ca.crt is there" in text
    assert "backup" in text


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize(
    "content", ["", "no PEM\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_pem_is_refused(kept: Store, name: str, content: str) -> None:
    (kept.directory / name).write_text(content)
    assert f"{kept.directory}/{name}: no " in refused(kept)


@pytest.mark.parametrize("name", ["ca", "db-1", "kbpg"])
def test_a_key_of_somebody_else_is_refused(kept: Store, name: str) -> None:
    (kept.directory / f"{name}.key").write_bytes((kept.directory / "px-1.key").read_bytes())
    assert f"{kept.directory}/{name}.crt: does not belong to the key in {name}.key" in refused(kept)


def test_a_leaf_is_no_authority(kept: Store) -> None:
    for suffix in ("crt", "key"):
        (kept.directory / f"ca.{suffix}").write_bytes((kept.directory / f"px-1.{suffix}").read_bytes())
    assert f"{kept.directory}/ca.crt: is not the certificate of an authority" in refused(kept)


def test_an_authority_that_has_expired_is_refused(kept: Store) -> None:
    text = refused(kept, NOW + CA_LIFE)
    assert f"{kept.directory}/ca.crt: expired on 2036-" in text
    assert "docs/tls.md" in text
    assert refused(kept, NOW - DAY).startswith(f"{kept.directory}/ca.crt: is valid from 2026-06-01 11:00 UTC")
    (kept.directory / "db-1.crt").unlink()
    assert "expired" in refused(kept, NOW + CA_LIFE, early=False)


def test_a_certificate_does_not_outlive_its_authority(kept: Store) -> None:
    later = NOW + CA_LIFE - 10 * DAY
    pki = kept.run(later)
    assert parsed(pki.hosts["db-1"].certificate).not_valid_after_utc == parsed(pki.ca).not_valid_after_utc
    assert kept.complete(later + DAY).fresh == frozenset()


def test_all_problems_are_said_at_once(kept: Store) -> None:
    (kept.directory / "db-1.crt").write_text("nonsense\n")
    (kept.directory / "px-2.key").write_text("nonsense\n")
    text = refused(kept)
    assert f"{kept.directory}/db-1.crt: no certificate can be read" in text
    assert f"{kept.directory}/px-2.key: no private key can be read" in text


@pytest.mark.parametrize("name", ["db-1.key", "ca.key"])
def test_a_key_that_others_may_read_is_refused(kept: Store, name: str) -> None:
    (kept.directory / name).chmod(0o640)
    text = refused(kept)
    assert f"{kept.directory}/{name}: mode 0640: wanted 0600" in text
    assert "chmod" in text


def test_a_directory_that_others_may_enter_is_refused(kept: Store) -> None:
    kept.directory.chmod(0o755)
    assert f"{kept.directory}: mode 0755: wanted 0700" in refused(kept)


def test_who_only_looks_is_told_of_what_others_may_read(kept: Store) -> None:
    (kept.directory / "ca.key").chmod(0o640)
    (kept.directory / "ca.crt").chmod(0o644)
    kept.directory.chmod(0o755)
    stored = load(kept.directory, lenient=True)
    assert stored.exposed == {kept.directory: 0o755, kept.directory / "ca.key": 0o640}
    assert set(stored.files) == ALL
    whole = complete(stored, names_of(inventory()), "kb", now=NOW)
    assert (whole.exposed, whole.fresh) == (stored.exposed, frozenset())
    assert load_all_refused(kept) == [
        f"{kept.directory}: mode 0755: wanted 0700",
        f"{kept.directory}/ca.key: mode 0640: wanted 0600",
    ]


def load_all_refused(place: Store) -> list[str]:
    with pytest.raises(CredentialsError) as caught:
        load(place.directory)
    return caught.value.message.splitlines()


def test_who_only_looks_is_refused_what_is_no_key(kept: Store) -> None:
    (kept.directory / "ca.key").chmod(0o640)
    (kept.directory / "db-1.key").unlink()
    (kept.directory / "db-1.key").symlink_to(kept.directory / "ca.key")
    with pytest.raises(CredentialsError) as caught:
        load(kept.directory, lenient=True)
    assert caught.value.message == f"{kept.directory}/db-1.key: a symbolic link: wanted a file"


def test_a_link_is_refused(kept: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (kept.directory / "db-1.key").rename(elsewhere)
    (kept.directory / "db-1.key").symlink_to(elsewhere)
    assert f"{kept.directory}/db-1.key: a symbolic link: wanted a file" in refused(kept)
    linked = Store(tmp_path / "linked")
    linked.directory.symlink_to(kept.directory)
    assert f"{linked.directory}: a symbolic link: wanted a directory" in refused(linked)


def test_what_is_no_file_is_refused(kept: Store) -> None:
    (kept.directory / "db-1.key").unlink()
    (kept.directory / "db-1.key").mkdir()
    (kept.directory / "db-2.crt").write_bytes(b"\xff\xfe")
    (kept.directory / "db-3.crt").write_bytes(b"x" * (store.MAX_BYTES + 1))
    text = refused(kept)
    assert f"{kept.directory}/db-1.key: not a file" in text
    assert f"{kept.directory}/db-2.crt: not text" in text
    assert f"{kept.directory}/db-3.crt: more than" in text


@pytest.mark.parametrize("renew", [False, True])
def test_whenever_it_is_killed_the_next_run_goes_on(
    tmp_path: Path, renew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.replace
    left = 0

    class Killed(BaseException):
        """SIGKILL."""

    def counted(file: Path, content: bytes, *, mode: int) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        real(file, content, mode=mode)

    monkeypatch.setattr(store, "replace", counted)
    for writes in range(len(ALL)):
        place = Store(tmp_path / f"{writes}")
        if renew:
            left = 1000
            place.run()
        left = writes
        if not renew or writes < len(LEAVES | KEYS):
            with pytest.raises(Killed):
                place.run(renew=renew)
        left = 1000
        place.run()
        assert place.run().fresh == frozenset()
        assert set(place.files()) == ALL


def test_another_kbpg_that_writes_is_told(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(descriptor: int, operation: int) -> None:
        raise BlockingIOError

    monkeypatch.setattr("kbpg.replacing.fcntl.flock", busy)
    with pytest.raises(CredentialsError, match="another kbpg is writing"):
        write(kept.complete(renew=True), load(kept.directory))


def test_an_encrypted_key_is_refused(kept: Store) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )
    (kept.directory / "db-1.key").write_bytes(key)
    assert f"{kept.directory}/db-1.key: the key is encrypted" in refused(kept)


def test_nothing_secret_is_shown(kept: Store) -> None:
    stored = load(kept.directory)
    assert "BEGIN" not in repr(stored)
    assert all(isinstance(text, Secret) for text in stored.files.values())
