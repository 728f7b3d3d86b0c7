"""SCRAM verifiers against what PostgreSQL made of the same passwords.

`test_scram_vectors.json` was written by PostgreSQL 15.18 (CREATE ROLE … PASSWORD, then rolpassword). With libpq 18
each of these passwords logged in against the verifier computed here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.scram import ITERATIONS, matches, saslprep, verifier
from kbpg.secret import Secret

VECTORS = json.loads(Path(__file__).with_name("test_scram_vectors.json").read_text("utf-8"))
BY_CASE = {vector["case"]: vector for vector in VECTORS}
STORED = BY_CASE["ascii"]["stored"]
PASSWORD = Secret(BY_CASE["ascii"]["password"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["case"])
def test_postgresql_stored_the_same(vector: dict[str, str]) -> None:
    password, stored = Secret(vector["password"]), vector["stored"]
    salt = base64.b64decode(stored.split("$")[1].partition(":")[2])
    assert verifier(password, salt=salt) == stored
    assert matches(stored, password)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["case"])
def test_another_password_does_not_match(vector: dict[str, str]) -> None:
    assert not matches(vector["stored"], Secret(vector["password"] + "x"))
    assert not matches(vector["stored"], Secret(""))


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("soft\u00adhyphen", "softhyphen"),
        ("non\u00a0breaking", "non breaking"),
        ("ｆｕｌｌ", "full"),
        ("u\u0308ber", "über"),
        ("tab\tü", None),
        ("tab\t", "tab\t"),
        ("\u00ad", None),
        ("grin 😀", None),
        ("ü\ue000", None),
        ("\u05d0b\u05d0", None),
        ("\u05d01", None),
        ("", ""),
    ],
)
def test_saslprep(password: str, prepared: str | None) -> None:
    assert saslprep(password) == prepared


def test_equivalent_passwords_match_and_prohibited_ones_are_taken_as_they_are() -> None:
    assert matches(BY_CASE["full-width"]["stored"], Secret("fullwidth"))
    assert matches(BY_CASE["soft hyphen"]["stored"], Secret("softhyphen"))
    assert matches(BY_CASE["decomposed"]["stored"], Secret("überlänge"))
    assert not matches(BY_CASE["emoji and ligature"]["stored"], Secret("😀fi"))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "correct horse",
        "md57bf9f5b2854ed0906ce91c6bd0c9db20",  # of the same password, by PostgreSQL
        STORED + "\n",
        STORED + "A",
        STORED[:-4],
        STORED.replace(":", "$"),
        STORED.replace("4096", "0"),
        STORED.replace("4096", "-4096"),
        STORED.replace("4096", "4095"),
        STORED.replace("4096", "4294967295"),
        STORED.replace("4096", "٤٠٩٦"),
        STORED.replace("SHA-256", "SHA-1"),
        STORED.lower(),
        "SCRAM-SHA-256$4096:$:",
        "SCRAM-SHA-256$4096:=$=:=",
        "SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:c2hvcnQ=",
    ],
)
def test_what_is_no_verifier_of_the_password_does_not_match(stored: str | None) -> None:
    assert not matches(stored, PASSWORD)


def test_both_keys_count() -> None:
    head, _, server_key = STORED.rpartition(":")
    before, _, _ = head.rpartition("$")
    other = verifier(Secret("another one"), salt=b"0123456789abcdef")
    other_stored, other_server = other.rpartition("$")[2].split(":")
    assert not matches(f"{head}:{other_server}", PASSWORD)
    assert not matches(f"{before}${other_stored}:{server_key}", PASSWORD)


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.binary(min_size=1, max_size=32),
)
def test_round_trip(password: str, salt: bytes) -> None:
    stored = verifier(Secret(password), salt=salt, iterations=3)
    assert stored.startswith("SCRAM-SHA-256$3:")
    assert matches(stored, Secret(password))
    assert stored == verifier(Secret(password), salt=salt, iterations=3)
    assert not matches(stored, Secret(password + "a"))


def test_a_salt_is_random_and_16_bytes_long() -> None:
    first, second = verifier(PASSWORD), verifier(PASSWORD)
    assert first != second
    iterations, _, salt = first.split("$")[1].partition(":")
    assert (int(iterations), len(base64.b64decode(salt))) == (ITERATIONS, 16)


def test_bytes_that_are_not_utf8_are_hashed_as_they_are() -> None:
    undecodable = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert matches(verifier(Secret(undecodable)), Secret(undecodable))


@pytest.mark.parametrize(("salt", "iterations"), [(b"", 4096), (b"salt", 0), (b"salt", 10_000_001)])
def test_senseless_parameters_are_refused(salt: bytes, iterations: int) -> None:
    with pytest.raises(ValueError, match=r"salt is empty|iterations must be"):
        verifier(PASSWORD, salt=salt, iterations=iterations)
