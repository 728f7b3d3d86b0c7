"""Predicted recovery times against what was measured by hand, and the promise about acknowledged commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbpg.inventory import Inventory, load
from kbpg.prediction import LEADERS, Fault, data_loss, recovery_times

HOSTS = """\
db:
  - {name: a, address: 192.0.2.1}
  - {name: b, address: 192.0.2.2}
  - {name: c, address: 192.0.2.3}
proxies:
  - {name: p, address: 192.0.2.11}
"""
SLOW = "timers: {ttl: 30, loop_wait: 10, retry_timeout: 10, primary_start_timeout: 0}\n"


def inventory(directory: Path, more: str = "", cluster: str = "name: test") -> Inventory:
    path = directory / "inventory.yaml"
    path.write_text(f"cluster: {{{cluster}}}\n{more}{HOSTS}")
    return load(path)


# Longest gap between two acknowledged writes, one client through PgBouncer and HAProxy
QUICK = {
    Fault.CRASH: (2.2,),
    Fault.POWER: (21.0, 23.0),
    Fault.NETWORK: (22.0,),
    Fault.SWITCHOVER: (2.2, 3.4, 6.2),
}
DEFAULTS = {Fault.CRASH: (7.6,), Fault.POWER: (29.0,), Fault.NETWORK: (27.8,), Fault.SWITCHOVER: (16.1,)}


@pytest.mark.parametrize(("timers", "measured"), [("", QUICK), (SLOW, DEFAULTS)], ids=["20/2/5", "30/10/10"])
def test_what_was_measured_lies_within_the_prediction(
    tmp_path: Path, timers: str, measured: dict[Fault, tuple[float, ...]]
) -> None:
    found = {recovery.fault: recovery for recovery in recovery_times(inventory(tmp_path, timers))}
    assert set(found) == set(LEADERS)
    for fault, gaps in measured.items():
        for gap in gaps:
            assert found[fault].low <= gap <= found[fault].high, (fault, gap, found[fault].formula)


def test_a_power_cut_costs_the_ttl_and_what_follows(tmp_path: Path) -> None:
    power = next(r for r in recovery_times(inventory(tmp_path)) if r.fault is Fault.POWER)
    # ttl 20, loop_wait 2; election 0.1 to 2.5; promotion 0.2 to 1; HAProxy 500 ms + 250 ms, PgBouncer 0.6 s
    assert power.low == pytest.approx(18 + 0.1 + 0.2 + 0.25)
    assert power.high == pytest.approx(20 + 2.5 + 1 + 0.5 + 0.25 + 0.6)
    assert power.range == "18–25 s"
    assert power.formula.startswith("the lock expires 18–20 s + ")


def test_slower_health_checks_are_counted(tmp_path: Path) -> None:
    slow = "haproxy: {check_interval: 3000, check_fast_interval: 1000, check_rise: 3}\n"
    quick = recovery_times(inventory(tmp_path))
    late = recovery_times(inventory(tmp_path, slow))
    for a, b in zip(quick, late, strict=True):
        assert b.high - a.high == pytest.approx(3.0 + 2 * 1.0 - 0.75)


def test_a_crashed_leader_may_first_start_again(tmp_path: Path) -> None:
    patient = inventory(tmp_path, "timers: {primary_start_timeout: 300}\n")
    crash = next(r for r in recovery_times(patient) if r.fault is Fault.CRASH)
    assert crash.high > 300
    assert crash.low < 1


@pytest.mark.parametrize(
    ("mode", "replicas", "lost", "words"),
    [
        ("quorum", None, 0, "no acknowledged commit"),
        ("quorum", 2, 0, "no acknowledged commit"),
        ("quorum", 0, None, "not 0 now"),
        ("strict", 0, 0, "writes stop"),
        ("off", 0, None, "1048576 bytes"),
    ],
)
def test_what_a_failover_may_lose(
    tmp_path: Path, mode: str, replicas: int | None, lost: int | None, words: str
) -> None:
    loss = data_loss(inventory(tmp_path, cluster=f"name: test, synchronous: '{mode}'"), replicas)
    assert loss.bytes == lost
    assert words in loss.text


def test_the_document_says_what_is_not_measured(tmp_path: Path) -> None:
    first = recovery_times(inventory(tmp_path))[0]
    assert first.document()["measured_seconds"] is None
    assert first.document(2.2)["measured_seconds"] == 2.2
