"""The kinds of values an inventory holds: text, names, addresses, sizes and times.

Every check raises `ValueError` with a sentence that says what was wanted; `problems.py` adds the place.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kbpg.inventory.document import Word

KIB = 1024
UNITS = {"kB": KIB, "MB": KIB**2, "GB": KIB**3, "TB": KIB**4}
"""Units of sizes, in bytes: PostgreSQL's own spelling and meaning (kB is 1024 bytes)."""

SPANS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
"""Units of durations, in seconds."""

_SIZE = re.compile(r"(\d+)\s*(kB|MB|GB|TB)")
_DURATION = re.compile(r"(\d+)\s*(s|m|min|h|d)")


def shown(value: object) -> str:
    """Return `value` as an inventory has it, cut to 60 characters, control characters escaped."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value)
    escaped = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:60])
    return f'"{escaped}"' + ("…" if len(text) > 60 else "")


def human_size(size: int) -> str:
    """Return `size` bytes in the largest unit that divides it: 16777216 is `16MB`."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)


def _text(value: Any) -> Any:
    if isinstance(value, Word):
        raise ValueError(f'write "{value}", in quotes: many YAML readers take {value} for true or false')  # noqa: TRY004
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("must not be empty")
        return printable(value)
    return value


def printable(value: str) -> str:
    """Return `value` if it is one line without control characters; raises ValueError."""
    bad = next((c for c in value if not c.isprintable()), None)
    if bad is not None:
        what = "a line break" if bad in "\r\n\x85\u2028\u2029" else f"the control character U+{ord(bad):04X}"
        raise ValueError(f"must be one line of printable text, got {what} in {shown(value)}")
    return value


def _free_text(value: Any) -> Any:
    return value if value == "" and not isinstance(value, Word) else _text(value)


def _identifier(value: str) -> str:
    if len(value.encode()) > 63:
        raise ValueError(
            f"at most 63 bytes, PostgreSQL cuts off the rest: {shown(value)} has {len(value.encode())}"
        )
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", value):
        raise ValueError(
            "wanted lower-case letters, digits and _, no digit first (such names mean the same with and "
            f"without quotes in SQL, psql, pg_hba.conf and pgbouncer.ini): {shown(value)}"
        )
    if value.startswith("pg_"):
        raise ValueError(f"PostgreSQL keeps names that start with pg_ for itself: {shown(value)}")
    return value


def _cluster_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", value):
        raise ValueError(
            "wanted 1 to 40 lower-case letters, digits, _ and -, a letter first (it is Patroni's scope and "
            f"part of file names): {shown(value)}"
        )
    return value


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError(
            "wanted 1 to 63 lower-case letters, digits and -, no - at the ends (it becomes Patroni's member "
            f"name and, with _ for -, a replication slot): {shown(value)}"
        )
    return value


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(_no_address(value)) from None
    if isinstance(address, ipaddress.IPv6Address):
        raise ValueError(f"wanted an IPv4 address, kbpg does not do IPv6 yet: {shown(value)}")  # noqa: TRY004
    for refused, what in (
        (address.is_loopback, "a loopback address: the other hosts cannot reach it"),
        (address.is_unspecified, "the unspecified address: it names no host"),
        (address.is_multicast, "a multicast address: it names no single host"),
        (value == "255.255.255.255", "the broadcast address: it names no single host"),
        (address.is_link_local, "a link-local address: it changes and is not routed"),
    ):
        if refused:
            raise ValueError(f"{shown(value)} is {what}")
    return value


def _no_address(value: str) -> str:
    if value == "localhost":
        return '"localhost" is this host to every host: wanted the address the other hosts reach it by'
    if re.search(r"[a-zA-Z]", value) and ":" not in value and "/" not in value:
        return (
            f"wanted an IP address, not a host name: {shown(value)} (Raft compares addresses as strings, "
            "and a name may resolve differently on each host)"
        )
    return f"not an IP address: {shown(value)}"


def _endpoint(value: str) -> str:
    """Check an address or DNS name that kbpg only passes on; digits and dots alone must be an address."""
    if re.fullmatch(r"[0-9.]+", value) or ":" in value:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"not an IP address: {shown(value)}") from None
        return value
    label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if len(value) > 253 or not re.fullmatch(rf"{label}(\.{label})*\.?", value):
        raise ValueError(f"wanted an IP address or a host name: {shown(value)}")
    return value


def _outside_endpoint(value: str) -> str:
    _endpoint(value)
    if value == "localhost":
        raise ValueError(
            '"localhost" is this host to every client: wanted an address or a name all clients reach'
        )
    if re.fullmatch(r"[0-9.]+", value):
        return _address(value)
    return value


def _size(value: Any) -> Any:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if not match:
            raise ValueError(f"wanted a size such as 16MB, 1GB or a number of bytes, got {shown(value)}")
        return int(match[1]) * UNITS[match[2]]
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if not match:
            raise ValueError(f"wanted seconds or a duration such as 90s, 30m or 1h, got {shown(value)}")
        return int(match[1]) * SPANS[match[2]]
    return value


