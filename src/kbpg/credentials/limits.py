"""What a password may hold so that every part of the cluster and every client carries it unchanged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kbpg.secret import Secret

MIN_CHARACTERS = 8
"""NIST SP 800-63B, 5.1.1.2: the shortest password a person may choose."""
MAX_BYTES = 1023
"""PgBouncer 1.24.1 logs in to the server with up to 1024 bytes; above that clients wait until they give up.

Measured, with PostgreSQL 15 behind it; the limit is that of its SASLprep. Its userlist.txt holds 2047 bytes, where
a double quote counts twice: 1023 of them fit. PostgreSQL and libpq carry more.
"""
MAX_NAME_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL cuts longer names."""

_HASHED = re.compile(r"md5[0-9a-f]{32}|SCRAM-SHA-256\$.*", re.DOTALL)
_REASONS = {
    "Cc": "a control character, which not every file and client carries",
    "Cf": "an invisible character, which SASLprep (RFC 4013) drops or prohibits",
    "Co": "a private-use character, which SASLprep (RFC 4013) prohibits",
    "Cs": "not a character of UTF-8",
    "Zl": "a line separator, which ends a line for some readers",
    "Zp": "a paragraph separator, which ends a line for some readers",
    "Zs": "a special space, which SASLprep (RFC 4013) makes a plain one",
}
_ASCII_ONLY = {
    "PATRONI_REST_PASS": "Patroni's client sends it as Latin-1 while its server expects UTF-8",
}


def password_problems(name: str, password: Secret) -> Iterator[str]:
    """Yield what is wrong with the password of `name` (a name of the file), in words without the password."""
    value = password.reveal()
    if not value:
        yield "is empty: wanted a password"
        return
    yield from _odd_characters(value)
    if len(value) < MIN_CHARACTERS:
        yield f"is {len(value)} characters long: wanted {MIN_CHARACTERS} or more (NIST SP 800-63B)"
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        yield f"is {size} bytes long: wanted {MAX_BYTES} or fewer (PgBouncer cannot log in with more)"
    if _HASHED.fullmatch(value):
        yield "looks like a stored hash and would be taken for one by PostgreSQL: wanted a plain password"
    if name in _ASCII_ONLY and not value.isascii():
        yield f"has a character that is not ASCII: {_ASCII_ONLY[name]}"


def user_problems(user: str) -> Iterator[str]:
    """Yield what is wrong with a user's name."""
    if not user:
        yield "is empty: wanted a name"
    yield from _odd_characters(user)
    size = len(user.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        yield f"is {size} bytes long: wanted {MAX_NAME_BYTES} or fewer (PostgreSQL's limit)"


def _odd_characters(value: str) -> Iterator[str]:
    """Yield one problem for each kind of unusable character, naming the code point but not its place."""
    seen: set[str] = set()
    for char in value:
        reason = _reason(char)
        if reason and reason not in seen:
            seen.add(reason)
            yield f"has U+{ord(char):04X}, {reason}: wanted printable characters and plain spaces"


def _reason(char: str) -> str | None:
    if char == " ":
        return None
    if ord(char) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(char) <= 0xFDEF:
        return "not a character of Unicode"
    return _REASONS.get(unicodedata.category(char))
