"""`kbpg validate` as a user sees it: what it prints, its exit codes, and what it writes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kbpg.__main__ import run
from kbpg.cli.validating import shown
from kbpg.console import Style, plain
from kbpg.drills.measured import Measured, remember
from kbpg.errors import Unreachable
from kbpg.health.validation.catalogue import ALL
from kbpg.hosts.local import LocalHost
from kbpg.hosts.settings import Silence
from kbpg.inventory import load
from kbpg.session import Session, read_context

from .health_world import INVENTORY, SYSTEM_ID, World
from .validation_world import document, pretended, world

Capture = pytest.CaptureFixture[str]
PASSWORD = "wonderful-secret-0123456789"
USERS = {"POSTGRES_SUPERUSER": "kb_admin", "POSTGRES_APP_USER": "kb_app"}
NAMES = (
    *("POSTGRES_SUPERUSER", "POSTGRES_SUPERPASS", "POSTGRES_APP_USER", "POSTGRES_APP_PASS"),
    *("POSTGRES_REPLICATION_PASS", "POSTGRES_REWIND_PASS", "PGBOUNCER_AUTH_PASS", "RAFT_PASS"),
    "PATRONI_REST_PASS",
)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """An inventory and credentials in the current directory; no host can be reached. How sessions are opened."""
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(INVENTORY)
    Path("credentials").mkdir()
    text = "".join(f"{name}='{USERS.get(name, f'{PASSWORD}-{name}')}'\n" for name in NAMES)
    Path("credentials/postgres.env").write_text(text)
    Path("credentials/postgres.env").chmod(0o600)
    opened: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def open_session(options: Any, **how: Any) -> Iterator[Session]:
        opened.append({name: given for name, given in how.items() if name != "tell"})
        context, found = read_context(options, credentials_exist=how["credentials_exist"])
        lost = {
            h.name: Unreachable(h.name, f"no answer, {PASSWORD}-RAFT_PASS") for h in context.inventory.hosts
        }
        yield Session(context, found, {}, LocalHost(), Silence(), lost)

    monkeypatch.setattr("kbpg.session.open_session", open_session)
    return opened


def test_a_cluster_that_is_away_fails_with_a_report(away: list[dict[str, Any]], capsys: Capture) -> None:
    assert run(["validate", "--report", "out/today"]) == 1
    captured = capsys.readouterr()
    assert "✗ leader elected and active" in captured.out
    assert "– write through 6432" in captured.out
    assert "✓ credentials file complete, 0600" in captured.out
    assert captured.out.splitlines()[-1] == "hint: kbpg diagnose names the cause and what mends it"
    written = ["junit.xml", "report.html", "report.json", "report.md"]
    assert sorted(path.name for path in Path("out/today").iterdir()) == written
    for path in Path("out/today").iterdir():
        assert PASSWORD not in path.read_text()
        assert f"wrote out/today/{path.name}" in captured.out
    assert PASSWORD not in captured.out + captured.err
    assert away == [
        {
            "doing": "validate",
            "lock": False,
            "partial": True,
            "credentials_exist": True,
            "lenient": True,
            "ask": None,
        }
    ]


def test_json_is_the_whole_of_standard_output(away: list[dict[str, Any]], capsys: Capture) -> None:
    assert run(["validate", "--json", "--report", "out"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert len(found["checks"]) == len(ALL)
    assert found == json.loads(Path("out/report.json").read_text())


SWITCHED = Measured("switchover", 2.4, 0, "2026-11-20T10:00:00Z", 1)


def reported(monkeypatch: pytest.MonkeyPatch, seen: World) -> dict[str, float]:
    """Return the measured seconds, by fault, in the report of a cluster on which all that is tried passes."""
    monkeypatch.setattr("kbpg.health.validation.run.validate", lambda *_: pretended(seen))
    run(["validate", "--report", "out"])
    faults = json.loads(Path("out/report.json").read_text())["recovery"]["faults"]
    return {each["fault"]: each["measured_seconds"] for each in faults if each["measured"]}


@pytest.mark.usefixtures("away")
def test_what_drills_of_this_cluster_measured_is_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(Path(".kbpg"), load("inventory.yaml"), SYSTEM_ID, [SWITCHED])
    assert reported(monkeypatch, world()) == {"switchover": 2.4}


def built_anew(cluster: World) -> None:
    for name in cluster.context.db_names:
        cluster.change(name, cluster.ask.node, system_identifier="7722222222222222222")


def without_leader(cluster: World) -> None:
    cluster.change("db-1", cluster.ask.node, role="replica")


def two_leaders(cluster: World) -> None:
    cluster.change("db-2", cluster.ask.node, role="primary")


def leader_away(cluster: World) -> None:
    cluster.off("db-1")


def leader_says_nothing_of_it(cluster: World) -> None:
    cluster.change("db-1", cluster.ask.node, system_identifier="")


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize(
    "changed", [built_anew, without_leader, two_leaders, leader_away, leader_says_nothing_of_it]
)
def test_what_may_be_another_cluster_s_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch, changed: Callable[[World], None]
) -> None:
    remember(Path(".kbpg"), load("inventory.yaml"), SYSTEM_ID, [SWITCHED])
    seen = world()
    changed(seen)
    assert reported(monkeypatch, seen) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "db-1"], "validate is about the whole cluster"),
        (["--report", "inventory.yaml"], "inventory.yaml: file exists"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_opened(
    away: list[dict[str, Any]], capsys: Capture, arguments: list[str], words: str
) -> None:
    assert run(["validate", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert away == []


def test_without_credentials_nothing_is_tried(away: list[dict[str, Any]], capsys: Capture) -> None:
    Path("credentials/postgres.env").unlink()
    assert run(["validate"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_healthy_cluster_reads_in_groups() -> None:
    lines = shown(document(), [Path("out/report.md")])
    text = plain(lines)
    groups = ["Cluster", "Database", "HAProxy", "PgBouncer", "Access", "Encryption", "Live tests"]
    assert [line for line in text.splitlines() if line in groups] == groups
    assert text.count("✓") == len(ALL)
    assert "all 34 checks passed in 2.8 s\nwrote out/report.md\n" in text
    assert "hint" not in text
    assert not [line for line in lines if line.style is Style.BAD]


def test_what_failed_comes_with_its_evidence() -> None:
    broken = world()
    broken.stop("db-3", "patroni")
    lines = plain(shown(document(broken), [])).splitlines()
    at = next(i for i, line in enumerate(lines) if "✗ Patroni REST" in line)
    assert lines[at].endswith("db-3: nothing answers there")
    assert lines[at + 1] == "      db-1: Patroni 4.1.5, primary, running"
