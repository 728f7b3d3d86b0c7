"""`kbpg diagnose`, whole outputs and exit codes, over clusters made of facts."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.cli.opening import PATIENCE
from kbpg.errors import Exit
from kbpg.health.diagnose import Diagnosis, examine
from kbpg.health.looking import LOGS
from kbpg.hosts.local import LocalHost
from kbpg.hosts.settings import Silence
from kbpg.options import Options
from kbpg.session import Session, read_context

from .health_world import CREDENTIALS, INVENTORY, World
from .test_health_findings import edited, forgotten_pause, wrong_mode

Capture = pytest.CaptureFixture[str]
Show = Callable[[World], None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """Let `kbpg diagnose` look at a world."""
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(INVENTORY)
    Path("credentials").mkdir()
    lines = (f"{name}='{value.reveal()}'\n" for name, value in CREDENTIALS.values().items())
    Path("credentials/postgres.env").write_text("".join(lines))
    Path("credentials/postgres.env").chmod(0o600)

    def show(world: World) -> None:
        @contextlib.contextmanager
        def opened(options: Options, **how: Any) -> Iterator[Session]:
            assert (how["lock"], how["partial"], how["lenient"]) == (False, True, True)
            assert options.patience == PATIENCE
            context, found = read_context(options, credentials_exist=True)
            yield Session(context, found, {}, LocalHost(), Silence(), world.unreachable)

        monkeypatch.setattr("kbpg.cli.opening.open_session", opened)
        monkeypatch.setattr("kbpg.health.diagnose.take", lambda *_: world.snapshot())

    return show


def said(capsys: Capture) -> str:
    """Return standard output, without the time it took."""
    return re.sub(r"\(\d+\.\d s\)", "(0.0 s)", capsys.readouterr().out)


def test_healthy(cluster: Show, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    cluster(World())
    assert run(["diagnose"]) == Exit.OK
    assert said(capsys) == snapshot
    assert run(["diagnose", "--json"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert (document["healthy"], document["worst"], document["unreachable"]) == (True, "notice", [])


def test_three_faults(cluster: Show, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    world = World()
    wrong_mode(world)
    world.off("proxy-2")
    forgotten_pause(world)
    cluster(world)
    assert run(["diagnose"]) == Exit.FAILED
    assert said(capsys) == snapshot
    assert run(["diagnose", "--json"]) == Exit.FAILED
    document = json.loads(capsys.readouterr().out)
    assert [f["id"] for f in document["findings"] if f["severity"] == "critical"] == [
        "host-unreachable",
        "data-permissions",
        "pgbouncer-paused",
    ]
    assert document["findings"][1]["repair"]["action"] == "own-data"
    assert [host["host"] for host in document["unreachable"]] == ["proxy-2"]


def test_whoever_waits_for_a_diagnosis_waits_less_for_logs(
    cluster: Show, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair, which the log may decide, has all the time of a pass: `examine` by itself."""
    given: list[float] = []

    def examined(*args: Any) -> Diagnosis:
        given.append(args[-1])
        return examine(*args)

    monkeypatch.setattr("kbpg.cli.diagnosing.examine", examined)
    cluster(World())
    assert run(["diagnose"]) == Exit.OK
    assert given == [LOGS]


def test_warnings_only(cluster: Show, capsys: Capture) -> None:
    world = World()
    edited(world)
    cluster(world)
    assert run(["diagnose"]) == Exit.DIFFERS
    assert "kbpg step 03 --limit proxy-2" in said(capsys)


def test_one_host(cluster: Show, capsys: Capture) -> None:
    world = World()
    wrong_mode(world)
    edited(world)
    cluster(world)
    assert run(["diagnose", "--host", "proxy-2", "--json"]) == Exit.DIFFERS
    assert {f["host"] for f in json.loads(capsys.readouterr().out)["findings"]} == {"proxy-2", "cluster"}
    assert run(["diagnose", "--limit", "proxy-1"]) == Exit.OK
    assert run(["diagnose", "--host", "proxy-9"]) == Exit.INPUT
    assert "did you mean proxy-" in capsys.readouterr().err
