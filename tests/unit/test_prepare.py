"""Step 01 after the preflight: stages, directories, kernel settings, packages."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from kbpg.context import Context
from kbpg.credentials import generate
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import NotConverged, PreflightFailed
from kbpg.facts import Facts, Knowledge
from kbpg.hosts.fake import FakeHost
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Output
from kbpg.inventory import parse
from kbpg.model import ABSENT, Change, Placed, Stage, Status, Step
from kbpg.resources import sysctl
from kbpg.resources.datadir import DataDirectory, DataDirectoryOwner
from kbpg.resources.package import Docker, TimeService, locked, start
from kbpg.resources.preflight.resource import Preflight
from kbpg.resources.preflight.system import System
from kbpg.resources.sysctl import Setting, Sysctls
from kbpg.steps.s01_prepare import STEP, needs

from .certificates import placeholders

HOSTS = """
db:
  - {name: db-1, address: 10.0.0.120}
  - {name: db-2, address: 10.0.0.121}
  - {name: db-3, address: 10.0.0.122}
proxies:
  - {name: px-1, address: 10.0.0.11}
"""
BARE = System("debian", "", "Debian 13", "x86_64", True, "missing", "", "", 1_048_576)


def context(settings: str = "") -> Context:
    inventory = parse(f"cluster: {{name: kb}}\n{settings}{HOSTS}", "i.yaml")
    return Context(inventory, generate("kb_admin", "kb_app"), pki=placeholders(inventory))


def knowing(key: str, answer: object, host: str = "db-1") -> Facts:
    knowledge = Knowledge()
    knowledge.put(host, {key: answer})
    return Facts(knowledge, host)


def ids(stage: Stage, host: str) -> list[str]:
    return [item.resource.id for item in stage.items if item.place == host]


# --- stages ------------------------------------------------------------------------------------------


def test_the_preflight_is_a_requirement_and_nothing_else_is() -> None:
    stages = STEP.stages(context())
    assert [(stage.title, stage.requirement) for stage in stages] == [
        ("preflight", True),
        ("docker", False),
        ("directories", False),
        ("sysctls", False),
        ("clock", False),
        ("firewall", False),
    ]
    assert [item.place for item in stages[0].items] == ["db-1", "db-2", "db-3", "px-1"]


def test_report_leaves_the_hosts_alone() -> None:
    settings = "prepare: {sysctls: report, clock: report, install_docker: false}\n"
    assert [stage.title for stage in STEP.stages(context(settings))] == [
        "preflight",
        "directories",
        "firewall",
    ]


def test_directories_of_each_role() -> None:
    stage = STEP.stages(context())[2]
    base = "/opt/keybuzz"
    common = [f"directory:{base}", f"directory:{base}/kbpg", f"directory:{base}/kbpg/loaded"]
    assert ids(stage, "db-2") == [
        *common,
        f"directory:{base}/postgres",
        f"directory:{base}/postgres/data",
        f"directory:{base}/postgres/raft",
        f"directory:{base}/patroni",
        f"directory:{base}/patroni/tls",
        f"data directory:{base}/postgres/data/pgdata",
    ]
    assert ids(stage, "px-1") == [
        *common,
        f"directory:{base}/haproxy",
        f"directory:{base}/haproxy/tls",
        f"directory:{base}/pgbouncer",
        f"directory:{base}/pgbouncer/tls",
    ]


def test_the_preflight_asks_each_host_for_what_has_to_agree() -> None:
    ctx = context()
    host = ctx.inventory.host("db-2")
    asked = {(name, fact.key) for name, fact in Preflight(ctx, host, needs(ctx, host)).asks("db-2", ctx)}
    assert {("px-1", "clock"), ("db-1", "clock"), ("db-3", "data:/opt/keybuzz/postgres/data")} <= asked
    assert ("db-2", "ports:5432,7000,8008") in asked
    assert ("db-1", "ports:5432,7000,8008") not in asked


def test_the_preflight_never_fixes() -> None:
    ctx = context()
    host = ctx.inventory.host("db-1")
    resource = Preflight(ctx, host, needs(ctx, host))
    with pytest.raises(PreflightFailed, match="db-1 is not fit"):
        resource.fix(site(), Change({}, {}))


# --- the data directory ------------------------------------------------------------------------------


def owner(found: DataDirectory | None) -> tuple[DataDirectoryOwner, Facts]:
    return DataDirectoryOwner("/d", uid=999, gid=999), knowing("data directory:/d", found)


def test_no_data_directory_is_fine() -> None:
    resource, facts = owner(None)
    assert (resource.want(facts), resource.have(facts)) == (ABSENT, ABSENT)


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (DataDirectory("999:999", 0o700, ""), []),
        (DataDirectory("999:999", 0o755, ""), ["mode: 0755 → 0700"]),
        (DataDirectory("999:999", 0o700, "/d/base/1"), ["files of others: base/1 → none"]),
        (DataDirectory("0:0", 0o700, "/d/"), ["owner: 0:0 → 999:999", "files of others: . → none"]),
    ],
)
def test_drift_of_the_data_directory(found: DataDirectory, differs: list[str]) -> None:
    resource, facts = owner(found)
    assert Change(resource.have(facts), resource.want(facts)).lines() == differs


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_drift_of_a_real_data_directory_is_mended_and_its_content_is_not_touched(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "pgdata", tmp_path / "tablespace"
    (data / "base").mkdir(parents=True)
    (data / "base" / "1").write_text("rows")
    (data / "base" / "1").chmod(0o640)
    elsewhere.mkdir()
    (data / "link").symlink_to(elsewhere)
    data.chmod(0o755)
    stage = Stage("data", (Placed("db-1", DataDirectoryOwner(str(data), uid=999, gid=998)),))
    step = Step(1, "prepare", "", lambda _: (stage,))
    local = LocalHost()

    first = Run(context(), {"db-1": local}, local).apply([step])
    again = Run(context(), {"db-1": local}, local).apply([step])

    assert [outcome.status for outcome in first.outcomes] == [Status.CHANGED]
    assert [outcome.status for outcome in again.outcomes] == [Status.OK]
    for path in (data, data / "base", data / "base" / "1", data / "link"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (999, 998)
    assert data.stat().st_mode & 0o7777 == 0o700
    assert (data / "base" / "1").stat().st_mode & 0o777 == 0o640
    assert (data / "base" / "1").read_text() == "rows"
    assert elsewhere.stat().st_uid == 0


# --- kernel settings ---------------------------------------------------------------------------------

SETTINGS = (Setting("vm.swappiness", 1), Setting("net.core.somaxconn", 4096, at_least=True))
KEY = sysctl.fact(SETTINGS).key


@pytest.mark.parametrize(
    ("have", "differs"),
    [
        ({"vm.swappiness": 1, "net.core.somaxconn": 4096}, []),
        ({"vm.swappiness": 1, "net.core.somaxconn": 65535}, []),
        ({"vm.swappiness": 60, "net.core.somaxconn": 4096}, ["vm.swappiness: 60 → 1"]),
        (
            {"vm.swappiness": 0, "net.core.somaxconn": 128},
            ["vm.swappiness: 0 → 1", "net.core.somaxconn: 128 → 4096"],
        ),
        ({"vm.swappiness": 1}, []),
        ({}, []),
    ],
)
def test_kernel_settings(have: dict[str, int], differs: list[str]) -> None:
    facts, resource = knowing(KEY, have), Sysctls(SETTINGS)
    assert Change(resource.have(facts), resource.want(facts)).lines() == differs


def test_the_file_for_the_next_boot_keeps_larger_values_and_is_stable() -> None:
    text = sysctl.content(SETTINGS, {"vm.swappiness": 60, "net.core.somaxconn": 65535})
    assert text.decode().splitlines()[1:] == ["vm.swappiness = 1", "net.core.somaxconn = 65535"]
    assert sysctl.content(SETTINGS, {"vm.swappiness": 1, "net.core.somaxconn": 65535}) == text


def test_overcommit_is_left_alone() -> None:
    assert not [each for each in sysctl.DATABASE if each.name == "vm.overcommit_memory"]


# --- packages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "docker", "clock"),
    [
        (BARE, ["install docker.io"], ["install and start chrony"]),
        (replace(BARE, docker="26.1.5", time_service="chronyd"), [], []),
        (replace(BARE, docker="silent", time_service="systemd-timesyn"), [], []),
    ],
)
def test_what_is_installed(system: System, docker: list[str], clock: list[str]) -> None:
    facts = knowing("system", system)
    for resource, expected in ((Docker(), docker), (TimeService(), clock)):
        change = Change(resource.have(facts), resource.want(facts))
        assert (resource.diff(change, facts) if change.have != change.want else []) == expected


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)", True),
        ("E: Unable to lock directory /var/lib/apt/lists/", True),
        ("E: Unable to locate package docker.io", False),
    ],
)
def test_another_apt_is_waited_for(said: str, waits: bool) -> None:
    assert locked(Output(100, "", said)) is waits


def site() -> Site:
    local = LocalHost()
    run = Run(context(), {"db-1": local}, local)
    return run.reading.site("db-1")


@pytest.mark.parametrize(
    ("systemd", "started"),
    [(True, ["systemctl", "enable", "--now", "docker"]), (False, ["service", "docker", "start"])],
)
def test_a_daemon_that_answers_is_started(systemd: bool, started: list[str]) -> None:
    host = FakeHost("db-1")
    host.programs |= dict.fromkeys(("systemctl", "service", "sh"), lambda host, argv, stdin: Output(0, ""))
    host.programs["test"] = lambda host, argv, stdin: Output(0 if systemd else 1, "")
    start(Run(context(), {"db-1": host}, host).reading.site("db-1"), "docker", "docker version", deadline=5)
    argv, waiting = host.journal[1:]
    assert argv == started
    assert "until said=$(docker version 2>&1)" in waiting[2]


def test_a_daemon_is_waited_for_until_it_answers(tmp_path: Path) -> None:
    """By a real shell, which asks every half second."""
    there = tmp_path / "there"
    threading.Timer(0.3, there.touch).start()
    start(site(), "kbpg-no-such-service", f"test -e {there}", deadline=10)
    assert there.exists()


def test_a_daemon_that_never_answers_is_told_with_its_last_words() -> None:
    with pytest.raises(NotConverged, match="does not answer within 1 s") as caught:
        start(site(), "kbpg-no-such-service", "echo nobody is there; false", deadline=1)
    assert "nobody is there" in caught.value.detail
    assert "kbpg-no-such-service" in str(caught.value.hint)
