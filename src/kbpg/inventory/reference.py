"""`docs/inventory.md` from the models: `python -m kbpg.inventory.reference > docs/inventory.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from kbpg.inventory.models import Inventory
from kbpg.inventory.parameters import OWNED
from kbpg.inventory.preset_reference import preset_reference
from kbpg.inventory.reserved import RESERVED_DATABASES, RESERVED_ROLES
from kbpg.inventory.section import Section, section_of
from kbpg.inventory.show import human_size

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

INTRODUCTION = """\
# The inventory

<!-- Written by `python -m kbpg.inventory.reference`; change the models, not this file. -->

One YAML file says what must be; `kbpg` reads it with `-i PATH`, by default `inventory.yaml` here.
`cluster`, `db` and `proxies` are required. The file that comes with kbpg has every other key with its
default, commented out.

- `kbpg inventory check` names every problem of the file at once, with line and path; it contacts no host.
- `kbpg inventory schema` prints its JSON Schema, for editors.

How values are read:

- Sizes are bytes, or `kB`, `MB`, `GB`, `TB` (times 1024). Durations are seconds, or `90s`, `30m`, `1h`.
- `tls: off` and `tls: require` are short for a section with this `mode`.
- Paths are relative to the inventory's directory; `~/` is expanded.
- Only `true` and `false` are booleans. An unquoted `yes`, `no`, `on` or `off` is refused where text is
  wanted, and so is an unquoted `3.10`, because other YAML readers take them for something else.
- Names of roles and databases are lower-case letters, digits and `_`: such names mean the same with and
  without quotes in SQL, psql, `pg_hba.conf` and `pgbouncer.ini`.
- Anchors, aliases, merge keys, tags, duplicate keys and a second document are refused.
"""

RULES = """\
## Rules between the keys

- Three db hosts, or a larger odd number; at least one proxy. Names and addresses differ across both lists.
- Addresses are IPv4 addresses, not names: Raft compares them as strings. Loopback, multicast, link-local and
  unspecified addresses are refused.
- `loop_wait + 2 * retry_timeout <= ttl`, or Patroni refuses the timers.
- `2 * (loop_wait + 4) <= ttl`, or the watchdog beside Patroni would end leaders that are well: it waits for
  `ttl - loop_wait - 4` seconds, and sees a sign of life once per `loop_wait`, up to 4 s late
  ([adr/0016](adr/0016-watchdog.md)).
- Ports differ where they meet: `postgresql`, `patroni`, `raft` and SSH on the db hosts; `primary`,
  `replicas`, `stats`, `pgbouncer` and SSH on the proxies.
- No host is called `ca` or `kbpg`: their certificates' files are not a host's.
- With `firewall: managed` no SSH port, whichever way SSH goes, is one of the ports of kbpg on that host.
  `allowed_clients` needs it, holds networks without host bits, no names, and not everyone's addresses.
- `load_balancer` is none of the hosts. `app_user` is not the superuser.
- `fingerprint` is one `SHA256:…` or a list, 43 characters of base64, as `ssh-keygen -lf` prints it on the host.
  Which of its keys a host shows is agreed in the connection: pin all of them, or at least the ed25519 one, which
  kbpg asks for first. Pinned, no other key is taken, not with `--accept-new-host-keys` either, and no entry in
  known_hosts is needed; an entry of the same type with another key, or a revoked key, still stops.
- Names under `databases` and `roles` are all different, also from `cluster`'s own and from `NAME_ro`, by which
  PgBouncer serves each database for reads. Owners, groups and the places of grants are in the inventory.
- Patroni is 3.3.6 or newer, 3.3 or 4.x. `synchronous: quorum` needs Patroni 4; with 3.3 it becomes Patroni's
  `synchronous_mode: true` with named replicas: the death of one stalls commits for up to `ttl`.
- `haproxy.memory_limit`, where it is given, is at least 128 MB and 105 kB for each of `max_connections`;
  `pgbouncer.memory_limit` at least 64 MB and 64 kB for each client and each connection of its pools
  (`src/kbpg/inventory/memory_rules.py`). Left out, it is as much, and never less than 1 GB.
