"""Settings whose values may be secrets: whatever is written down of a change has `***` in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kbpg.secret import MASK

_SPEAKING = re.compile(r"(?i)pass|secret|token|conninfo|_command")
"""Names of settings that may hold one: connection strings, commands to run."""
_OF_EXTENSION = "."
"""Stands in the name of an extension's own setting, which may mean anything."""
_SAYS_NOTHING = re.compile(r"(?i)on|off|true|false|yes|no|md5|scram-sha-256")
_PLAIN = re.compile(r"[+-]?[0-9.]+ ?[A-Za-z]*|[A-Za-z_]+")
"""A number, with its unit, or one word: what most settings of extensions are."""


def may_be_secret(name: str) -> bool:
    """Return whether the value of the setting `name` may be a secret, as far as its name says."""
    return bool(_SPEAKING.search(name)) or _OF_EXTENSION in name


def to_be_masked(name: str, value: str) -> bool:
    """Return whether `value`, which the setting `name` gets, is to be looked for in every text.

    Not all that may be a secret is: a mask for `true` or `10000` would hide that word wherever it stands.
    """
    if _SAYS_NOTHING.fullmatch(value):
        return False
    return bool(_SPEAKING.search(name)) or (_OF_EXTENSION in name and not _PLAIN.fullmatch(value))


def without_secrets(document: Any) -> Any:
    """Return a JSON document with `***` for values that may be secrets; null, which takes a setting out, stays."""
    if isinstance(document, Mapping):
        return {name: _told(str(name), value) for name, value in document.items()}
    return [without_secrets(each) for each in document] if isinstance(document, list) else document


def _told(name: str, value: Any) -> Any:
    if value is None or isinstance(value, Mapping) or not may_be_secret(name):
        return without_secrets(value)
    return MASK
