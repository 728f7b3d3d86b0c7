"""known_hosts files: which lines speak of a host. What is done about it is tested with real servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from kbpg.errors import HostKeyError
from kbpg.hosts.keys import HostKey, known_keys, verify

KEY = HostKey("ssh-ed25519", b"the wire form of a key")


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        ("db-1", "db-1", True),
        ("DB-1", "db-1", True),
        ("db-1,127.0.0.5", "127.0.0.5", True),
        ("db-?", "db-1", True),
        ("*.example", "db-1.example", True),
        ("*,!db-1", "db-1", False),
        ("!db-1,*", "db-1", False),
        ("!db-1", "db-2", False),
        ("[127.0.0.5]:2222", "[127.0.0.5]:2222", True),
        ("127.0.0.5", "[127.0.0.5]:2222", False),
        ("[1]:2222", "1:2222", False),
        (hashed("db-1"), "db-1", True),
        (hashed("db-2"), "db-1", False),
        ("|1|not base64|x", "db-1", False),
        ("|1|", "db-1", False),
    ],
)
def test_names_are_matched_as_ssh_does(tmp_path: Path, patterns: str, name: str, matches: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"{patterns} ssh-ed25519 {KEY.encoded} a comment\n")
    assert bool(known_keys([path], name)) == matches


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(
        b"# db-1 ssh-ed25519 AAAA\n\ndb-1\ndb-1 ssh-ed25519\n@cert-authority db-1 ssh-ed25519 AAAA\n@revoked\n\xff\n"
        b"  db-1 ssh-ed25519 BBBB\n@revoked db-1 ssh-rsa CCCC\n"
    )
    entries = known_keys([tmp_path / "missing", path], "db-1")
    assert [(entry.line, entry.encoded, entry.revoked) for entry in entries] == [
        (8, "BBBB", False),
        (9, "CCCC", True),
    ]


def test_a_directory_is_no_known_hosts_file(tmp_path: Path) -> None:
    with pytest.raises(HostKeyError) as caught:
        known_keys([tmp_path], "[127.0.0.5]:22", host="db-1")
    assert caught.value.lines()[0] == f"db-1: its host key cannot be looked up in {tmp_path}: is a directory"


def test_the_fingerprint_is_spelled_as_ssh_keygen_does() -> None:
    digest = base64.b64encode(hashlib.sha256(KEY.blob).digest()).decode().rstrip("=")
    assert KEY.fingerprint == f"SHA256:{digest}"


def test_a_file_that_cannot_be_written_stops(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(HostKeyError, match="db-1: its host key cannot be remembered in"):
        verify(
            KEY,
            host="db-1",
            where="127.0.0.5:22",
            name="db-1",
            paths=[blocked / "known_hosts"],
            ask=None,
            accept_new=True,
        )
