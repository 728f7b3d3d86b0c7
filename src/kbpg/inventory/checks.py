"""Checks of single values: text, names, addresses, paths, versions.

Each returns the value and raises `ValueError` with a sentence that says what was wanted; `problems.py` adds
the place.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Any

from kbpg.inventory.document import Word
from kbpg.inventory.show import shown

SHARED_DIRECTORIES = frozenset({"home", "media", "mnt", "opt", "root", "srv", "var"})
SYSTEM_DIRECTORIES = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"}
)

_NUMERIC = re.compile(r"[0-9.]+|(?=.*:)[0-9a-fA-F:.]+")
"""What can only be meant as an address, IPv4 or IPv6."""


def text(value: Any) -> Any:
    """Check one line of text that is not empty; what is no text at all is left to the type."""
    if isinstance(value, Word):
        raise ValueError(f'write "{value}", in quotes: many YAML readers take {value} for a boolean')  # noqa: TRY004
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("must not be empty")
        return printable(value)
    return value


def free_text(value: Any) -> Any:
    """Check one line of text that may be empty."""
    return value if value == "" else text(value)


def printable(value: str) -> str:
    """Check one line without control characters."""
    bad = next((c for c in value if not c.isprintable()), None)
    if bad is not None:
        what = "a line break" if bad in "\r\n\u2028\u2029" else f"the control character U+{ord(bad):04X}"
        raise ValueError(f"wanted one line of printable text, got {what} in {shown(value)}")
    return value


def identifier(value: str) -> str:
    """Check the name of a role or a database."""
    if len(value.encode()) > 63:
        length = len(value.encode())
        raise ValueError(
            f"wanted at most 63 bytes (PostgreSQL cuts off the rest), got {length}: {shown(value)}"
        )
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", value):
        raise ValueError(
            "wanted lower-case letters, digits and _, no digit first (such names mean the same with and "
            f"without quotes in SQL, psql, pg_hba.conf and pgbouncer.ini), got {shown(value)}"
        )
    if value.startswith("pg_"):
        raise ValueError(f"PostgreSQL keeps names that start with pg_ for itself: {shown(value)}")
    return value


def cluster_name(value: str) -> str:
    """Check Patroni's scope."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", value):
        raise ValueError(
            "wanted 1 to 40 lower-case letters, digits, _ and -, a letter first (it is Patroni's scope and "
            f"part of file names), got {shown(value)}"
        )
    return value


def host_name(value: str) -> str:
    """Check an inventory name: one lower-case RFC 1123 label, so that no two members share a slot name."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError(
            "wanted 1 to 63 lower-case letters, digits and -, no - at the ends (it becomes Patroni's member "
            f"name and, with _ for -, a replication slot), got {shown(value)}"
        )
    return value


def address(value: str) -> str:
    """Check the IPv4 address of a host."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(_no_address(value)) from None
    if parsed.version != 4:
        raise ValueError(f"wanted an IPv4 address, IPv6 is not supported yet: {shown(value)}")
    return _names_one_host(value, parsed)


def _names_one_host(value: str, parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    for refused, what in (
        (parsed.is_loopback, "a loopback address: nobody else can reach it"),
        (parsed.is_unspecified, "the unspecified address: it names no host"),
        (parsed.is_multicast, "a multicast address: it names no single host"),
        (value == "255.255.255.255", "the broadcast address: it names no single host"),
        (parsed.is_link_local, "a link-local address: it is not routed"),
    ):
        if refused:
            raise ValueError(f"{shown(value)} is {what}")
    return value


def _no_address(value: str) -> str:
    if value == "localhost":
        return '"localhost" is each host itself: wanted the address by which the other hosts reach it'
    if re.search(r"[a-zA-Z]", value) and ":" not in value and "/" not in value:
        return (
            f"wanted an IP address, not a host name: {shown(value)} (Raft compares addresses as strings, "
            "and a name may resolve differently on each host)"
        )
    return f"not an IP address: {shown(value)}"


def endpoint(value: str) -> str:
    """Check an address or DNS name that kbpg passes on; digits and dots alone must be an address."""
    if _NUMERIC.fullmatch(value):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"not an IP address: {shown(value)}") from None
        return value
    label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if len(value) > 253 or not re.fullmatch(rf"{label}(\.{label})*\.?", value):
        raise ValueError(f"wanted an IP address or a host name, got {shown(value)}")
    return value


def outside_endpoint(value: str) -> str:
    """Check an address or DNS name that clients use."""
    endpoint(value)
    if value.rstrip(".").lower() == "localhost":
        raise ValueError('"localhost" is each client itself: wanted an address or a name that clients reach')
    if _NUMERIC.fullmatch(value):
        return _names_one_host(value, ipaddress.ip_address(value))
    return value


