"""A credentials file with the mission's four names is completed from what the hosts use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbpg.adoption.in_use import NOTHING, PatroniInUse, PatroniInUseFact, PoolerInUseFact
from kbpg.adoption.passwords import Taken, compared, completed, passwords_of, take_over
from kbpg.credentials import Found, parse
from kbpg.errors import CredentialsError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Output
from kbpg.inventory import parse as parse_inventory
from kbpg.secret import Secret

FOUR = """\
POSTGRES_SUPERUSER=kb_admin
POSTGRES_SUPERPASS=super-secret
POSTGRES_APP_USER=kb_app
POSTGRES_APP_PASS=app-secret
"""
FACT = PatroniInUseFact("/opt/keybuzz/patroni/secrets.yml")
POOLER = PoolerInUseFact("/opt/keybuzz/pgbouncer/userlist.txt")
PROGRAM: dict[str, Any] = {
    "scope": "keybuzz",
    "name": "db-1",
    "raft": "raft-secret",
    "rest": ["patroni", "rest-secret"],
    "roles": {
        "superuser": ["kb_admin", "super-secret"],
        "replication": ["replicator", "repl-secret"],
        "rewind": ["rewind_user", "rewind-secret"],
    },
}
HOSTS = """
cluster: {name: keybuzz}
db:
  - {name: db-1, address: 10.0.0.120}
  - {name: db-2, address: 10.0.0.121}
  - {name: db-3, address: 10.0.0.122}
proxies:
  - {name: px-1, address: 10.0.0.11}
"""


def four() -> Found:
    return parse(FOUR, path="credentials/postgres.env", mode=0o600)


def running(**changed: Any) -> PatroniInUse:
    found = FACT.parse(Output(0, json.dumps(PROGRAM | changed)))
    assert found is not None
    return found


class Host:
    """Answers both questions; the scripts themselves are tried in the lab."""

    def __init__(self, name: str, address: str, output: Output) -> None:
        self.name, self.address, self._output = name, address, output

    def read(self, questions: Any, *, timeout: float = 0) -> Any:
        return {question.key: self._output for question in questions}


def hosts(*answers: Output) -> dict[str, Any]:
    inventory = parse_inventory(HOSTS, "i.yaml")
    return {
        host.name: Host(host.name, str(host.address), answer)
        for host, answer in zip(inventory.hosts, answers, strict=True)
    }


def test_what_a_patroni_runs_with() -> None:
    found = running()
    assert (found.scope, found.name) == ("keybuzz", "db-1")
    assert found.raft == Secret("raft-secret")
    assert found.rest == ("patroni", Secret("rest-secret"))
    assert found.roles["rewind"] == ("rewind_user", Secret("rewind-secret"))
    assert "secret" not in repr(found)


def test_without_passwords() -> None:
    found = running(raft=None, rest=[None, None], roles={"superuser": ["postgres", None]})
    assert (found.raft, found.rest, found.roles) == (None, None, {})


def test_kbpgs_own_file() -> None:
    text = (
        "file\n# Written by kbpg\nrestapi:\n  authentication: {username: kbpg, password: a-secret}\n"
        "raft: {password: b-secret}\npostgresql:\n  authentication:\n"
        "    replication: {username: replicator, password: c-secret}\n"
    )
    found = FACT.parse(Output(0, text))
    assert found is not None
    assert passwords_of(found) == {
        "PATRONI_REST_PASS": Secret("a-secret"),
        "RAFT_PASS": Secret("b-secret"),
        "POSTGRES_REPLICATION_PASS": Secret("c-secret"),
    }


def test_nothing_there_and_nothing_to_read() -> None:
    assert FACT.parse(Output(NOTHING, "")) is None
    with pytest.raises(NotKnown, match="cannot be read: its container is exited"):
        FACT.parse(Output(1, "", "its container is exited\n"))


def test_passwords_of_other_users_are_not_taken() -> None:
    roles = PROGRAM["roles"] | {"replication": ["repl", "x-secret"]}
    assert passwords_of(running(roles=roles)) == {
        "RAFT_PASS": Secret("raft-secret"),
        "POSTGRES_REWIND_PASS": Secret("rewind-secret"),
    }


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ('"pgbouncer_auth" "a""b"\n', 'a"b'),
        ('"kb_app" "other"\n"pgbouncer_auth" "mine"\n', "mine"),
        ('"pgbouncer_auth" "SCRAM-SHA-256$4096:salt$stored:server"\n', None),
        ('"pgbouncer_auth" "md50123456789abcdef0123456789abcdef"\n', None),
        ("", None),
    ],
)
def test_poolers_password(text: str, password: str | None) -> None:
    assert POOLER.parse(Output(0, text)) == (Secret(password) if password else None)


def test_what_all_hosts_agree_on() -> None:
    a, b = Secret("a-secret"), Secret("b-secret")
    agreed, differing = compared({"db-1": {"X": a, "Y": a}, "db-2": {"X": a, "Y": b}, "db-3": {"X": a}})
    assert agreed == {"X": a}
    assert differing == {"Y": ["db-1", "db-2"]}


def test_the_file_is_completed_and_nothing_in_it_changes() -> None:
    program = Output(0, json.dumps(PROGRAM))
    pooler = Output(0, '"pgbouncer_auth" "pool-secret"\n')
    taken = take_over(parse_inventory(HOSTS, "i.yaml"), hosts(program, program, program, pooler))
    whole = completed(four(), taken, strict=True)
    assert whole.missing == ("PATRONI_REST_PASS",)  # another user's there, so kbpg's own is a new one
    assert whole.values["RAFT_PASS"] == Secret("raft-secret")
    assert whole.values["PGBOUNCER_AUTH_PASS"] == Secret("pool-secret")
    assert whole.values["POSTGRES_SUPERPASS"] == Secret("super-secret")
    assert Secret("rest-secret") in taken.seen


def test_a_password_in_use_is_never_made_up() -> None:
    program = Output(0, json.dumps(PROGRAM))
    other = Output(0, json.dumps(PROGRAM | {"raft": "other-secret"}))
    silent = Output(1, "", "its container is exited")
    inventory = parse_inventory(HOSTS, "i.yaml")
    with pytest.raises(CredentialsError) as raised:
        completed(four(), take_over(inventory, hosts(program, other, silent, silent)), strict=True)
    assert raised.value.lines() == [
        "credentials/postgres.env: RAFT_PASS: missing, and the hosts use different ones: db-1, db-2\n"
        "credentials/postgres.env: RAFT_PASS: missing, and db-3 has one that cannot be read: what Patroni runs with "
        "cannot be read: its container is exited",
        "hint: put the passwords that are in use into the file by hand",
    ]
    # One that is told by the others is enough
    assert (
        "RAFT_PASS"
        not in completed(
            four(), take_over(inventory, hosts(program, program, silent, silent)), strict=True
        ).missing
    )


def test_a_look_does_without() -> None:
    taken = Taken(unread={"db-1": "no answer"})
    assert "RAFT_PASS" in completed(four(), taken, strict=False).missing
