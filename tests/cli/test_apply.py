"""apply-all and step: what is done, what is said, and the exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from syrupy.assertion import SnapshotAssertion

from kbpg.__main__ import run
from kbpg.engine.site import Site
from kbpg.errors import AccessDenied, Unreachable
from kbpg.facts import NotKnown

from .conftest import PASSWORD, Thing

CONFIGURATION = "file:/opt/keybuzz/haproxy/haproxy.cfg"
Capture = pytest.CaptureFixture[str]


def said(capsys: Capture) -> str:
    """Return both streams, with every duration as N.N and the test's own directory, in a URI, as HERE."""
    captured = capsys.readouterr()
    text = f"{captured.err}--- standard output\n{captured.out}"
    text = text.replace(quote(str(Path.cwd()), safe=""), "HERE")
    return re.sub(r"\d+\.\d+(?= s\b|  )", "N.N", text)


def test_a_first_apply_makes_everything(world: Any, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    assert run(["apply-all"]) == 0
    assert said(capsys) == snapshot
    assert world.states["db-3", "container:patroni"] == {"state": "running"}
    assert world.opened == [
        {"doing": "apply-all", "lock": True, "credentials_exist": False, "renewing": True, "ask": None}
    ]


def test_a_second_apply_changes_nothing(whole: Any, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    before = dict(whole.states)
    capsys.readouterr()
    assert run(["apply-all"]) == 0
    assert said(capsys) == snapshot
    assert whole.states == before


def test_a_changed_option_is_shown_as_a_difference(whole: Any, capsys: Capture) -> None:
    for proxy in ("proxy-1", "proxy-2"):
        whole.states[proxy, CONFIGURATION] = {"max": 5000}
    capsys.readouterr()
    assert run(["apply-all"]) == 0
    assert (
        f"  ~ proxy-1, proxy-2 · {CONFIGURATION} [reload]\n      -maxconn 5000\n      +maxconn 6000\n"
    ) in capsys.readouterr().err


def test_a_failed_command_ends_the_run(whole: Any, capsys: Capture, snapshot: SnapshotAssertion) -> None:
    for database in ("db-1", "db-2"):
        del whole.states[database, "container:patroni"]
    whole.fails("db-2", "container:patroni")
    capsys.readouterr()
    assert run(["apply-all"]) == 1
    assert said(capsys) == snapshot
    assert whole.states["db-1", "container:patroni"] == {"state": "running"}


def test_a_fix_without_effect_shows_what_it_ran_and_the_log(
    whole: Any, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    whole.states["db-2", "container:patroni"] = {"state": "restarting"}
    whole.does_nothing("db-2", "container:patroni")
    capsys.readouterr()
    assert run(["step", "patroni"]) == 1
    assert said(capsys) == snapshot


def test_an_unmet_requirement_stops_before_any_change(
    world: Any, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    for database in ("db-1", "db-3"):
        world.states[database, "require:disk"] = {"fit": False}
    before = dict(world.states)
    assert run(["apply-all"]) == 1
    assert said(capsys) == snapshot
    assert world.states == before


@pytest.mark.parametrize("command", [["apply-all"], ["step", "prepare"], ["step", "haproxy"], ["plan"]])
def test_a_host_that_is_away_does_not_hide_what_others_lack(
    world: Any, command: list[str], capsys: Capture
) -> None:
    for place in ("db-1", "db-3", "proxy-1"):
        world.states[place, "require:disk"] = {"fit": False}
    world.unreachable["db-3"] = AccessDenied("db-3", "sudo wants a password", hint="NOPASSWD")
    before = dict(world.states)
    assert run(command) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-5:] == [
        "error: db-3: sudo wants a password",
        "  besides, on the hosts that are connected:",
        "    db-1, proxy-1 · 01 prepare · require:disk",
        "      fit: False → True",
        "hint: NOPASSWD",
    ]
    assert world.states == before


def test_several_hosts_that_are_away_and_what_others_lack_are_one_error(world: Any, capsys: Capture) -> None:
    world.states["db-1", "require:disk"] = {"fit": False}
    for away in ("db-2", "db-3"):
        world.unreachable[away] = Unreachable(away, "no answer")
    assert run(["apply-all"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err if line.startswith("error:")] == ["error: 2 hosts cannot be used"]
    at = err.index("  db-3: no answer")
    assert err[at + 1 : at + 3] == [
        "  besides, on the hosts that are connected:",
        "    db-1 · 01 prepare · require:disk",
    ]


def test_a_host_that_is_away_alone_is_told_alone(world: Any, capsys: Capture) -> None:
    world.unreachable["db-3"] = Unreachable("db-3", "no answer")
    assert run(["apply-all"]) == 1
    assert "besides" not in capsys.readouterr().err


def test_a_step_alone_touches_nothing_else(whole: Any, capsys: Capture) -> None:
    del whole.states["proxy-1", CONFIGURATION]
    del whole.states["db-1", "container:patroni"]
    assert run(["step", "03"]) == 0
    assert ("proxy-1", CONFIGURATION) in whole.states
    assert ("db-1", "container:patroni") not in whole.states
    assert whole.opened[0]["doing"] == "step 03 haproxy"
    assert whole.opened[0]["credentials_exist"] is True


@pytest.mark.parametrize("which", ["3", "03", "haproxy"])
def test_a_step_has_three_names(whole: Any, which: str) -> None:
    assert run(["step", which]) == 0
    assert whole.opened[0]["doing"] == "step 03 haproxy"


def test_limit_keeps_other_hosts_as_they_are(world: Any) -> None:
    assert run(["apply-all", "--limit", "db-1,proxy-2"]) == 0
    touched = {place for place, name in world.states if name == "directory:/opt/keybuzz"}
    assert touched == {"db-1", "proxy-2"}


def test_apply_as_json(whole: Any, capsys: Capture) -> None:
    whole.states["proxy-1", CONFIGURATION] = {"max": 5000}
    capsys.readouterr()
    assert run(["--json", "apply-all"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["outcomes"] == [
        {
            "step": "03 haproxy",
            "place": "proxy-1",
            "resource": CONFIGURATION,
            "status": "changed",
            "impact": "reload",
            "lines": ["-maxconn 5000", "+maxconn 6000"],
        }
    ]
    assert document["counts"] == {"ok": 17, "changed": 1}
    assert document["steps"][0]["step"] == "00 credentials"
    assert document["failed"] is False
    assert "***" in document["uris"]["pooled"]


def test_a_failure_as_json(world: Any, capsys: Capture) -> None:
    world.fails("db-2", "container:patroni")
    assert run(["--json", "apply-all"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] is True
    failed = [outcome for outcome in document["outcomes"] if outcome["status"] == "failed"]
    assert [outcome["place"] for outcome in failed] == ["db-2"]
    assert failed[0]["lines"][-1] == "no space left on device"


def test_plan_lists_everything_and_touches_nothing(
    world: Any, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    before = dict(world.states)
    assert run(["plan"]) == 3
    captured = capsys.readouterr()
    assert captured.out == snapshot
    assert captured.err == ""
    assert world.states == before
    assert world.opened[0]["lock"] is False


def test_plan_of_a_whole_cluster(whole: Any, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(["plan"]) == 0
    assert capsys.readouterr().out == "plan: nothing would change, 18 ok\n"


def test_plan_says_what_is_not_known_and_what_is_not_met(
    whole: Any, capsys: Capture, snapshot: SnapshotAssertion
) -> None:
    whole.states["cluster", "probe:1 leader, 2 streaming"] = NotKnown("waits for a leader")
    whole.states["proxy-1", CONFIGURATION] = {"max": 5000}
    whole.states["proxy-2", CONFIGURATION] = {"max": 4000}
    capsys.readouterr()
    assert run(["plan"]) == 3
    assert capsys.readouterr().out == snapshot
    whole.states["db-1", "require:disk"] = {"fit": False}
    assert run(["plan"]) == 1
    assert capsys.readouterr().out == snapshot


def test_not_known_yet_counts_as_a_change(whole: Any) -> None:
    whole.states["cluster", "probe:1 leader, 2 streaming"] = NotKnown("waits for a leader")
    assert run(["plan"]) == 3


def test_plan_as_json(whole: Any, capsys: Capture) -> None:
    whole.states["proxy-1", CONFIGURATION] = {"max": 5000}
    capsys.readouterr()
    assert run(["plan", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["impact"] == "reload"
    assert document["ok"] == 17
    assert document["unmet"] == []
    assert [change["resource"] for change in document["changes"]] == [CONFIGURATION]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_password_in_the_log_of_a_container_that_fails_is_masked(
    whole: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    def evidence(self: Thing, site: Site) -> list[str]:
        return [f"ERROR: ALTER ROLE kb_app PASSWORD '{PASSWORD}-b'"]

    monkeypatch.setattr(Thing, "evidence", evidence)
    whole.states["db-2", "container:patroni"] = {"state": "restarting"}
    whole.does_nothing("db-2", "container:patroni")
    capsys.readouterr()
    assert run(["apply-all", *form]) == 1
    text = said(capsys)
    assert "PASSWORD '***'" in text
    assert PASSWORD not in text
