"""A lost credentials file from what the hosts use: whole, checked, and never with a guess in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kbpg import scram
from kbpg.adoption.in_use import PatroniInUseFact, PoolerInUseFact
from kbpg.errors import HostError, Refused
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.port import Output
from kbpg.operations.place import site_of
from kbpg.operations.recovering import (
    Remains,
    checks,
    credentials_of,
    fits_application,
    look,
    why_not_recover,
)
from kbpg.secret import Secret

from .small_cluster import CREDENTIALS, DATABASES, PROXIES, context

CONTEXT = context()
LOGINS = {
    "superuser": ["kb_admin", CREDENTIALS.superuser_password.reveal()],
    "replication": ["replicator", CREDENTIALS.replication_password.reveal()],
    "rewind": ["rewind_user", CREDENTIALS.rewind_password.reveal()],
}
IN_USE = {
    "scope": "kb",
    "name": "x",
    "raft": CREDENTIALS.raft_password.reveal(),
    "rest": ["kbpg", CREDENTIALS.rest_password.reveal()],
    "roles": LOGINS,
}
VERIFIERS = {
    "kb_admin": CREDENTIALS.superuser_password,
    "kb_app": CREDENTIALS.app_password,
    "replicator": CREDENTIALS.replication_password,
    "rewind_user": CREDENTIALS.rewind_password,
    "pgbouncer_auth": CREDENTIALS.pgbouncer_password,
}


def rows(passwords: dict[str, Secret]) -> str:
    return "".join(f"{role} {scram.verifier(password)}\n" for role, password in passwords.items())


def remains(
    in_use: dict[str, Any] | None = None,
    *,
    only: Sequence[str] = (*DATABASES, *PROXIES),
    odd: dict[str, Any] | None = None,
    server: str | None = None,
) -> Remains:
    """Return what is read where Patroni runs with `in_use`, on db-3 with `odd`, and the server prints `server`."""
    told = rows(VERIFIERS) if server is None else server

    def patroni(host: FakeHost, question: object) -> Output:
        found = odd if odd and host.name == "db-3" else (in_use or IN_USE)
        return Output(0, json.dumps(found))

    def docker(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        assert not any(password.reveal() in " ".join(argv) for password in VERIFIERS.values())
        return Output(0 if told else 1, told)

    hosts = {
        name: FakeHost(name, answers={PatroniInUseFact: patroni}, programs={"docker": docker})
        if name in DATABASES
        else FakeHost(name, answers={PoolerInUseFact: _userlist})
        for name in only
    }
    return look(site_of(CONTEXT, hosts, FakeHost("c"), lambda place, text: None))


def _userlist(host: FakeHost, question: object) -> Output:
    return Output(0, f'"pgbouncer_auth" "{CREDENTIALS.pgbouncer_password.reveal()}"\n')


def refused(seen: Remains) -> Refused:
    refusal = why_not_recover(CONTEXT, seen)
    assert refusal is not None
    return refusal


def test_all_but_the_applications_password_comes_back() -> None:
    seen = remains()
    assert why_not_recover(CONTEXT, seen) is None
    assert set(checks(CONTEXT, seen).values()) == {True}
    assert credentials_of(CONTEXT, seen, CREDENTIALS.app_password) == CREDENTIALS
    new = credentials_of(CONTEXT, seen, None)
    assert new.app_password not in (CREDENTIALS.app_password, Secret(""))


def test_one_host_of_each_kind_is_enough() -> None:
    assert why_not_recover(CONTEXT, remains(only=("db-2", "px-2"))) is None


def test_the_applications_password_is_checked_against_the_server() -> None:
    seen = remains()
    assert fits_application(CONTEXT, seen, CREDENTIALS.app_password)
    assert not fits_application(CONTEXT, seen, Secret("another-password"))
    with pytest.raises(Refused, match="no PostgreSQL tells"):
        fits_application(CONTEXT, remains(server=""), CREDENTIALS.app_password)


def test_without_a_server_nothing_is_checked_and_the_rest_is_recovered() -> None:
    seen = remains(server="")
    assert why_not_recover(CONTEXT, seen) is None
    assert set(checks(CONTEXT, seen).values()) == {None}


def test_a_kind_of_host_that_is_missing() -> None:
    assert refused(remains(only=DATABASES)).message == "no host has PGBOUNCER_AUTH_PASS"
    refusal = refused(remains(only=PROXIES))
    assert "POSTGRES_SUPERPASS" in refusal.message
    assert refusal.detail == tuple(f"{name}: {name} is not connected" for name in DATABASES)


def test_hosts_that_do_not_agree() -> None:
    odd = {**IN_USE, "raft": "another-raft-password"}
    refusal = refused(remains(odd=odd))
    assert refusal.detail == ("RAFT_PASS: differs between db-1, db-2, db-3",)
    assert "another-raft-password" not in "\n".join(refusal.lines())


def test_another_superuser_than_the_inventorys() -> None:
    roles = {**LOGINS, "superuser": ["postgres", "some-password"]}
    assert "the cluster's superuser is postgres" in refused(remains({**IN_USE, "roles": roles})).message


def test_passwords_that_the_server_does_not_take() -> None:
    stale = rows({**VERIFIERS, "replicator": Secret("changed-by-hand")})
    refusal = refused(remains(server=stale))
    assert refusal.detail == ("POSTGRES_REPLICATION_PASS",)


def test_a_host_that_is_lost_meanwhile_is_no_end() -> None:
    def lost(host: FakeHost, argv: Sequence[str], stdin: bytes) -> Output:
        raise HostError(host.name, "the SSH connection was lost")

    answers = {PatroniInUseFact: lambda host, question: Output(0, json.dumps(IN_USE))}
    hosts = {
        "db-1": FakeHost("db-1", answers=answers, programs={"docker": lost}),
        "px-1": FakeHost("px-1", answers={PoolerInUseFact: _userlist}),
    }
    seen = look(site_of(CONTEXT, hosts, FakeHost("c"), lambda place, text: None))
    assert why_not_recover(CONTEXT, seen) is None
    assert not seen.verifiers


def test_nothing_of_it_shows_itself() -> None:
    shown = repr(remains())
    assert not any(password.reveal() in shown for password in VERIFIERS.values())
    assert "SCRAM-SHA-256" not in shown


def test_own_roles_that_have_a_password_are_named() -> None:
    from kbpg.cli.recovering import _done
    from kbpg.console import plain

    with_roles = context("roles:\n  - {name: reports}\n  - {name: later}\n")
    seen = remains(server=rows({**VERIFIERS, "reports": Secret("one-more-password")}))
    shown = plain(_done(with_roles, seen, CREDENTIALS.app_password))
    assert "POSTGRES_ROLE_REPORTS_PASS: on no host" in shown
    assert "LATER" not in shown
