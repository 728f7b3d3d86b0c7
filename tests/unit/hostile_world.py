"""An inventory in which each value can be a hostile one, its files in every state of TLS, and strategies for both."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from kbpg import dynamic, tuning
from kbpg.credentials import generate
from kbpg.credentials import parse as parse_credentials
from kbpg.credentials.model import PASSWORDS, Credentials
from kbpg.credentials.store import render as render_credentials
from kbpg.errors import CredentialsError, InventoryError
from kbpg.inventory import Inventory, parse
from kbpg.inventory.reserved import RESERVED_DATABASES, RESERVED_ROLES
from kbpg.render import render
from kbpg.secret import Secret
from kbpg.tls import Transport

from . import hostile

BASE: dict[str, Any] = {
    "cluster": {
        "name": "kb",
        "database": "app",
        "superuser": "boss",
        "app_user": "app",
        "load_balancer": "lb",
    },
    "versions": {"patroni": "4.1.5", "pgvector": "0.8.1", "python": "3.12"},
    "postgresql": {
        "mounts": ["/srv/backup"],
        "locale": "C.UTF-8",
        "parameters": {"log_line_prefix": "%m", "my.setting": "x"},
    },
    "databases": [{"name": "shop", "owner": "clerk", "schemas": ["sales"], "extensions": ["pg_trgm"]}],
    "roles": [
        {
            "name": "clerk",
            "connection_limit": 4,
            "member_of": ["pg_monitor"],
            "grants": [],
            "direct_from": ["10.9.0.7"],
        },
        {"name": "reader", "grants": [{"on": "shop.sales", "access": "read"}]},
    ],
    "ssh": {"user": "root", "key": "key", "jump": "a@b:22", "known_hosts": "known"},
    "build": {
        "ca_bundle": "ca",
        "args": {"A": "x", "B": "y"},
        "network": "host",
        "wheels": "w",
        "revision": "r",
        "packages": ["pgbackrest", "wal-tools=1.2-3"],
    },
    "db": [{"name": f"db-{n}", "address": f"10.0.0.{n}"} for n in (1, 2, 3)],
    "proxies": [{"name": f"proxy-{n}", "address": f"10.0.1.{n}"} for n in (1, 2)],
    "credentials": "c.env",
    "ports": {"patroni": 8008},
    "haproxy": {"replica_max_lag": "16MB"},
}
BASE["build"]["images"] = {"python": "python:3", "pgvector": "pgvector:1", "debian": "debian:x"}
BASE["db"][0]["ssh"] = {"host": "h", "user": "u", "key": "k", "jump": "j"}
MEMORY, CORES = 8 << 30, 4
CREDENTIALS = generate("boss", "app", ("clerk", "reader"))
TRANSPORTS = [Transport(mode, between) for mode in ("off", "require") for between in (False, True)]
transports = st.sampled_from(TRANSPORTS)


def paths(value: Any, so_far: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where all values of `BASE` stand."""
    if isinstance(value, dict):
        return [path for key, each in value.items() for path in paths(each, (*so_far, key))]
    if isinstance(value, list):
        return [path for at, each in enumerate(value) for path in paths(each, (*so_far, at))]
    return [so_far]


def document(data: Any) -> str:
    """Return an inventory as YAML; JSON would write characters beyond U+FFFF as two halves, which is no YAML."""
    return re.sub(r"[^ -~]", lambda found: f"\\U{ord(found[0]):08x}", json.dumps(data, ensure_ascii=False))


def changed(path: tuple[str | int, ...], value: object) -> Any:
    """Return a copy of `BASE` with another value at one place."""
    copy = json.loads(json.dumps(BASE))
    inner = functools.reduce(lambda each, step: each[step], path[:-1], copy)
    inner[path[-1]] = value
    return copy


