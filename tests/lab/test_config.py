"""Settings changed on the live cluster: refused, in force, or brought back; the inventory's text stays somebody's."""

from __future__ import annotations

import difflib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, PROXIES, Lab, killed_at_end
from tests.lab.faults import psql

pytestmark = pytest.mark.lab


@pytest.fixture
def inventory(converged: Lab) -> Iterator[Path]:
    """A copy of the lab's inventory, comments and all, that a test may let kbpg change."""
    path = converged.directory / "config-test.yaml"
    path.write_bytes(converged.inventory.read_bytes())
    yield path
    path.unlink()


def lines_changed(lab: Lab, path: Path) -> list[str]:
    """Return the lines by which the copy differs from the lab's inventory."""
    before, after = lab.inventory.read_text().splitlines(), path.read_text().splitlines()
    return [line for line in difflib.ndiff(before, after) if line[0] in "+-"]


def everywhere(lab: Lab, name: str) -> set[str]:
    return {psql(lab, host, f"show {name}") for host in DB}


def configuration(lab: Lab) -> dict[str, Any]:
    return lab.rest(lab.leader(), "/config")


def settled(lab: Lab, inventory: Path) -> None:
    """Inventory and cluster agree: nothing waits for a restart, and nothing is left for apply-all."""
    lab.await_whole(30)
    assert {host: lab.rest(host).get("pending_restart", False) for host in DB} == dict.fromkeys(DB, False)
    shown = lab.kbpg("config", "show", inventory=inventory)
    assert shown.code == 0, shown.everything
    planned = lab.kbpg("plan", inventory=inventory)
    assert planned.code == 0, planned.everything


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["work_mem=64QB"], 'work_mem: invalid value for parameter "work_mem": "64QB"; valid units'),
        (["maintenance_work_mem=1"], "maintenance_work_mem: 1 kB is outside the valid range"),
        (["jit=perhaps"], 'jit: parameter "jit" requires a Boolean value'),
        (["timezone=Europe/Pariss"], 'timezone: invalid value for parameter "TimeZone"'),
        (
            ["work_memm=4MB"],
            "work_memm: neither PostgreSQL nor Patroni has a setting of this name, did you mean work_mem?",
        ),
        (["wal_segment_size=1MB"], "wal_segment_size: it is fixed when PostgreSQL is built"),
        (["auto_explain.log_min_duration=1s"], "load its library first"),
        (["shared_preload_libraries=pg_stat_statements,nope"], "there is no library nope in "),
        (["shared_buffers=900GB"], "shared_buffers: 921600 MB is more than the "),
        (["work_mem=1MB", "fsync=off"], "fsync: cannot be set here"),
        (["ttl=20", "loop_wait=11"], "timers.ttl: Patroni wants loop_wait + 2 * retry_timeout <= ttl"),
        (["loop_wait=14", "retry_timeout=3"], "timers.ttl: wanted 2 * (loop_wait + 4) or more, got 20"),
    ],
)
def test_a_mistake_touches_nothing(converged: Lab, inventory: Path, arguments: list[str], why: str) -> None:
    before = configuration(converged)
    ran = converged.kbpg("config", "set", *arguments, inventory=inventory)
    assert ran.code == 2, ran.everything
    assert why in ran.err
    assert ran.out == ""
    assert inventory.read_bytes() == converged.inventory.read_bytes()
    assert configuration(converged) == before


def test_settings_that_need_a_reload_and_the_way_back(converged: Lab, inventory: Path) -> None:
    lab = converged
    started = lab.started()
    ran = lab.kbpg("config", "set", "work_mem=16MB", "ttl=25", inventory=inventory)
    assert ran.code == 0, ran.everything
    assert "inventory and cluster agree: apply-all would change nothing" in ran.out
    assert everywhere(lab, "work_mem") == {"16MB"}
    assert configuration(lab)["ttl"] == 25
    assert set(lines_changed(lab, inventory)) == {
        "+   parameters:",
        "+     work_mem: 16MB",
        "+ timers:",
        "+   ttl: 25",
    }
    settled(lab, inventory)
    back = lab.kbpg("config", "set", "--unset", "work_mem", "--unset", "ttl", "--json", inventory=inventory)
    assert back.code == 0, back.everything
    document = json.loads(back.out)
    assert document["settings"] == {"work_mem": None, "ttl": None}
    assert document["left"] == document["problems"] == []
    assert everywhere(lab, "work_mem") == {"4MB"}
    assert configuration(lab)["ttl"] == 20
    settled(lab, inventory)
    assert lab.started() == started


def test_a_preset_reaches_patroni_and_the_proxies(converged: Lab, inventory: Path) -> None:
    lab = converged
    started = lab.started()
    checks = "grep -c 'inter 1000ms fastinter 200ms downinter 500ms fall 6 rise 2' /opt/keybuzz/haproxy/haproxy.cfg"
    waits = "grep query_wait_timeout /opt/keybuzz/pgbouncer/pgbouncer.ini"
    ran = lab.kbpg("config", "set", "failover=balanced", inventory=inventory)
    assert ran.code == 0, ran.everything
    assert [configuration(lab)[key] for key in ("ttl", "loop_wait", "retry_timeout")] == [30, 5, 10]
    assert set(lab.everywhere(checks, PROXIES).values()) == {"2\n"}
    assert set(lab.everywhere(waits, PROXIES).values()) == {"query_wait_timeout = 90\n"}
    assert lines_changed(lab, inventory) == ["+ failover: balanced"]
    settled(lab, inventory)
    back = lab.kbpg("config", "set", "--unset", "failover", inventory=inventory)
    assert back.code == 0, back.everything
    assert configuration(lab)["ttl"] == 20
    settled(lab, inventory)
    assert lab.started() == started


