"""The commands of those who run a cluster: what they refuse before any host is asked, and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.cli import handing_over
from kbpg.errors import HostError
from kbpg.operations.rolling_restart import Restarted

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def unconnected(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test an inventory and credentials, and let none of them open a connection."""

    def connect(*args: object, **more: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("kbpg.hosts.ssh.connect", connect)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["failover", "--to", "proxy-1"],
            ["error: proxy-1 runs no PostgreSQL", "hint: one of db-1, db-2, db-3"],
        ),
        (
            ["failover", "--to", "db-4"],
            [
                "error: no host db-4 in inventory.yaml, did you mean db-3?",
                "hint: hosts: db-1, db-2, db-3, proxy-1, proxy-2",
            ],
        ),
        (
            ["psql", "--host", "proxy-2"],
            ["error: proxy-2 runs no PostgreSQL", "hint: --host one of db-1, db-2, db-3"],
        ),
        (
            ["logs", "db-1", "haproxy"],
            ["error: db-1 has no haproxy", "hint: haproxy runs on proxy-1, proxy-2; db-1 has patroni"],
        ),
        (
            ["logs", "db-1", "patroni", "--since", "noon"],
            [
                "error: --since: not a duration or time: noon",
                "hint: such as 10m, 2h, 2026-11-23T15:00:00Z",
            ],
        ),
        (
            ["destroy", "--with-data", "--confirm", "tset"],
            ["error: --confirm tset: the cluster's name is test"],
        ),
        (
            ["destroy", "--yes", "--limit", "db-1"],
            ["error: destroy takes the whole cluster, not --limit"],
        ),
        (
            ["switchover", "--limit", "db-1"],
            [
                "error: the cluster has one leader: switchover takes no --limit",
                "hint: --to HOST says who is to lead",
            ],
        ),
        (
            ["switchover", "--without", "proxy-3"],
            ["error: proxy-3 is no proxy", "hint: proxies: proxy-1, proxy-2"],
        ),
        (
            ["restart", "--limit", "proxy-1"],
            ["error: proxy-1 is no db host", "hint: db hosts: db-1, db-2, db-3"],
        ),
        (
            ["restart", "--host", "db-4"],
            ["error: db-4 is no db host", "hint: db hosts: db-1, db-2, db-3"],
        ),
        (
            ["restart", "--host", "db-1", "--limit", "db-2"],
            [
                "error: --host and --limit have no host in common",
                "hint: one of them is enough, for restart they mean the same",
            ],
        ),
        (
            ["restart", "--without", "db-1"],
            ["error: db-1 is no proxy", "hint: proxies: proxy-1, proxy-2"],
        ),
        (
            ["reinit", "proxy-1"],
            ["error: proxy-1 is no db host", "hint: db hosts: db-1, db-2, db-3"],
        ),
        (
            ["reinit", "db-1", "--limit", "db-1"],
            ["error: reinit clones the one replica that it is given, and takes no --limit"],
        ),
        (
            ["failover", "--to", "db-1", "--limit", "db-1"],
            [
                "error: the cluster has one leader: failover takes no --limit",
                "hint: --to HOST says who is to lead",
            ],
        ),
        (
            ["pause", "--limit", "db-1"],
            ["error: Patroni is paused on all nodes: pause takes no --limit"],
        ),
        (
            ["psql", "--limit", "db-1"],
            ["error: psql is on one node and takes no --limit", "hint: --host HOST says on which"],
        ),
        (
            ["raft", "status", "--limit", "db-1"],
            ["error: the consensus is that of all db hosts: raft status takes no --limit"],
        ),
        (
            ["raft", "rebuild", "--without", "db-4"],
            [
                "error: no host db-4 in inventory.yaml, did you mean db-3?",
                "hint: hosts: db-1, db-2, db-3, proxy-1, proxy-2",
            ],
        ),
        (
            ["raft", "rebuild", "--without", "proxy-1"],
            ["error: proxy-1 is no member of the consensus", "hint: members: db-1, db-2, db-3"],
        ),
        (
            ["credentials", "recover"],
            [
                "{here}/credentials/postgres.env: is there already",
                "hint: move it away first, if it is the wrong one",
            ],
        ),
        (
            ["credentials", "recover", "--ask-app-password", "--new-app-password"],
            ["error: --ask-app-password and --new-app-password exclude each other"],
        ),
        (
            ["credentials", "rotate"],
            [
                "error: which passwords are to be rotated?",
                "hint: one or more of app, superuser, replication, rewind, pgbouncer, rest, raft, role NAME, all",
            ],
        ),
        (
            ["credentials", "rotate", "role", "reporting"],
            [
                "error: role reporting: no role of the inventory that logs in",
                "hint: one of: there is none",
            ],
        ),
        (
            ["credentials", "rotate", "app", "--resume"],
            ["error: --resume ends what was begun, and takes nothing else"],
        ),
        (
            ["credentials", "rotate", "app", "--limit", "db-1"],
            [
                "error: a password is that of the whole cluster: credentials rotate takes no --limit",
                "hint: every host has to be there: a new password is proven on each",
            ],
        ),
    ],
)
def test_what_makes_no_sense_touches_nothing(arguments: list[str], lines: list[str], capsys: Capture) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [line.replace("{here}", str(Path.cwd())) for line in lines]