def files(inventory: Inventory, credentials: Credentials, tls: Transport) -> dict[str, str]:
    """Return every file of the first db host and of the first proxy."""
    common = {
        "inventory": inventory,
        "credentials": credentials,
        "rest_user": "kbpg",
        "tls": tls,
    }
    parameters = tuning.parameters(MEMORY, CORES, inventory)
    found = {
        name: render(f"{name}.j2", **common)
        for name in (
            "patroni/Dockerfile",
            "haproxy/Dockerfile",
            "pgbouncer/Dockerfile",
            "sql/pgbouncer_auth.sql",
        )
    }
    found["pgbouncer/userlist.txt"] = render("pgbouncer/userlist.txt.j2", **common)
    found["patroni/bootstrap.yml"] = render(
        "patroni/bootstrap.yml.j2", dynamic=dynamic.configuration(inventory, parameters), **common
    )
    for name in ("patroni/patroni.yml", "patroni/secrets.yml"):
        found[name] = render(f"{name}.j2", host=inventory.db[0], **common)
    for name in ("haproxy/haproxy.cfg", "pgbouncer/pgbouncer.ini"):
        found[name] = render(f"{name}.j2", host=inventory.proxies[0], **common)
    return found


FREE = [
    ("build", "revision"),
    ("build", "args", "A"),
    ("postgresql", "locale"),
    ("postgresql", "parameters", "log_line_prefix"),
    ("postgresql", "parameters", "my.setting"),
]
"""What may be any line of text."""

identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True) | st.sampled_from(
    ["null", "true", "yes", "off", "y", "select", "user", "all", "sameuser", "replication", "_", "e1", "nan"]
)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["0", "1e3", "0x10", "on", "null", "007", "1-2", "2026-11-28"]
)


def credentials(values: dict[str, str]) -> Credentials | None:
    """Return credentials that went through a file, None for those that it refuses."""
    made = Credentials("boss", "app", **{field: Secret(values[name]) for name, field in PASSWORDS.items()})
    try:
        found = parse_credentials(render_credentials(made).reveal(), path="c.env")
    except CredentialsError:
        return None
    assert {name: found.values[name].reveal() for name in PASSWORDS} == values
    return made


passwords = hostile.one_line.map(lambda value: (value + "x" * 8)[:900])


def named(names: list[str], machines: list[str]) -> Any:
    """Return `BASE` with five other names of databases and roles, and five of hosts."""
    copy = json.loads(json.dumps(BASE))
    database, superuser, copy["databases"][0]["name"], clerk, reader = names
    copy["cluster"] |= {"database": database, "superuser": superuser}
    copy["databases"][0]["owner"] = copy["roles"][0]["name"] = clerk
    copy["roles"][1] |= {"name": reader, "grants": [{"on": f"{names[2]}.sales", "access": "read"}]}
    for at, each in enumerate((*copy["db"], *copy["proxies"])):
        each["name"] = machines[at]
    return copy


five_names = st.lists(identifiers, min_size=5, max_size=5, unique=True)
five_hosts = st.lists(hosts, min_size=5, max_size=5, unique=True)

free_identifiers = identifiers.filter(
    lambda name: not name.startswith("pg_") and name not in RESERVED_ROLES.keys() | RESERVED_DATABASES.keys()
)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Draw an inventory whose names mean something elsewhere, and whose free texts are any line."""
    names = draw(st.lists(free_identifiers, min_size=5, max_size=5, unique=True))
    data = named(names, draw(five_hosts))
    for path in FREE:
        functools.reduce(lambda each, step: each[step], path[:-1], data)[path[-1]] = draw(
            hostile.one_line.filter(str.isprintable)
        )
    try:
        return parse(document(data), "inventory.yaml")
    except InventoryError:
        assume(False)
        raise


def _made(values: dict[str, str]) -> Credentials | None:
    # Patroni's client sends no other
    ascii_only = values["PATRONI_REST_PASS"].encode("ascii", "ignore").decode() + "12345678"
    return credentials(values | {"PATRONI_REST_PASS": ascii_only})


accepted_credentials = (
    st.fixed_dictionaries(dict.fromkeys(PASSWORDS, passwords))
    .map(_made)
    .filter(lambda made: made is not None)
)
"""Credentials with hostile passwords, as the file takes them."""