- `max_parallel_maintenance_workers` stays 0 while pgvector is 0.6.0 to 0.8.1 (CVE-2026-3172).
- `synchronous_commit` may not be `off` or `local`, unless `cluster.synchronous` is `off`.
- `wal_level` is `replica` or `logical`. A change restarts every node; before the way back logical slots have to be
  dropped (see [configuration.md](configuration.md#logical-replication)).
"""


def reference() -> str:
    """Return the whole reference as Markdown."""
    parts = [INTRODUCTION, *_tables(), preset_reference(), RULES, _owned(), _reserved()]
    return "\n".join(parts)


def _tables() -> Iterator[str]:
    yield _table("Top level", None, Inventory, only_values=True)
    for name, field in Inventory.model_fields.items():
        inner = section_of(field.annotation)
        if inner:
            yield from _section(f"{name}[]" if _is_list(field) else name, field, inner)


def _section(path: str, field: FieldInfo, model: type[Section]) -> Iterator[str]:
    yield _table(f"`{path}`", field.description, model)
    for name, inner_field in model.model_fields.items():
        inner = section_of(inner_field.annotation)
        if inner and not path.startswith("proxies"):
            yield from _section(f"{path}.{name}{'[]' if _is_list(inner_field) else ''}", inner_field, inner)


def _table(title: str, description: str | None, model: type[Section], *, only_values: bool = False) -> str:
    lines = [f"## {title}", ""]
    if description:
        lines += [f"{description[0].upper()}{description[1:]}.", ""]
    lines += ["| key | default | kind | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if section_of(field.annotation):
            if not only_values:
                what = "list" if _is_list(field) else "section"
                lines.append(f"| `{name}` | | {what} | {field.description}: see below |")
            continue
        lines.append(f"| `{name}` | {_default(field)} | {_kind(field)} | {_cell(field.description or '')} |")
    return "\n".join([*lines, ""])


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"`{value}`" if value else '`""`'
    if value == ():
        return "`[]`"
    if _is_size(field):
        return f"`{human_size(value)}`"
    if _is_seconds(field) and value >= 600:
        return f"`{value // 60}m`" if value % 3600 else f"`{value // 3600}h`"
    return f"`{value}`"


def _is_size(field: FieldInfo) -> bool:
    return (field.description or "").startswith("bytes")


def _is_seconds(field: FieldInfo) -> bool:
    return (field.description or "").startswith("seconds")


def _kind(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    optional = type(None) in get_args(annotation)
    inner = (
        next((a for a in get_args(annotation) if a is not type(None)), annotation) if optional else annotation
    )
    while get_origin(inner) not in (None, Literal, dict, tuple):
        inner = get_args(inner)[0]
    return _base_kind(field, inner) + (" or `null`" if optional else "")


def _base_kind(field: FieldInfo, inner: Any) -> str:
    if get_origin(inner) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(inner))
    if get_origin(inner) is tuple:
        return "list"
    if get_origin(inner) is dict:
        return "keys and values"
    description = field.description or ""
    for start, kind in (("bytes", "size"), ("seconds", "duration"), ("milliseconds", "milliseconds")):
        if description.startswith(start) and inner is int:
            return kind + _range(field)
    named = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    return named[inner] + _range(field)


def _range(field: FieldInfo) -> str:
    low = next((b.ge for b in field.metadata if hasattr(b, "ge")), None)
    high = next((b.le for b in field.metadata if hasattr(b, "le")), None)
    if low is None or high is None or _is_size(field):
        return ""
    return f", {low} to {high}"


def _owned() -> str:
    lines = [
        "## PostgreSQL settings that cannot be set",
        "",
        "Everything else PostgreSQL knows can stand under `postgresql.parameters`, in lower case.",
        "",
        "| setting | why |",
        "|---|---|",
    ]
    return "\n".join([*lines, *(f"| `{name}` | {why} |" for name, why in sorted(OWNED.items())), ""])


def _reserved() -> str:
    lines = ["## Reserved names", "", "Besides all names that start with `pg_`.", ""]
    for title, names in (("roles", {**RESERVED_ROLES}), ("databases", RESERVED_DATABASES)):
        lines.append(f"- {title}: " + ", ".join(f"`{name}` ({why})" for name, why in names.items()))
    lines.append("- the application role also cannot be `postgres`")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(reference())
