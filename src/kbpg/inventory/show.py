"""Values as text: how messages and the reference show what an inventory holds."""

from __future__ import annotations

UNITS = {"kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
"""Units of sizes, in bytes: PostgreSQL's own spelling and meaning (kB is 1024 bytes)."""


def shown(value: object) -> str:
    """Return `value` as an inventory has it, cut to 60 characters, control characters escaped."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    return f'"{escaped(text[:60])}"' + ("…" if len(text) > 60 else "")


def escaped(text: str) -> str:
    r"""Return `text` with everything a terminal would obey as `\xNN` or `\uNNNN`."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def human_size(size: int) -> str:
    """Return `size` bytes in the largest unit that divides it: 16777216 is `16MB`."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)
