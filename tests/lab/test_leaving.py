"""A proxy leaves the cluster, and what kbpg made there is removed by hand, as docs/operations.md says it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import PROXIES, Lab

pytestmark = [pytest.mark.lab, pytest.mark.faults]

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
MADE = """
docker ps -aq
docker images -q
ls -d /opt/keybuzz /etc/sysctl.d/60-kbpg.conf /etc/systemd/system/kbpg-firewall.service 2>/dev/null
nft list tables | grep kbpg
true
"""
"""Prints whatever of kbpg's is on a host."""


def commands(title: str) -> list[str]:
    """Return the lines of the first block of commands below a title of the runbook."""
    section = RUNBOOK.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    (block, *_) = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    return str(block).splitlines()


def test_a_proxy_leaves_and_comes_back(converged: Lab) -> None:
    staying, leaving = PROXIES
    managed = converged.edited(converged.directory / "managed.yaml", guarded)
    smaller = converged.edited(converged.directory / "smaller.yaml", lambda settings: left(settings, leaving))
    converged.apply(managed)
    assert "kbpg" in converged.sh(leaving, MADE)
    converged.apply(smaller)
    assert converged.kbpg("diagnose", inventory=smaller).code == 0
    for command in commands("A host left the cluster"):
        print(command, "->", converged.sh(leaving, f"{command} 2>&1", check=False).strip())
    assert converged.sh(leaving, MADE).strip() == ""
    assert converged.one(staying, 6432, "select 1") == 1
    converged.apply()
    assert converged.one(leaving, 6432, "select 1") == 1
    managed.unlink()
    smaller.unlink()


def guarded(settings: dict[str, Any]) -> None:
    settings["prepare"] = {**settings.get("prepare", {}), "firewall": "managed"}


def left(settings: dict[str, Any], leaving: str) -> None:
    guarded(settings)
    settings["proxies"] = [each for each in settings["proxies"] if each["name"] != leaving]
