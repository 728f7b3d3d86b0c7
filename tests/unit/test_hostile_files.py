"""Every file that kbpg renders, with hostile values, read back by the rules of the program that reads it.

Values get into an inventory through its real reader, which may refuse them; what it accepts must come out of each
file as it is, and change nothing around it.
"""

from __future__ import annotations

import functools
import json
import shlex
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from kbpg import dynamic, tuning
from kbpg.credentials.model import PASSWORDS, Credentials
from kbpg.errors import InventoryError
from kbpg.inventory import Host, Inventory, parse
from kbpg.lab.builds import BuildSettings
from kbpg.lab.files import render_inventory
from kbpg.lab.layout import LabHost
from kbpg.render import render
from kbpg.tls import Transport

from . import hostile
from .hostile_world import (
    BASE,
    CORES,
    CREDENTIALS,
    FREE,
    MEMORY,
    TRANSPORTS,
    changed,
    credentials,
    document,
    files,
    five_hosts,
    five_names,
    named,
    passwords,
    paths,
    transports,
)


@dataclass(frozen=True)
class Spoken:
    """What the files say in one state of TLS, as docs/tls.md and ADR 0020 have it."""

    hba: str
    rest: bool
    client: str
    pooler: str
    server: str
    ready: str
    """How HAProxy checks a server in the mode that is on its way in, or is there."""
    old: str | None
    """And in the one that is on its way out."""


SPOKEN = {
    Transport("off"): Spoken("host", False, "disable", "disable", "disable", "plain", None),
    Transport("require"): Spoken("hostssl", True, "require", "verify-ca", "verify-full", "secure", None),
    Transport("require", between=True): Spoken("host", False, "allow", "prefer", "prefer", "secure", "plain"),
    Transport("off", between=True): Spoken("host", True, "allow", "prefer", "prefer", "plain", "secure"),
}


def read_back(inventory: Inventory, found: dict[str, str], tls: Transport) -> None:
    """Read every file, and compare it with the inventory."""
    read_patroni(inventory, found, tls)
    read_haproxy(inventory, hostile.haproxy(found["haproxy/haproxy.cfg"]), tls)
    read_pgbouncer(inventory, hostile.ini(found["pgbouncer/pgbouncer.ini"]), tls)
    read_sql(inventory.cluster.superuser, hostile.sql(found["sql/pgbouncer_auth.sql"]))
    read_dockerfiles(inventory, found)


def read_patroni(inventory: Inventory, found: dict[str, str], tls: Transport) -> None:
    spoken = SPOKEN[tls]
    cluster, ports, host = inventory.cluster, inventory.ports, inventory.db[0]
    file = yaml.safe_load(found["patroni/patroni.yml"])
    assert ("certfile" in file["restapi"]) == spoken.rest
    ctl = ["ctl"] if spoken.rest else []
    assert list(file) == ["scope", "name", "log", "restapi", *ctl, "raft", "postgresql", "watchdog", "tags"]
    assert (file["scope"], file["name"]) == (cluster.name, host.name)
    assert file["raft"] == {
        "self_addr": f"{host.address}:{ports.raft}",
        "bind_addr": f"{host.address}:{ports.raft}",
        "partner_addrs": [f"{each.address}:{ports.raft}" for each in inventory.db[1:]],
        "data_dir": "/var/lib/raft",
    }
    hba = [line.split() for line in file["postgresql"]["pg_hba"]]
    direct = [
        [spoken.hba, "all", r.name, each, "scram-sha-256"] for r in inventory.roles for each in r.direct_from
    ]
    assert len(hba) == 1 + 3 * (1 + len(inventory.db)) + 2 * len(inventory.proxies) + len(direct)
    assert hba[len(hba) - len(direct) :] == direct
    assert hba[0] == ["local", "all", cluster.superuser, "peer", "map=kbpg"]
    assert {words[4] for words in hba[1:]} == {"scram-sha-256", "reject"}
    assert {words[0] for words in hba[1:]} == {spoken.hba}
    assert file["postgresql"]["pg_ident"] == [f"kbpg postgres {cluster.superuser}"]
    dcs = dynamic.configuration(inventory, tuning.parameters(MEMORY, CORES, inventory))
    options = [{"encoding": "UTF8"}, {"locale": inventory.postgresql.locale}, "data-checksums"]
    options += [{"auth-local": "peer"}, {"auth-host": "scram-sha-256"}]
    assert yaml.safe_load(found["patroni/bootstrap.yml"]) == {"bootstrap": {"dcs": dcs, "initdb": options}}
    for name, value in inventory.postgresql.parameters.items():
        assert dcs["postgresql"]["parameters"][name] == value


def read_haproxy(inventory: Inventory, lines: list[list[str]], tls: Transport) -> None:
    servers = [line for line in lines if line[0] == "server"]
    assert [line[1:] for line in servers] == [
        words for each in inventory.db for words in checked(each, inventory.ports.postgresql, tls)
    ] * 2
    sections = ("global", "defaults", "listen", "frontend", "backend")
    assert [line for line in lines if line[0] in sections] == [
        ["global"],
        ["defaults"],
        ["listen", "primary"],
        ["frontend", "reads"],
        ["backend", "replicas"],
        ["frontend", "stats"],
    ]
    assert [line[0] for line in lines] == ordinary_haproxy(tls)


