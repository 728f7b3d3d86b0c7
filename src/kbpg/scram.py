"""SCRAM-SHA-256 verifiers as PostgreSQL stores them in `pg_authid.rolpassword`.

A verifier lets kbpg set a role's password without sending it, and tell whether a role has the password it
should have without logging in. The format is `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`,
the keys are those of RFC 5802.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from functools import lru_cache

from kbpg.secret import Secret

ITERATIONS = 4096
"""PostgreSQL's default (`scram_iterations`), the minimum of RFC 7677."""
MAX_ITERATIONS = 10_000_000
"""Above this a comparison would take seconds; PostgreSQL's own limit is 2^31 - 1."""
SALT_BYTES = 16
"""SCRAM_DEFAULT_SALT_LEN in PostgreSQL's `scram-common.h`."""

_STORED = re.compile(r"SCRAM-SHA-256\$([0-9]{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def verifier(password: Secret, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return what PostgreSQL would store for `password`.

    `salt` is random unless given; the same salt and iterations give the same verifier. Raises ValueError for
    iterations outside 1 to `MAX_ITERATIONS`, or an empty salt.
    """
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be between 1 and {MAX_ITERATIONS}: {iterations}")
    if salt is None:
        salt = secrets.token_bytes(SALT_BYTES)
    if not salt:
        raise ValueError("the salt is empty")
    stored_key, server_key = _keys(password, salt, iterations)
    return f"SCRAM-SHA-256${iterations}:{_encoded(salt)}${_encoded(stored_key)}:{_encoded(server_key)}"


def matches(stored: str | None, password: Secret) -> bool:
    """Return whether `stored`, a `rolpassword`, is a SCRAM-SHA-256 verifier of `password`.

    False for anything else: no password (None), an MD5 hash (even of the same password), a broken verifier.
    The keys are compared in constant time.
    """
    found = _STORED.fullmatch(stored or "")
    if not found:
        return False
    iterations = int(found[1])
    if not 1 <= iterations <= MAX_ITERATIONS:
        return False
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except binascii.Error:
        return False
    expected_stored, expected_server = _keys(password, salt, iterations)
    same_stored = hmac.compare_digest(stored_key, expected_stored)
    same_server = hmac.compare_digest(server_key, expected_server)
    return same_stored and same_server


def saslprep(password: str) -> str | None:
    """Return `password` as SASLprep (RFC 4013) prepares it, or None where RFC 4013 does not allow it.

    Follows `pg_saslprep` in PostgreSQL's `src/common/saslprep.c`: ASCII is left as it is, control characters
    included, and characters that Unicode 3.2 did not have yet are not allowed.
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    # RFC 4013 prohibits characters in the normalised text, PostgreSQL in the text before it: its way counts.
    if not mapped or any(table(char) for char in mapped for table in _PROHIBITED):
        return None
    return unicodedata.normalize("NFKC", mapped) if _bidirectional_rules_hold(mapped) else None


def _bidirectional_rules_hold(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text stands at both ends, with no left-to-right text in between."""
    right_to_left = [stringprep.in_table_d1(char) for char in text]
    if not any(right_to_left):
        return True
    return right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, text))


@lru_cache(maxsize=64)  # 2 ms each, and a run compares every role more than once
def _keys(password: Secret, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Return StoredKey and ServerKey (RFC 5802, section 3)."""
    given = password.reveal()
    prepared = saslprep(given)
    # PostgreSQL, libpq and PgBouncer all take the password as it is where SASLprep does not allow it.
    raw = (given if prepared is None else prepared).encode("utf-8", "surrogateescape")
    salted = hashlib.pbkdf2_hmac("sha256", raw, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