def base_dir(value: str) -> str:
    """Check the directory on the hosts: it stands in shell commands and in configuration files."""
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value) or {".", ".."} & set(value.split("/")):
        raise ValueError(
            "wanted an absolute path of letters, digits and . _ - (no spaces, nothing a shell or a "
            f"configuration file would read, no .., no / at the end), got {shown(value)}"
        )
    first = value.split("/")[1]
    if value.count("/") == 1 and first in SHARED_DIRECTORIES:
        raise ValueError(
            f"{value} is shared with others: wanted a directory of its own such as {value}/keybuzz"
        )
    if first in SYSTEM_DIRECTORIES:
        raise ValueError(f"/{first} is the system's, or emptied at boot: wanted a place such as /opt/keybuzz")
    return value


def overlap(one: str, other: str) -> bool:
    """Return whether two directories are the same, or one is inside the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def local_path(value: str) -> str:
    """Check a path on the controller."""
    if value.startswith("~") and not value.startswith("~/"):
        raise ValueError(f"only ~/ is expanded, another user's home is not: {shown(value)}")
    return value


def user(value: str) -> str:
    """Check a login name."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", value):
        raise ValueError(f"wanted a login name, got {shown(value)}")
    return value


def jump(value: str) -> str:
    """Check a jump host."""
    split_jump(value)
    return value


def split_jump(value: str) -> tuple[str | None, str, int | None]:
    """Return user, host and port of `[user@]host[:port]`, None where not given; IPv6 is in brackets."""
    match = re.fullmatch(r"(?:([^@\s:]+)@)?(\[[0-9a-fA-F:.]+\]|[^@\s:]+)(?::(\d{1,5}))?", value)
    if not match or not 1 <= int(match[3] or 22) <= 65535:
        raise ValueError(f"wanted user@host or user@host:port, got {shown(value)}")
    return (
        user(match[1]) if match[1] else None,
        endpoint(match[2].strip("[]")),
        int(match[3]) if match[3] else None,
    )


def fingerprints(value: Any) -> Any:
    """Return the fingerprints of host keys, given as one or as a list; none where nothing is given."""
    if value is None:
        return ()
    return tuple(map(_fingerprint, value if isinstance(value, list | tuple) else [value]))


def _fingerprint(value: Any) -> str:
    """Check a fingerprint as ssh-keygen prints it: the base64 of a SHA-256, 32 bytes, without padding."""
    digest = value.removeprefix("SHA256:") if isinstance(value, str) else ""
    try:
        whole = base64.b64decode(f"{digest}=", validate=True)
        # The last character has two bits to spare: 43 characters that no ssh-keygen prints would never match
        if len(digest) == 43 and base64.b64encode(whole).decode() == f"{digest}=" and digest != value:
            return f"SHA256:{digest}"
    except (binascii.Error, ValueError):
        pass
    raise ValueError(
        "wanted the fingerprint of a host key, SHA256: and 43 characters of base64 (the second word of "
        f"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on that host), got {shown(value)}"
    )


def release(value: str) -> str:
    """Check a version of three numbers."""
    if not re.fullmatch(r"(0|[1-9]\d{0,4})(\.(0|[1-9]\d{0,4})){2}", value, re.ASCII):
        raise ValueError(f"wanted a full version such as 4.1.5, got {shown(value)}")
    return value


def not_a_number(value: Any) -> Any:
    """Check that a version of three numbers was not cut to two, which YAML reads as a number."""
    if isinstance(value, (int, float)):
        raise ValueError("wanted a full version such as 4.1.5, got a number")  # noqa: TRY004
    return value


def python_release(value: str) -> str:
    """Check a version of Python: 3.11 to 3.14 have wheels of all that Patroni needs."""
    if value not in {"3.11", "3.12", "3.13", "3.14"}:
        raise ValueError(f'wanted a Python version such as "3.12" (3.11 to 3.14), got {shown(value)}')
    return value


def image(value: str) -> str:
    """Check an image reference, with or without a digest."""
    name, pinned, digest = value.partition("@")
    if not re.fullmatch(r"[a-z0-9]([a-zA-Z0-9._/:-]*[a-zA-Z0-9])?", name):
        raise ValueError(f"wanted an image reference such as debian:trixie-slim, got {shown(value)}")
    if pinned and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"wanted a digest of sha256: and 64 hexadecimal digits after @, got {shown(value)}")
    return value


def version_tuple(value: str) -> tuple[int, ...]:
    """Return `4.1.5` as (4, 1, 5), which compares as versions do."""
    return tuple(int(part) for part in value.split("."))