def checked(host: Host, port: int, tls: Transport) -> list[list[str]]:
    """Return the words of a db host's lines in HAProxy's file: one, or with two modes at once one for each."""
    spoken = SPOKEN[tls]
    by_name = [
        "check-ssl",
        "verify",
        "required",
        "ca-file",
        "/etc/haproxy/tls/ca.crt",
        "verifyhost",
        host.name,
    ]
    how: dict[str | None, list[str]] = {"plain": [], "secure": by_name}
    found = [[host.name, f"{host.address}:{port}", *how[spoken.ready]]]
    if spoken.old:
        found.append([f"{host.name}.old", f"{host.address}:{port}", *how[spoken.old], "backup"])
    # Without TLS first
    return sorted(found, key=lambda words: "check-ssl" in words)


@functools.cache
def ordinary_inventory() -> Inventory:
    return parse(document(BASE), "inventory.yaml")


@functools.cache
def ordinary(tls: Transport) -> dict[str, str]:
    """Return the files of `BASE`."""
    return files(ordinary_inventory(), CREDENTIALS, tls)


@functools.cache
def ordinary_haproxy(tls: Transport) -> list[str]:
    return [line[0] for line in hostile.haproxy(ordinary(tls)["haproxy/haproxy.cfg"])]


def read_pgbouncer(inventory: Inventory, found: dict[str, dict[str, str]], tls: Transport) -> None:
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
    asked = [found["pgbouncer"][f"{side}_tls_sslmode"] for side in ("client", "server")]
    assert asked == [SPOKEN[tls].client, SPOKEN[tls].pooler]
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
        # Once more in the stage that installs the inventory's packages
        stages = 2 if name == "patroni" and inventory.build.packages else 1
        assert [rest for word, rest in lines if word == "ARG"] == sorted(inventory.build.args) * stages
        if stages == 2:
            commands = [shlex.split(rest) for word, rest in lines if word == "RUN"]
            (install,) = (words for words in commands if inventory.build.packages[0] in words)
            at = install.index("--no-install-recommends")
            assert install[at + 1 : install.index("&&", at)] == list(inventory.build.packages)
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


def test_the_states_of_tls_are_these() -> None:
    assert set(SPOKEN) == set(TRANSPORTS)


@pytest.mark.parametrize("tls", TRANSPORTS, ids=lambda tls: tls.tag)
def test_the_readers_read_the_files_of_an_ordinary_inventory(tls: Transport) -> None:
    read_back(ordinary_inventory(), ordinary(tls), tls)


@settings(max_examples=400)
@given(st.sampled_from(paths(BASE)), hostile.anything | hostile.one_line, transports)
def test_a_value_of_the_inventory_is_refused_or_read_back(
    path: tuple[str | int, ...], value: str, tls: Transport
) -> None:
    try:
        inventory = parse(document(changed(path, value)), "inventory.yaml")
    except InventoryError:
        event("refused")
        return
    event("accepted")
    read_back(inventory, files(inventory, CREDENTIALS, tls), tls)


@settings(max_examples=100)
@given(st.fixed_dictionaries(dict.fromkeys(FREE, hostile.one_line)), transports)
def test_free_texts_are_read_back(values: dict[tuple[str, ...], str], tls: Transport) -> None:
    copy = BASE
    for path, value in values.items():
        copy = json.loads(json.dumps(copy))
        functools.reduce(lambda each, step: each[step], path[:-1], copy)[path[-1]] = value
    try:
        inventory = parse(document(copy), "inventory.yaml")
    except InventoryError:
        assume(False)
    read_back(inventory, files(inventory, CREDENTIALS, tls), tls)


@settings(max_examples=100)
@given(five_names, five_hosts, transports)
def test_names_that_mean_something_elsewhere_are_read_back(
    names: list[str], machines: list[str], tls: Transport
) -> None:
    try:
        inventory = parse(document(named(names, machines)), "inventory.yaml")
    except InventoryError:
        assume(False)
    read_back(inventory, files(inventory, CREDENTIALS, tls), tls)


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(PASSWORDS, hostile.anything)), transports)
def test_passwords_are_refused_or_read_back(values: dict[str, str], tls: Transport) -> None:
    made = credentials(values)
    event("refused" if made is None else "accepted")
    if made is not None:
        read_passwords(made, values, tls)


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(PASSWORDS, passwords)), transports)
def test_passwords_that_are_accepted_are_read_back(values: dict[str, str], tls: Transport) -> None:
    values["PATRONI_REST_PASS"] = values["PATRONI_REST_PASS"].encode("ascii", "ignore").decode() + "12345678"
    made = credentials(values)
    assume(made is not None)
    assert made is not None
    read_passwords(made, values, tls)


def read_passwords(made: Credentials, values: dict[str, str], tls: Transport) -> None:
    inventory = ordinary_inventory()
    text = render(
        "patroni/secrets.yml.j2",
        inventory=inventory,
        credentials=made,
        rest_user="kbpg",
        host=inventory.db[0],
        tls=tls,
    )
    verified = {"sslmode": SPOKEN[tls].server, "sslrootcert": "/etc/patroni/tls/ca.crt"}
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


@pytest.mark.parametrize("tls", TRANSPORTS, ids=lambda tls: tls.tag)
def test_passwords_are_in_secret_files_alone(tls: Transport) -> None:
    odd = {name: f"a'b\"c$d\\e%f{at}" for at, name in enumerate(PASSWORDS)}
    made = credentials(odd)
    assert made is not None
    found = files(parse(document(BASE), "inventory.yaml"), made, tls)
    secret = {"patroni/secrets.yml", "pgbouncer/userlist.txt"}
    assert {name for name in found if found[name] != ordinary(tls)[name]} == secret


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
