"""The command line as the journal may have it: without what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kbpg.secret import MASK, Secret
from kbpg.secret_settings import may_be_secret, to_be_masked

_VALUED = ("-i", "--inventory", "--limit")
"""Global options whose value is the next word."""
_OPAQUE = ("psql",)
"""Commands whose arguments are another program's, such as SQL with a password in it."""
_USERINFO = re.compile(r"(://)[^/@\s]*@")
_PREFIX = re.compile(r"postgresql\.(parameters\.)?|timers\.")


def spoken(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line (without the program's name), what may be a secret as `***`.

    Those are all arguments of psql, values of settings whose names say so, and what stands before the @ of a URL.
    """
    command = next(_words(arguments), None)
    if command is not None and arguments[command] in _OPAQUE:
        hidden = (MASK,) if len(arguments) > command + 1 else ()
        return (*map(_masked, arguments[: command + 1]), *hidden)
    return tuple(map(_masked, arguments))


def unspoken(assignments: Sequence[str]) -> list[Secret]:
    """Return the values of `KEY=VALUE …` that `spoken` leaves out, for who masks other texts.

    Without those that are no secret for all that is known of their names, such as a number: `to_be_masked`.
    """
    pairs = (word.partition("=")[::2] for word in assignments)
    return [
        Secret(value) for name, value in pairs if to_be_masked(_own(name), value) or _USERINFO.search(value)
    ]


def _words(arguments: Sequence[str]) -> Iterator[int]:
    """Yield where the words stand that are neither options nor the values of global ones."""
    value = False
    for place, word in enumerate(arguments):
        if not value and not word.startswith("-"):
            yield place
        value = not value and word in _VALUED


def _masked(word: str) -> str:
    word = _USERINFO.sub(rf"\1{MASK}@", word)
    name, equals, _ = word.partition("=")
    return f"{name}={MASK}" if equals and not name.startswith("-") and may_be_secret(_own(name)) else word


def _own(name: str) -> str:
    """Return a setting's own name, without where the inventory has it."""
    return _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