def test_what_was_changed_by_hand_is_shown_and_brought_back(converged: Lab, inventory: Path) -> None:
    lab = converged
    edit = """docker exec patroni patronictl -c /etc/patroni edit-config --force -p work_mem=9MB"""
    lab.sh(lab.leader(), edit)
    lab.until(lambda: everywhere(lab, "work_mem") == {"9MB"}, 15, "the change by hand is in force")
    shown = lab.kbpg("config", "show", "--json", inventory=inventory)
    assert shown.code == 3, shown.everything
    document = json.loads(shown.out)
    differing = {s["key"]: (s["cluster"], s["inventory"]) for s in document["settings"] if s["differs"]}
    assert differing == {"postgresql.parameters.work_mem": ("9MB", "4MB")}
    ran = lab.kbpg("config", "set", "jit=on", inventory=inventory)
    assert ran.code == 0, ran.everything
    assert everywhere(lab, "work_mem") == {"4MB"}
    assert everywhere(lab, "jit") == {"on"}
    settled(lab, inventory)


def test_an_override_past_patroni_is_said(converged: Lab, inventory: Path) -> None:
    lab = converged
    host = next(host for host in DB if host != lab.leader())
    psql(lab, host, "alter system set jit = 'off'; select pg_reload_conf()")
    try:
        ran = lab.kbpg("config", "set", "jit=on", inventory=inventory)
        assert ran.code == 1, ran.everything
        assert f"not in force on {host}: jit is off: ALTER SYSTEM has set it" in ran.out
    finally:
        psql(lab, host, "alter system reset jit; select pg_reload_conf()")
    assert lab.kbpg("config", "set", "jit=on", inventory=inventory).code == 0


def test_a_setting_that_no_node_starts_with_is_brought_back(converged: Lab, inventory: Path) -> None:
    """No huge pages are set aside here, so PostgreSQL refuses to start; no reading of pg_settings could tell.

    The leader may change on the way back: PostgreSQL goes on saying that a restart is pending after a parameter that
    was never in force has left the file again (guc-file.l clears the mark for parameters in the file only).
    """
    lab = converged
    lab.await_whole(30)
    ran = lab.kbpg("config", "set", "huge_pages=on", inventory=inventory, timeout=500)
    assert ran.code == 1, ran.everything
    assert "is as it was, and the cluster was brought back to it" in ran.err
    assert inventory.read_bytes() == lab.inventory.read_bytes()
    assert "huge_pages" not in configuration(lab)["postgresql"]["parameters"]
    assert everywhere(lab, "huge_pages") == {"try"}
    settled(lab, inventory)


def test_a_paused_cluster_is_left_alone(converged: Lab, inventory: Path) -> None:
    lab = converged
    lab.sh(lab.leader(), "docker exec patroni patronictl -c /etc/patroni pause --wait")
    try:
        ran = lab.kbpg("config", "set", "jit=on", inventory=inventory)
        assert ran.code == 1, ran.everything
        assert "Patroni is paused" in ran.err
        assert "nothing was changed" in ran.err
        assert inventory.read_bytes() == lab.inventory.read_bytes()
    finally:
        lab.sh(lab.leader(), "docker exec patroni patronictl -c /etc/patroni resume --wait")


def test_a_command_that_is_killed_is_finished_by_apply_all(converged: Lab, inventory: Path) -> None:
    lab = converged
    lab.await_whole(60)
    with killed_at_end(lab.start("config", "set", "max_connections=400", inventory=inventory)) as running:
        lab.until(lambda: "max_connections: 400" in inventory.read_text(), 30, "the inventory is written")
        running.kill()
        assert running.wait(10) == -signal.SIGKILL
    lab.apply(inventory)
    assert everywhere(lab, "max_connections") == {"400"}
    settled(lab, inventory)


def test_a_replica_alone_cannot_shrink_and_says_why(converged: Lab, inventory: Path) -> None:
    """Comes after the test above, whose larger max_connections is still in force."""
    lab = converged
    assert everywhere(lab, "max_connections") == {"400"}
    replica = next(host for host in DB if host != lab.leader())
    inventory.write_text(
        inventory.read_text().replace("postgresql:\n", "postgresql:\n  max_connections: 360\n", 1)
    )
    ran = lab.kbpg("apply-all", "--limit", replica, inventory=inventory)
    assert ran.code == 1, ran.everything
    assert (
        "hint: max_connections shrinks, and a replica keeps the leader's until that was restarted" in ran.err
    )
    lab.apply(inventory)
    assert everywhere(lab, "max_connections") == {"360"}
    settled(lab, inventory)