def _milliseconds(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*ms", value)
        if not match:
            raise ValueError(f"wanted milliseconds such as 500 or 500ms, got {shown(value)}")
        return int(match[1])
    return value


def _base_dir(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value) or {".", ".."} & set(value.split("/")):
        raise ValueError(
            f"wanted an absolute path of letters, digits and . _ - (no spaces, no characters a shell or a "
            f"configuration file would read, no .., no / at the end): {shown(value)}"
        )
    first = value.split("/")[1]
    if value.count("/") == 1 and first in {"home", "media", "mnt", "opt", "root", "srv", "var"}:
        raise ValueError(
            f"{value} is shared with others: wanted a directory of kbpg's own, such as {value}/keybuzz"
        )
    if first in {"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"}:
        raise ValueError(
            f"/{first} belongs to the system or is emptied at boot: wanted a place such as /opt/keybuzz"
        )
    return value


def _local_path(value: str) -> str:
    if value.startswith("~") and not value.startswith("~/"):
        raise ValueError(f"only ~/ is expanded, another user's home is not: {shown(value)}")
    return value


def _user(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", value):
        raise ValueError(f"wanted a login name: {shown(value)}")
    return value


def _jump(value: str) -> str:
    split_jump(value)
    return value


def split_jump(value: str) -> tuple[str | None, str, int]:
    """Return user (None: not given), host and port of `[user@]host[:port]`; raises ValueError."""
    match = re.fullmatch(r"(?:([^@\s:]+)@)?([^@\s:]+)(?::(\d{1,5}))?", value)
    if not match or not 1 <= int(match[3] or 22) <= 65535:
        raise ValueError(f"wanted user@host or user@host:port: {shown(value)}")
    return (_user(match[1]) if match[1] else None), _endpoint(match[2]), int(match[3] or 22)


def _release(value: str) -> str:
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", value):
        raise ValueError(f"wanted a full version such as 4.1.5: {shown(value)}")
    return value


def _minor_release(value: str) -> str:
    if not re.fullmatch(r"3\.\d{1,2}", value):
        raise ValueError(f'wanted a Python version such as "3.12": {shown(value)}')
    return value


def _image(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-zA-Z0-9._/:@-]*[a-zA-Z0-9])?", value):
        raise ValueError(f"wanted an image reference such as debian:trixie-slim: {shown(value)}")
    return value


def version_tuple(value: str) -> tuple[int, ...]:
    """Return `4.1.5` as (4, 1, 5), which compares as versions do."""
    return tuple(int(part) for part in value.split("."))


def as_plain(value: Any) -> Any:
    """Turn an unquoted yes, no, on or off into ordinary text, for choices that have such an answer."""
    return str(value) if isinstance(value, Word) else value


_TEXT = {"type": "string"}
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
FreeText = Annotated[str, BeforeValidator(_free_text), WithJsonSchema(_TEXT)]
Identifier = Annotated[
    Text,
    AfterValidator(_identifier),
    WithJsonSchema({"type": "string", "pattern": "^(?!pg_)[a-z_][a-z0-9_]*$", "maxLength": 63}),
]
ClusterName = Annotated[
    Text,
    AfterValidator(_cluster_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_-]*$", "maxLength": 40}),
]
HostName = Annotated[
    Text,
    AfterValidator(_host_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63}),
]
Address = Annotated[Text, AfterValidator(_address), WithJsonSchema({"type": "string", "format": "ipv4"})]
Endpoint = Annotated[Text, AfterValidator(_endpoint), WithJsonSchema(_TEXT)]
OutsideEndpoint = Annotated[Text, AfterValidator(_outside_endpoint), WithJsonSchema(_TEXT)]
BaseDir = Annotated[
    Text, AfterValidator(_base_dir), WithJsonSchema({"type": "string", "pattern": "^(/[A-Za-z0-9._-]+)+$"})
]
LocalPath = Annotated[Text, AfterValidator(_local_path), WithJsonSchema(_TEXT)]
UserName = Annotated[Text, AfterValidator(_user), WithJsonSchema(_TEXT)]
JumpHost = Annotated[Text, AfterValidator(_jump), WithJsonSchema(_TEXT)]
Release = Annotated[
    Text, AfterValidator(_release), WithJsonSchema({"type": "string", "pattern": r"^\d+\.\d+\.\d+$"})
]
PythonRelease = Annotated[
    Text, AfterValidator(_minor_release), WithJsonSchema({"type": "string", "pattern": r"^3\.\d{1,2}$"})
]
Image = Annotated[Text, AfterValidator(_image), WithJsonSchema(_TEXT)]
Port = Annotated[int, Field(ge=1024, le=65535)]
SshPort = Annotated[int, Field(ge=1, le=65535)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": r"^\d+ ?(kB|MB|GB|TB)$"}),
]
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": r"^\d+ ?(s|m|min|h|d)$"}),
]
Milliseconds = Annotated[
    int,
    BeforeValidator(_milliseconds),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "pattern": r"^\d+ ?ms$"}),
]
