"""Every file that kbpg renders, with hostile values, read back by the rules of the program that reads it.

Values get into an inventory through its real reader, which may refuse them; what it accepts must come out of each
file as it is, and change nothing around it.
"""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from kbpg import dynamic, tuning
from kbpg.credentials import generate
from kbpg.credentials import parse as parse_credentials
from kbpg.credentials.model import PASSWORDS, Credentials
from kbpg.credentials.store import render as render_credentials
from kbpg.errors import CredentialsError, InventoryError
from kbpg.inventory import Inventory, parse
from kbpg.lab.builds import BuildSettings
from kbpg.lab.files import render_inventory
from kbpg.lab.layout import LabHost
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
    "postgresql": {"locale": "C.UTF-8", "parameters": {"log_line_prefix": "%m", "my.setting": "x"}},
    "databases": [{"name": "shop", "owner": "clerk", "schemas": ["sales"], "extensions": ["pg_trgm"]}],
    "roles": [
        {"name": "clerk", "connection_limit": 4, "member_of": ["pg_monitor"], "grants": []},
        {"name": "reader", "grants": [{"on": "shop.sales", "access": "read"}]},
    ],
    "ssh": {"user": "root", "key": "key", "jump": "a@b:22", "known_hosts": "known"},
    "build": {
        "ca_bundle": "ca",
        "args": {"A": "x", "B": "y"},
        "network": "host",
        "wheels": "w",
        "revision": "r",
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


def paths(value: Any, so_far: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where all values of `BASE` stand."""
    if isinstance(value, dict):
        return [path for key, each in value.items() for path in paths(each, (*so_far, key))]
    if isinstance(value, list):
        return [path for at, each in enumerate(value) for path in paths(each, (*so_far, at))]
    return [so_far]


def changed(path: tuple[str | int, ...], value: object) -> Any:
    """Return a copy of `BASE` with another value at one place."""
    copy = json.loads(json.dumps(BASE))
    inner = functools.reduce(lambda each, step: each[step], path[:-1], copy)
    inner[path[-1]] = value
    return copy


def files(inventory: Inventory, credentials: Credentials) -> dict[str, str]:
    """Return every file of the first db host and of the first proxy."""
    common = {
        "inventory": inventory,
        "credentials": credentials,
        "rest_user": "kbpg",
        "tls": Transport("require"),
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


CREDENTIALS = generate("boss", "app", ("clerk", "reader"))


def read_back(inventory: Inventory, found: dict[str, str]) -> None:
    """Read every file, and compare it with the inventory."""
    read_patroni(inventory, found)
    read_haproxy(inventory, hostile.haproxy(found["haproxy/haproxy.cfg"]))
    read_pgbouncer(inventory, hostile.ini(found["pgbouncer/pgbouncer.ini"]))
    read_sql(inventory.cluster.superuser, hostile.sql(found["sql/pgbouncer_auth.sql"]))
    read_dockerfiles(inventory, found)


def read_patroni(inventory: Inventory, found: dict[str, str]) -> None:
    cluster, ports, host = inventory.cluster, inventory.ports, inventory.db[0]
    file = yaml.safe_load(found["patroni/patroni.yml"])
    ctl = ["ctl"] if "certfile" in file["restapi"] else []
    assert list(file) == ["scope", "name", "log", "restapi", *ctl, "raft", "postgresql", "watchdog", "tags"]
    assert (file["scope"], file["name"]) == (cluster.name, host.name)
    assert file["raft"] == {
        "self_addr": f"{host.address}:{ports.raft}",
        "bind_addr": f"{host.address}:{ports.raft}",
        "partner_addrs": [f"{each.address}:{ports.raft}" for each in inventory.db[1:]],
        "data_dir": "/var/lib/raft",
    }
    hba = [line.split() for line in file["postgresql"]["pg_hba"]]
    assert len(hba) == 1 + 3 * (1 + len(inventory.db)) + 2 * len(inventory.proxies)
    assert hba[0] == ["local", "all", cluster.superuser, "peer", "map=kbpg"]
    assert {words[4] for words in hba[1:]} == {"scram-sha-256", "reject"}
    assert file["postgresql"]["pg_ident"] == [f"kbpg postgres {cluster.superuser}"]
    dcs = dynamic.configuration(inventory, tuning.parameters(MEMORY, CORES, inventory))
    options = [{"encoding": "UTF8"}, {"locale": inventory.postgresql.locale}, "data-checksums"]
    options += [{"auth-local": "peer"}, {"auth-host": "scram-sha-256"}]
    assert yaml.safe_load(found["patroni/bootstrap.yml"]) == {"bootstrap": {"dcs": dcs, "initdb": options}}
    for name, value in inventory.postgresql.parameters.items():
        assert dcs["postgresql"]["parameters"][name] == value


def read_haproxy(inventory: Inventory, lines: list[list[str]]) -> None:
    servers = [line for line in lines if line[0] == "server"]
    checked = ["check-ssl", "verify", "required", "ca-file", "/etc/haproxy/tls/ca.crt", "verifyhost"]
    wanted = [
        [each.name, f"{each.address}:{inventory.ports.postgresql}", *checked, each.name]
        for each in inventory.db
    ]
    assert [line[1:] for line in servers] == wanted * 2
    sections = ("global", "defaults", "listen", "frontend", "backend")
    assert [line for line in lines if line[0] in sections] == [
        ["global"],
        ["defaults"],
        ["listen", "primary"],
        ["frontend", "reads"],
        ["backend", "replicas"],
        ["frontend", "stats"],
    ]
    assert [line[0] for line in lines] == ordinary_haproxy()


@functools.cache
def ordinary_inventory() -> Inventory:
    return parse(json.dumps(BASE), "inventory.yaml")


@functools.cache
def ordinary() -> dict[str, str]:
    """Return the files of `BASE`."""
    return files(ordinary_inventory(), CREDENTIALS)


@functools.cache
def ordinary_haproxy() -> list[str]:
    return [line[0] for line in hostile.haproxy(ordinary()["haproxy/haproxy.cfg"])]


def read_pgbouncer(inventory: Inventory, found: dict[str, dict[str, str]]) -> None:
    assert list(found) == ["databases", "pgbouncer", "users", "peers"]
    names = [*inventory.database_names, "postgres"]
    assert set(found["databases"]) == {*names, *(f"{name}_ro" for name in names), "*"}
    hosts = ",".join(["127.0.0.1", *(str(each.address) for each in inventory.proxies[1:])])
    for name, text in found["databases"].items():
        pairs = hostile.connection(text)
        reads = name.endswith("_ro") and name.removesuffix("_ro") in names
        assert pairs["host"] == hosts
        assert pairs["port"] == str(inventory.ports.replicas if reads else inventory.ports.primary)
        assert pairs.get("dbname") == (name.removesuffix("_ro") if reads else None)
        assert pairs.get("connect_query") == (
            "set session characteristics as transaction read only" if reads else None
        )
    limited = {role.name for role in inventory.roles if role.connection_limit}
    assert set(found["users"]) == {"pgbouncer_auth", inventory.cluster.superuser, *limited}
    assert found["pgbouncer"]["admin_users"] == found["pgbouncer"]["auth_user"] == "pgbouncer_auth"
    peers = {hostile.connection(text)["host"] for text in found["peers"].values()}
    assert peers == {str(each.address) for each in inventory.proxies}


def read_sql(superuser: str, tokens: list[tuple[str, str]]) -> None:
    assert [value for kind, value in tokens if kind == "name"] == [superuser] * 2
    assert [value for kind, value in tokens if kind == "literal"] == []
    assert tokens.count(("sign", ";")) == 9
    (body,) = (value for kind, value in tokens if kind == "body")
    inside = hostile.sql(body)
    assert [value for kind, value in inside if kind == "literal"] == ["SCRAM-SHA-256$%", superuser]
    assert ("sign", ";") not in inside


def read_dockerfiles(inventory: Inventory, found: dict[str, str]) -> None:
    images = inventory.images
    bases = {"patroni": [f"{images.python} AS python", images.pgvector]}
    for name in ("patroni", "haproxy", "pgbouncer"):
        lines = hostile.instructions(found[f"{name}/Dockerfile"])
        assert [rest for word, rest in lines if word == "FROM"] == bases.get(name, [images.debian])
        assert [rest for word, rest in lines if word == "ARG"] == sorted(inventory.build.args)
        (label,) = (rest for word, rest in lines if word == "LABEL")
        assert hostile.label(label) == inventory.build.revision
        others = {
            "FROM",
            "ARG",
            "LABEL",
            "COPY",
            "RUN",
            "ENV",
            "USER",
            "WORKDIR",
            "STOPSIGNAL",
            "CMD",
            "ENTRYPOINT",
        }
        assert {word for word, _ in lines} <= others


def test_the_readers_read_the_files_of_an_ordinary_inventory() -> None:
    read_back(ordinary_inventory(), ordinary())


@settings(max_examples=400)
@given(st.sampled_from(paths(BASE)), hostile.anything | hostile.one_line)
def test_a_value_of_the_inventory_is_refused_or_read_back(path: tuple[str | int, ...], value: str) -> None:
    try:
        inventory = parse(json.dumps(changed(path, value)), "inventory.yaml")
    except InventoryError:
        event("refused")
        return
    event("accepted")
    read_back(inventory, files(inventory, CREDENTIALS))


FREE = [
    ("build", "revision"),
    ("build", "args", "A"),
    ("postgresql", "locale"),
    ("postgresql", "parameters", "log_line_prefix"),
    ("postgresql", "parameters", "my.setting"),
]
"""What may be any line of text."""


@settings(max_examples=100)
@given(st.fixed_dictionaries(dict.fromkeys(FREE, hostile.one_line)))
def test_free_texts_are_read_back(values: dict[tuple[str, ...], str]) -> None:
    copy = BASE
    for path, value in values.items():
        copy = json.loads(json.dumps(copy))
        functools.reduce(lambda each, step: each[step], path[:-1], copy)[path[-1]] = value
    try:
        inventory = parse(json.dumps(copy), "inventory.yaml")
    except InventoryError:
        assume(False)
    read_back(inventory, files(inventory, CREDENTIALS))


identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True) | st.sampled_from(
    ["null", "true", "yes", "off", "y", "select", "user", "all", "sameuser", "replication", "_", "e1", "nan"]
)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["0", "1e3", "0x10", "on", "null", "007", "1-2", "2026-11-28"]
)


@settings(max_examples=100)
@given(
    st.lists(identifiers, min_size=5, max_size=5, unique=True),
    st.lists(hosts, min_size=5, max_size=5, unique=True),
)
def test_names_that_mean_something_elsewhere_are_read_back(names: list[str], machines: list[str]) -> None:
    copy = json.loads(json.dumps(BASE))
    database, superuser, copy["databases"][0]["name"], clerk, reader = names
    copy["cluster"] |= {"database": database, "superuser": superuser}
    copy["databases"][0]["owner"] = copy["roles"][0]["name"] = clerk
    copy["roles"][1] |= {"name": reader, "grants": [{"on": f"{names[2]}.sales", "access": "read"}]}
    for at, each in enumerate((*copy["db"], *copy["proxies"])):
        each["name"] = machines[at]
    try:
        inventory = parse(json.dumps(copy), "inventory.yaml")
    except InventoryError:
        assume(False)
    read_back(inventory, files(inventory, CREDENTIALS))


def credentials(values: dict[str, str]) -> Credentials | None:
    """Return credentials that went through a file, None for those that it refuses."""
    made = Credentials("boss", "app", **{field: Secret(values[name]) for name, field in PASSWORDS.items()})
    try:
        found = parse_credentials(render_credentials(made).reveal(), path="c.env")
    except CredentialsError:
        return None
    assert {name: found.values[name].reveal() for name in PASSWORDS} == values
    return made


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(PASSWORDS, hostile.anything)))
def test_passwords_are_refused_or_read_back(values: dict[str, str]) -> None:
    made = credentials(values)
    event("refused" if made is None else "accepted")
    if made is not None:
        read_passwords(made, values)


passwords = hostile.one_line.map(lambda value: (value + "x" * 8)[:900])


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(PASSWORDS, passwords)))
def test_passwords_that_are_accepted_are_read_back(values: dict[str, str]) -> None:
    values["PATRONI_REST_PASS"] = values["PATRONI_REST_PASS"].encode("ascii", "ignore").decode() + "12345678"
    made = credentials(values)
    assume(made is not None)
    assert made is not None
    read_passwords(made, values)


def read_passwords(made: Credentials, values: dict[str, str]) -> None:
    inventory = ordinary_inventory()
    text = render(
        "patroni/secrets.yml.j2",
        inventory=inventory,
        credentials=made,
        rest_user="kbpg",
        host=inventory.db[0],
        tls=Transport("require"),
    )
    verified = {"sslmode": "verify-full", "sslrootcert": "/etc/patroni/tls/ca.crt"}
    assert yaml.safe_load(text) == {
        "restapi": {"authentication": {"username": "kbpg", "password": values["PATRONI_REST_PASS"]}},
        "raft": {"password": values["RAFT_PASS"]},
        "postgresql": {
            "authentication": {
                "superuser": {"username": "boss", "password": values["POSTGRES_SUPERPASS"], **verified},
                "replication": {
                    "username": "replicator",
                    "password": values["POSTGRES_REPLICATION_PASS"],
                    **verified,
                },
                "rewind": {"username": "rewind_user", "password": values["POSTGRES_REWIND_PASS"], **verified},
            }
        },
    }
    users = render("pgbouncer/userlist.txt.j2", credentials=made)
    assert hostile.userlist(users) == {"pgbouncer_auth": values["PGBOUNCER_AUTH_PASS"]}


def test_passwords_are_in_secret_files_alone() -> None:
    odd = {name: f"a'b\"c$d\\e%f{at}" for at, name in enumerate(PASSWORDS)}
    made = credentials(odd)
    assert made is not None
    found = files(parse(json.dumps(BASE), "inventory.yaml"), made)
    secret = {"patroni/secrets.yml", "pgbouncer/userlist.txt"}
    assert {name for name in found if found[name] != ordinary()[name]} == secret


@settings(max_examples=100)
@given(hostile.anything)
def test_a_name_in_sql_is_read_back_whatever_checks_it_before(name: str) -> None:
    cluster, pooler = SimpleNamespace(superuser=name), SimpleNamespace(superuser_access=True)
    inventory = SimpleNamespace(cluster=cluster, pgbouncer=pooler)
    text = render("sql/pgbouncer_auth.sql.j2", inventory=inventory)
    if "$kbpg$" in name:
        # The one thing that would end the body; no identifier has it, and PostgreSQL would refuse what is left
        return
    read_sql(name, hostile.sql(text))


@settings(max_examples=100)
@given(hostile.one_line, st.dictionaries(hostile.one_line, hostile.one_line, max_size=3), hostile.one_line)
def test_the_lab_s_inventory_is_read_back(bundle: str, args: dict[str, str], network: str) -> None:
    placed = [LabHost("db-1", "db", "10.0.0.1"), LabHost("proxy-1", "proxy", "10.0.0.2")]
    build = BuildSettings(network=network, ca_bundle=bundle, args=args, wheels=bundle)
    found = yaml.safe_load(render_inventory(placed, build))
    wanted = {"network": network, "ca_bundle": bundle, **({"args": args} if args else {}), "wheels": bundle}
    assert found["build"] == wanted
    assert found["db"] == [{"name": "db-1", "address": "10.0.0.1"}]


@pytest.mark.parametrize("text", ["a = b\n[x]", "[x]\na b", "[x]\n%include y", "[x]\na=1\na=2", "[x]\n[x]"])
def test_the_reader_of_ini_files_refuses_what_pgbouncer_would(text: str) -> None:
    with pytest.raises(ValueError, match=r"no s|include"):
        hostile.ini(text)


@pytest.mark.parametrize("text", ["a='b'c", "a='b", "a=b'c", "a=1 a=2", "=x"])
def test_the_reader_of_connection_strings_refuses_what_pgbouncer_would(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        hostile.connection(text)
