"""The one type that holds a secret, and what hides secrets in texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

MASK = "***"

Mask = Callable[[str], str]
"""Hides the secrets that it knows in a text."""


def masked(document: Any, mask: Mask) -> Any:
    """Return a JSON document with every text in it masked; the names stay as they are."""
    if isinstance(document, str):
        return mask(document)
    if isinstance(document, Mapping):
        return {name: masked(each, mask) for name, each in document.items()}
    if isinstance(document, list | tuple):
        return [masked(each, mask) for each in document]
    return document


_VERIFIER = re.compile(r"(SCRAM-SHA-256\$)\d+:[^\s'\"]+|\b(md5)[0-9a-f]{32}\b")
"""What PostgreSQL stores of a password: whoever has it can try passwords at leisure."""
_PASSWORD = re.compile(
    r"""\b(PASSWORD\s+)(?:(?:E|U&)?'(?:[^'\\]|''|\\(?:.|\Z))*(?:'|\Z)|\$(\w*)\$.*?(?:\$\2\$|\Z))""",
    re.IGNORECASE | re.DOTALL,
)
"""A literal after the word PASSWORD; one that is cut off, to the end of the text. A backslash is taken for an escape,
which it is in E'…' alone: rather too much is hidden than too little."""


def without_passwords(text: str) -> str:
    """Return `text`, in which SQL may stand, without passwords and verifiers, whoever's they are."""
    shorter = _VERIFIER.sub(lambda found: f"{found[1] or found[2]}{MASK}", text)
    return _PASSWORD.sub(rf"\1'{MASK}'", shorter)


class Secret:
    """A string that shows itself as `***` everywhere; only `reveal()` gives the value.

    It cannot be pickled, formatted or concatenated by accident, and compares by value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. Every call is a place to look at in a review."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("kbpg.secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")
