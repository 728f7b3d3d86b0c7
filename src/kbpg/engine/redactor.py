"""Masking of secrets in text that is shown or written down: belt and braces, for none should be there.

A secret is known in every spelling it may take on its way through kbpg and the programs kbpg runs.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import yaml

from kbpg.credentials import all_secrets
from kbpg.secret import MASK, Secret, without_passwords

if TYPE_CHECKING:
    from kbpg.context import Context

SHORTEST = 4
"""Characters: a shorter value is not looked for, or every text would be full of masks."""


SHORTEST_LINE = 16
"""Characters of the lines of a key that are looked for: 96 bits. A shorter one is the last, and tells little."""
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
"""A private key in PEM, whoever's it is; one that is cut off, to the end of the text."""


class Redactor:
    """Masks secrets in texts. Usable from several threads; secrets may be added at any time."""

    def __init__(self, secrets: Iterable[Secret] = (), *, keys: Iterable[Secret] = ()) -> None:
        """`keys` are private keys in PEM: every line of one is a secret, and so is one that nobody knows of."""
        self._spellings = frozenset(line for key in keys for line in _key_lines(key.reveal()))
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()
        self.add(secrets)

    @classmethod
    def of(cls, context: Context) -> Redactor:
        """Return what knows every secret of `context`, in an unfinished rotation the passwords of before too."""
        redactor = cls(all_secrets(context.credentials), keys=context.pki.private_keys())
        if context.former:
            redactor.add(all_secrets(context.former))
        return redactor

    def add(self, secrets: Iterable[Secret]) -> None:
        """Know these secrets too."""
        more = frozenset[str]().union(*(_spellings_of(secret.reveal()) for secret in secrets))
        with self._lock:
            spellings = self._spellings | more
            # The longest first: a spelling may begin with another.
            ordered = sorted(spellings, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
            self._spellings = spellings

    def mask(self, text: str) -> str:
        """Return `text` with every spelling of every secret replaced by `***`, and any password in a statement."""
        pattern = self._pattern
        return without_passwords(_KEY.sub(MASK, pattern.sub(MASK, text) if pattern else text))


def _key_lines(pem: str) -> Iterator[str]:
    """Yield the lines of base64 of a key. None of its characters is quoted by a shell, JSON, YAML or SQL."""
    for line in pem.splitlines():
        if len(line) >= SHORTEST_LINE and "-" not in line:
            yield line


@lru_cache(maxsize=256)  # 1 ms each, and a command has several redactors that know the same
def _spellings_of(value: str) -> frozenset[str]:
    return frozenset(spelling for spelling in _spellings(value) if len(spelling) >= SHORTEST)


def _spellings(value: str) -> Iterator[str]:
    """Yield how `value` looks raw, quoted for a language, encoded, and quoted by one shell or two."""
    for spelling in {value, *_quoted(value)}:
        yield spelling
        once = _in_shell(spelling)
        yield once
        yield _in_shell(once)
        yield spelling.replace("'", "'\\''")
    yield from _base64(value)


def _quoted(value: str) -> Iterator[str]:
    """Yield the inside of the quotes of each language that kbpg writes."""
    yield quote(value, safe="")
    yield quote(value)
    yield quote_plus(value)
    yield value.replace("'", "''")  # SQL, YAML in single quotes
    yield value.replace("\\", "\\\\").replace("'", "''")  # SQL, E'…'
    yield value.replace("\\", "\\\\").replace("'", "\\'")  # libpq's conninfo
    yield value.replace("\\", "\\\\").replace(":", "\\:")  # pgpass
    yield value.replace('"', '""')  # PgBouncer's userlist.txt, SQL identifiers
    yield value.replace("$", "$$")
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for unicode in (True, False):
        yield yaml.safe_dump(value, default_style='"', width=sys.maxsize, allow_unicode=unicode).strip()[1:-1]


def _in_shell(text: str) -> str:
    """Return the inside of the quotes that `shlex.quote` puts around `text`."""
    return text.replace("'", "'\"'\"'")


def _base64(value: str) -> Iterator[str]:
    """Yield what base64 makes of `value`, alone or in the middle of something else.

    Of a value that starts one or two bytes into a group of three, the characters it shares with its
    neighbours are left out.
    """
    data = value.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode()
        for offset in range(3):
            whole = encode(b"\0" * offset + data).decode().rstrip("=")
            first = (offset * 8 + 5) // 6
            last = (offset + len(data)) * 8 // 6
            if last - first >= 2 * SHORTEST:
                yield whole[first:last]