def test_a_rotation_that_was_broken_off_is_said(capsys: Capture) -> None:
    old = Path("credentials/postgres.env")
    new = Path("credentials/postgres.env.new")
    new.write_text(old.read_text().replace("-b'", "-new'"))
    assert run(["credentials", "rotate", "rest"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: a rotation of app was broken off, and rest is not part of it",
        "hint: first: kbpg credentials rotate --resume",
    ]
    assert run(["credentials", "show"]) == 0
    shown = capsys.readouterr()
    assert "-new" not in shown.out + shown.err
    assert "a rotation is not ended, the new passwords are in" in shown.err
    assert run(["uri", "--show-password"]) == 0
    shown = capsys.readouterr()
    assert "-new@" in shown.out
    assert shown.err == "a rotation of passwords is not ended: this password is its new one\n"


def test_nothing_to_resume_is_no_error(capsys: Capture) -> None:
    assert run(["credentials", "rotate", "--resume"]) == 0
    assert capsys.readouterr().out == "no rotation was broken off: nothing to do\n"


@pytest.mark.parametrize(
    "command", [["pause"], ["resume"], ["psql"], ["failover", "--to", "db-1"], ["destroy"]]
)
def test_a_lost_credentials_file_stops_what_needs_it(command: list[str], capsys: Capture) -> None:
    Path("credentials/postgres.env").unlink()
    assert run(command) == 2
    assert "credentials/postgres.env: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["failover", "pause", "resume", "psql", "logs", "destroy"])
def test_help_says_what_a_command_does(command: str, capsys: Capture) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: kbpg {command} " in shown
    assert "Global options" in shown


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], ["db-1", "db-2", "db-3"]),
        (["--limit", "db-2"], ["db-2"]),
        (["--host", "db-2"], ["db-2"]),
        (["--limit", "db-3,db-2", "--host", "db-3", "--host", "db-1"], ["db-3"]),
    ],
)
def test_restart_takes_a_limit_as_it_takes_hosts(
    words: list[str], chosen: list[str], world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def restarted(site: Any, hosts: list[str], **how: Any) -> Restarted:
        seen.append((hosts, how))
        return Restarted(list(hosts))

    monkeypatch.setattr(handing_over, "restart_nodes", restarted)
    monkeypatch.setattr(handing_over, "forget_pauses", lambda *_: None)
    assert run(["restart", *words]) == 0
    assert seen == [(chosen, {"pending": False, "without": ()})]


def test_restart_goes_on_without_a_proxy_as_its_hint_says(
    world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    seen: list[Any] = []

    def restarted(site: Any, hosts: list[str], *, pending: bool, without: tuple[str, ...]) -> Restarted:
        seen.append(without)
        return Restarted(list(hosts))

    monkeypatch.setattr(handing_over, "restart_nodes", restarted)
    monkeypatch.setattr(handing_over, "forget_pauses", lambda *_: None)
    world.unreachable["proxy-2"] = HostError("proxy-2", "no route to host")
    assert run(["restart"]) == 1
    *_, hint = capsys.readouterr().err.splitlines()
    assert hint == "hint: bring it back, or go on: --without proxy-2"
    assert seen == []
    assert run(["restart", "--without", "proxy-2"]) == 0
    assert seen == [("proxy-2",)]
