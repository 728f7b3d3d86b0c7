"""The kinds of values an inventory holds, as annotated types: their checks and their JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kbpg.inventory import checks
from kbpg.inventory.document import Word
from kbpg.inventory.show import UNITS, shown

SPANS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
"""Units of durations, in seconds."""

_TEXT = {"type": "string"}
_FINGERPRINT = "^SHA256:[A-Za-z0-9+/]{43}$"


def _size(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,12}) ?(kB|MB|GB|TB)", value)
        if not match:
            raise ValueError(f"wanted a size such as 16MB, 1GB or a number of bytes, got {shown(value)}")
        return int(match[1]) * UNITS[match[2]]
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9}) ?(s|m|min|h|d)", value)
        if not match:
            raise ValueError(f"wanted seconds or a duration such as 90s, 30m or 1h, got {shown(value)}")
        return int(match[1]) * SPANS[match[2]]
    return value


def _milliseconds(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9}) ?ms", value)
        if not match:
            raise ValueError(f"wanted milliseconds such as 500 or 500ms, got {shown(value)}")
        return int(match[1])
    return value


def as_plain(value: Any) -> Any:
    """Turn an unquoted yes, no, on or off into ordinary text, for choices that have such an answer."""
    return str(value) if isinstance(value, Word) else value


def _pattern(pattern: str, **more: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


def _number_or(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": pattern})


Text = Annotated[str, BeforeValidator(checks.text), WithJsonSchema({"type": "string", "minLength": 1})]
FreeText = Annotated[str, BeforeValidator(checks.free_text), WithJsonSchema(_TEXT)]
Identifier = Annotated[
    Text, AfterValidator(checks.identifier), _pattern("^(?!pg_)[a-z_][a-z0-9_]*$", maxLength=63)
]
ClusterName = Annotated[
    Text, AfterValidator(checks.cluster_name), _pattern("^[a-z][a-z0-9_-]*$", maxLength=40)
]
HostName = Annotated[
    Text, AfterValidator(checks.host_name), _pattern("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", maxLength=63)
]
Address = Annotated[
    Text, AfterValidator(checks.address), WithJsonSchema({"type": "string", "format": "ipv4"})
]
Endpoint = Annotated[Text, AfterValidator(checks.endpoint), WithJsonSchema(_TEXT)]
OutsideEndpoint = Annotated[Text, AfterValidator(checks.outside_endpoint), WithJsonSchema(_TEXT)]
BaseDir = Annotated[Text, AfterValidator(checks.base_dir), _pattern("^(/[A-Za-z0-9._-]+)+$")]
LocalPath = Annotated[Text, AfterValidator(checks.local_path), WithJsonSchema(_TEXT)]
UserName = Annotated[
    Text, AfterValidator(checks.user), _pattern("^[A-Za-z0-9_][A-Za-z0-9_.-]*$", maxLength=32)
]
JumpHost = Annotated[Text, AfterValidator(checks.jump), WithJsonSchema(_TEXT)]
Fingerprints = Annotated[
    tuple[str, ...],
    BeforeValidator(checks.fingerprints),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _FINGERPRINT},
                {"type": "array", "items": {"type": "string", "pattern": _FINGERPRINT}},
                {"type": "null"},
            ]
        }
    ),
]
"""One or a list, as a tuple."""
Release = Annotated[
    Text,
    AfterValidator(checks.release),
    BeforeValidator(checks.not_a_number),
    _pattern(r"^[0-9]+\.[0-9]+\.[0-9]+$"),
]
PythonRelease = Annotated[Text, AfterValidator(checks.python_release), _pattern(r"^3\.1[1-4]$")]
Image = Annotated[Text, AfterValidator(checks.image), WithJsonSchema(_TEXT)]
Port = Annotated[int, Field(ge=1024, le=65535)]
SshPort = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0, le=2**60), _number_or("^[0-9]+ ?(kB|MB|GB|TB)$")]
Duration = Annotated[int, BeforeValidator(_duration), _number_or("^[0-9]+ ?(s|m|min|h|d)$")]
LONGEST_TIMEOUT = 24 * 86400
"""Seconds: PostgreSQL counts a session's timeouts in milliseconds, in 31 bits, which is 24.8 days."""
Milliseconds = Annotated[int, BeforeValidator(_milliseconds), _number_or("^[0-9]+ ?ms$")]
