"""The real programs read what is rendered from generated hostile values, and say what they have understood.

One container per program, without a network, gets all examples at once. `--hypothesis-seed` makes the same again.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier, Literal
from tests.unit import hostile, hostile_world
from tests.unit.test_hostile_files import SPOKEN, checked

from kbpg import dynamic, scram, tuning
from kbpg.credentials import Credentials
from kbpg.health.checks import overrides, replication
from kbpg.inventory import Inventory, read_name
from kbpg.render import haproxy, pgbouncer_ini, render, sql_identifier, sql_literal, userlist
from kbpg.steps.images import HAPROXY_IMAGE, PATRONI_IMAGE, PGBOUNCER_IMAGE
from kbpg.tls import Transport

from .cases import certificates
from .containers import container, docker, log
from .test_programs import UNREACHABLE

pytestmark = pytest.mark.docker

INSIDE = Path(__file__).parent / "inside"
FILES = 20
"""Examples of each file: one costs a program's start."""
VALUES = 100
"""Examples of a value alone."""
FIRST_PORT = 20000
T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Return that many examples."""
    found: list[T] = []

    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(strategy)
    def keep(value: T) -> None:
        found.append(value)

    keep()
    return found


@dataclass(frozen=True)
class Example:
    """An inventory, its credentials, a state of TLS, and the files of the first db host and the first proxy."""

    inventory: Inventory
    credentials: Credentials
    tls: Transport

    @property
    def files(self) -> dict[str, str]:
        return hostile_world.files(self.inventory, self.credentials, self.tls)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    made = st.tuples(hostile_world.inventories(), hostile_world.accepted_credentials)
    # Each state of TLS equally often
    return [
        Example(*each, hostile_world.TRANSPORTS[at % len(hostile_world.TRANSPORTS)])
        for at, each in enumerate(drawn(made, FILES))
    ]


def printed(image: str, script: str, files: Mapping[str, str], *options: str) -> str:
    """Return what a shell script prints in a container; it must succeed, and nobody may warn of anything."""
    with container(image, ("sh", "-c", script), files, *options) as name:
        done = docker("start", "-a", name, deadline=300)
        said = done.stderr.decode()
        assert done.returncode == 0, said + done.stdout.decode()[-2000:]
        assert re.findall("WARNING.*|ALERT.*", said) == []
        return done.stdout.decode()


def short(text: str, size: int) -> str:
    """Return what fits into so many bytes."""
    return text.encode()[:size].decode(errors="ignore")


# --- HAProxy ---------------------------------------------------------------------------------------------

ADMIN = "socat -t 5 - /run/haproxy/admin.sock"
HAPROXY = f"""set -e
for each in /cases/*; do
  haproxy -dC -c -f $each || test $? = 2
  echo ----
  haproxy -D -p /run/haproxy/pid -f $each
  echo show servers state | {ADMIN}
  echo ----
  echo show stat | {ADMIN}
  echo ----
  kill $(cat /run/haproxy/pid)
done"""
"""Prints, for each file: its words, then what the running program says of its servers, and of all that it has.

`-dC` ends with 2: having printed, it finds no listener. The running program is asked as soon as its first process has
ended: the second listens by then.
"""
ANY_ADDRESS = ("--sysctl", "net.ipv4.ip_nonlocal_bind=1")


def test_haproxy_has_the_servers_of_the_inventory(examples: list[Example]) -> None:
    files = {f"/cases/{at:02}": each.files["haproxy/haproxy.cfg"] for at, each in enumerate(examples)}
    first = examples[0].inventory
    files |= certificates(first, first.proxies[0], "haproxy")
    told = printed(HAPROXY_IMAGE, HAPROXY, files, *ANY_ADDRESS).split("----\n")
    for at, example in enumerate(examples):
        dumped, states, statistics = told[3 * at : 3 * at + 3]
        words = hostile.haproxy(example.files["haproxy/haproxy.cfg"])
        assert [line.split() for line in dumped.splitlines() if line.strip()][: len(words)] == words
        header, *lines = [line for line in states.splitlines()[1:] if line]
        rows = [dict(zip(header.split()[1:], line.split(), strict=True)) for line in lines]
        ports = example.inventory.ports
        wanted = [
            (part, words[0], str(each.address), str(ports.postgresql), str(ports.patroni), "0")
            for part in ("primary", "replicas")
            for each in example.inventory.db
            for words in checked(each, ports.postgresql, example.tls)
        ]
        # What passes through is as the client made it, whatever the check speaks
        keys = ("be_name", "srv_name", "srv_addr", "srv_port", "srv_check_port", "srv_use_ssl")
        assert [tuple(row[key] for key in keys) for row in rows] == wanted
        table = csv.DictReader(statistics.splitlines())
        spare = {(part, name): str(int(name.endswith(".old"))) for part, name, *_ in wanted}
        assert {(row["# pxname"], row["svname"]): row["bck"] for row in table if row["type"] == "2"} == spare


def test_haproxy_reads_a_quoted_word_as_it_is() -> None:
    values = [each[:500] for each in drawn(hostile.one_line, VALUES)]
    lines = [f"    setenv KBPG_{at} {haproxy(value)}\n" for at, value in enumerate(values)]
    head = "global\n    stats socket /run/haproxy/admin.sock mode 600 level admin\n"
    script = "set -e\nhaproxy -D -f /tmp/haproxy.cfg\n" + "".join(
        f"echo show env KBPG_{at} | {ADMIN}\n" for at in range(len(values))
    )
    told = printed(HAPROXY_IMAGE, script, {"/tmp/haproxy.cfg": head + "".join(lines)})
    assert dict(re.findall(r"^KBPG_(\d+)=(.*)$", told, re.MULTILINE)) == {
        str(at): value for at, value in enumerate(values)
    }


# --- PgBouncer -------------------------------------------------------------------------------------------

PGBOUNCER = """mkfifo /run/pgbouncer/next
for each in /cases/*; do
  cp $each/* /etc/pgbouncer/
  pgbouncer /etc/pgbouncer/pgbouncer.ini &
  cat /run/pgbouncer/next
  kill -QUIT $!
  wait $!
done"""
"""Runs one PgBouncer after another; inside/pgbouncer.py says when to go on."""
FREE_INI = """[databases]
{databases}
[pgbouncer]
listen_port = {port}
unix_socket_dir = /run/pgbouncer
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
admin_users = pgbouncer_auth
stats_users = {users}
"""
REFUSED = "authentication failed"
"""What PgBouncer logs, twice, of a client with another password."""
Question = tuple[int, str, list[tuple[str, str]]]
"""A port, the password of pgbouncer_auth, and other users and passwords to try."""


def console(cases: list[dict[str, str]], questions: list[Question], more: Mapping[str, str]) -> list[Any]:
    """Return what the console says with each pgbouncer.ini and userlist.txt; the client is libpq itself."""
    files = {
        f"/cases/{at:03}/{name}": text for at, each in enumerate(cases) for name, text in each.items()
    } | dict(more)
    options = ("--volume", "/run/pgbouncer", *ANY_ADDRESS)
    asking = {
        "/tmp/ask.py": (INSIDE / "pgbouncer.py").read_text(),
        "/tmp/questions.json": json.dumps(questions),
    }
    with container(PGBOUNCER_IMAGE, ("sh", "-c", PGBOUNCER), files, *options) as server:
        docker("start", server)
        answers = json.loads(
            printed(PATRONI_IMAGE, "exec python /tmp/ask.py", asking, "--volumes-from", server)
        )
        said = log(server)
    assert [each for each in answers if isinstance(each, str)] == [], said[-2000:]
    assert [line for line in re.findall(r"(?:WARNING|ERROR|FATAL) .*", said) if REFUSED not in line] == []
    return list(answers)


def test_pgbouncer_understands_what_the_inventory_says(examples: list[Example]) -> None:
    cases, questions = [], []
    for at, each in enumerate(examples):
        port = FIRST_PORT + at
        text = each.files["pgbouncer/pgbouncer.ini"]
        old = f"listen_port = {each.inventory.ports.pgbouncer}\n"
        assert old in text
        # Each has its own port, so that no client meets the one before
        ini = text.replace(old, f"listen_port = {port}\n")
        cases.append({"pgbouncer.ini": ini, "userlist.txt": each.files["pgbouncer/userlist.txt"]})
        password = each.credentials.pgbouncer_password.reveal()
        questions.append((port, password, [("pgbouncer_auth", password[:-1])]))
    first = examples[0].inventory
    answers = console(cases, questions, certificates(first, first.proxies[0], "pgbouncer"))
    for example, case, answer in zip(examples, cases, answers, strict=True):
        assert "SASL authentication failed" in answer["refused"][0]
        inventory, read = example.inventory, hostile.ini(case["pgbouncer.ini"])
        config = {row["key"]: row["value"] for row in answer["config"]}
        # It is shown as a decimal number
        assert int(config.pop("unix_socket_mode")) == int(read["pgbouncer"].pop("unix_socket_mode"), 8)
        assert {key: config[key] for key in read["pgbouncer"]} == read["pgbouncer"]
        assert config["client_tls_sslmode"] == SPOKEN[example.tls].client
        assert config["server_tls_sslmode"] == SPOKEN[example.tls].pooler
        hosts = ",".join(["127.0.0.1", *(str(each.address) for each in inventory.proxies[1:])])
        wanted = {("pgbouncer", None, "pgbouncer", int(config["listen_port"]))}
        for name in (*inventory.database_names, "postgres"):
            wanted.add((name, hosts, name, inventory.ports.primary))
            wanted.add((read_name(name), hosts, name, inventory.ports.replicas))
        keys = ("name", "host", "database", "port")
        assert {tuple(row[key] for key in keys) for row in answer["databases"]} == wanted
        limits = {row["name"]: row["max_user_connections"] for row in answer["users"]}
        # Of the two roles one has a limit, 4, which two proxies share
        assert {name: limit for name, limit in limits.items() if limit} == {inventory.roles[0].name: 2}
        assert inventory.cluster.superuser in limits
        assert {row["host"] for row in answer["peers"]} == {str(each.address) for each in inventory.proxies}


def test_pgbouncer_reads_quoted_values_as_they_are() -> None:
    databases = [short(each, 60) for each in drawn(hostile.one_line, VALUES)]
    names = list(dict.fromkeys(short(each, 60) for each in drawn(hostile.one_line, VALUES)))
    passwords = drawn(hostile_world.passwords, VALUES)
    users = [f"u{at}" for at in range(len(passwords))]
    lines = [f"d{at} = host=127.0.0.1 dbname={pgbouncer_ini(each)}" for at, each in enumerate(databases)]
    listed = {
        "pgbouncer_auth": "known",
        **dict.fromkeys(names, "known"),
        **dict(zip(users, passwords, strict=True)),
    }
    case = {
        "pgbouncer.ini": FREE_INI.format(databases="\n".join(lines), port=FIRST_PORT, users=", ".join(users)),
        "userlist.txt": "".join(f"{userlist(name)} {userlist(each)}\n" for name, each in listed.items()),
    }
    tried = list(zip(users, passwords, strict=True))
    (answer,) = console([case], [(FIRST_PORT, "known", [*tried, (users[0], "known")])], {})
    assert [*answer["refused"][:-1], bool(answer["refused"][-1])] == [*[None] * len(tried), True]
    understood = {row["name"]: row["database"] for row in answer["databases"]}
    assert {f"d{at}": each for at, each in enumerate(databases)}.items() <= understood.items()
    assert {row["name"] for row in answer["users"]} >= set(names)


# --- Patroni and PostgreSQL ------------------------------------------------------------------------------


class Postgresql:
    """Questions to one PostgreSQL, and its answers."""

    def __init__(self, examples: list[Example]) -> None:
        self.values = [each[:2000] for each in drawn(hostile.anything, VALUES)]
        self.names = [f"{short(each, 56)}.{at}" for at, each in enumerate(drawn(hostile.anything, VALUES))]
        self.passwords = drawn(hostile_world.accepted_credentials.map(lambda made: made.app_password), VALUES)
        # What would end the function's body; no name of an inventory has it
        self.superusers = [
            short(each, 60) for each in drawn(hostile.anything, VALUES) if "$kbpg$" not in each
        ]
        self.superusers = [each for each in self.superusers if not each.startswith("pg_")]
        questions = {
            "constant": [
                (conforming, sql_literal(value), sql_identifier(name))
                for conforming in ("on", "off")
                for value, name in zip(self.values, self.names, strict=True)
            ],
            "refusal": [
                (statement,)
                for name in self.names
                for statement in (
                    replication.dropping(name),
                    f"alter system reset {overrides._parameter(name)}",
                )
            ],
            "role": [
                (name, _role(name, password), [password.reveal(), password.reveal() + "x"])
                for name, password in zip(self.names, self.passwords, strict=True)
            ],
            "lookup": [(name, _lookup(name, "pgbouncer_auth.sql")) for name in self.superusers],
            "node": [
                (
                    {
                        name: each.files[f"patroni/{name}"]
                        for name in ("patroni.yml", "secrets.yml", "bootstrap.yml")
                    },
                )
                for each in examples
            ],
        }
        files = {
            "/tmp/ask.py": (INSIDE / "postgresql.py").read_text(),
            "/tmp/questions.json": json.dumps(questions),
            # Lines of the type hostssl are wrong without
            **certificates(examples[0].inventory, examples[0].inventory.db[0], "patroni"),
        }
        self.answers = json.loads(printed(PATRONI_IMAGE, "exec python /tmp/ask.py", files))


def _role(name: str, password: Any) -> str:
    statement = SQL("CREATE ROLE {} LOGIN PASSWORD {}")
    return statement.format(Identifier(name), Literal(scram.verifier(password))).as_string(None)


def _lookup(superuser: str, file: str) -> str:
    cluster, pooler = SimpleNamespace(superuser=superuser), SimpleNamespace(superuser_access=True)
    return render(f"sql/{file}.j2", inventory=SimpleNamespace(cluster=cluster, pgbouncer=pooler))


@pytest.fixture(scope="module")
def postgresql(examples: list[Example]) -> Postgresql:
    return Postgresql(examples)


def test_postgresql_reads_constants_and_names_as_they_are(postgresql: Postgresql) -> None:
    wanted = [list(each) for each in zip(postgresql.values, postgresql.names, strict=True)]
    assert postgresql.answers["constant"] == wanted * 2


def test_postgresql_names_what_a_pasted_statement_names(postgresql: Postgresql) -> None:
    told = postgresql.answers["refusal"]
    for name, slot, parameter in zip(postgresql.names, told[::2], told[1::2], strict=True):
        assert slot == f'replication slot "{name}" does not exist'
        assert parameter is None or f'"{name}"' in parameter


def test_libpq_logs_in_with_the_password_of_which_kbpg_made_the_verifier(postgresql: Postgresql) -> None:
    asked = zip(postgresql.passwords, postgresql.names, postgresql.answers["role"], strict=True)
    for password, name, answer in asked:
        assert (password.reveal(), answer) == (password.reveal(), [name, [True, False]])


def test_the_auth_query_finds_its_superuser_whatever_the_name(postgresql: Postgresql) -> None:
    for name, answer in zip(postgresql.superusers, postgresql.answers["lookup"], strict=True):
        body = _lookup(name, "pgbouncer_user_lookup.body.sql")
        # Another superuser is not told
        assert answer == [body, name, [name], []]


def test_patroni_reads_its_files_as_they_are_meant(examples: list[Example], postgresql: Postgresql) -> None:
    for example, answer in zip(examples, postgresql.answers["node"], strict=True):
        inventory, config = example.inventory, answer["config"]
        assert [each for each in answer["wrong"] if not UNREACHABLE.fullmatch(each)] == []
        assert (config["scope"], config["name"]) == (inventory.cluster.name, inventory.db[0].name)
        passwords = {
            **{name: each["password"] for name, each in config["postgresql"]["authentication"].items()},
            "raft": config["raft"]["password"],
            "rest": config["restapi"]["authentication"]["password"],
        }
        assert passwords == {
            name: getattr(example.credentials, f"{name}_password").reveal() for name in passwords
        }
        assert set(passwords) == {"superuser", "replication", "rewind", "raft", "rest"}
        users = [each["username"] for each in config["postgresql"]["authentication"].values()]
        assert users == [inventory.cluster.superuser, "replicator", "rewind_user"]
        assert {"locale": inventory.postgresql.locale} in config["bootstrap"]["initdb"]
        assert config["bootstrap"]["dcs"] == _dynamic(inventory)


def test_postgresql_reads_what_patroni_writes_for_it(examples: list[Example], postgresql: Postgresql) -> None:
    for example, answer in zip(examples, postgresql.answers["node"], strict=True):
        boss, hba = example.inventory.cluster.superuser, SPOKEN[example.tls].hba
        rules = [["local", ["all"], [boss], None, None, "peer", ["map=kbpg"], None]]

        def rule(databases: str, users: str, address: str, method: str, hba: str = hba) -> list[Any]:
            lists = (databases.split(","), users.split(","))
            return [hba, *lists, address, "255.255.255.255", method, None, None]

        for address in ("127.0.0.1", *(str(each.address) for each in example.inventory.db)):
            rules += [
                rule(databases, user, address, "scram-sha-256")
                for databases, user in (
                    ("replication", "replicator"),
                    ("postgres", "rewind_user"),
                    ("all", boss),
                )
            ]
        for each in example.inventory.proxies:
            rules.append(rule("all", "replicator,rewind_user", str(each.address), "reject"))
            rules.append(rule("all", "all", str(each.address), "scram-sha-256"))
        clerk = example.inventory.roles[0].name
        rules.append(rule("all", clerk, "10.9.0.7", "scram-sha-256"))
        assert answer["hba"] == rules
        assert answer["ident"] == [["kbpg", "postgres", boss, None]]
        parameters = _dynamic(example.inventory)["postgresql"]["parameters"]
        assert dict(answer["parameters"]) == {name: str(value) for name, value in parameters.items()}


def _dynamic(inventory: Inventory) -> dict[str, Any]:
    parameters = tuning.parameters(hostile_world.MEMORY, hostile_world.CORES, inventory)
    return dynamic.configuration(inventory, parameters)
