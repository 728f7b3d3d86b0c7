"""Parameters that only a restart changes, up and down: in force on every node, and nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.lab.conftest import DB, Lab

pytestmark = pytest.mark.lab

SHOW = "docker exec -u 999 patroni psql -h /var/run/postgresql -U kb_admin -d postgres -Atc 'show max_connections'"
LARGER, SMALLER = 350, 340
"""The lab's inventory comes to 330."""


@pytest.fixture(scope="module")
def converged(lab: Lab) -> Iterator[Lab]:
    """A cluster as the inventory wants it, before and after."""
    lab.apply()
    yield lab
    lab.apply()
    settled(lab, None)


def settled(lab: Lab, connections: int | None) -> None:
    """All nodes run with the same max_connections (this one), none waits for a restart, both replicas stream."""
    lab.await_whole(30)
    assert {host: lab.rest(host).get("pending_restart", False) for host in DB} == dict.fromkeys(DB, False)
    found = {host: int(value) for host, value in lab.everywhere(SHOW, DB).items()}
    assert len(set(found.values())) == 1, found
    assert connections in (None, found[DB[0]])


def test_max_connections_up_and_down(converged: Lab) -> None:
    lab = converged
    for number, wanted, impact, stays in ((1, LARGER, "switchover", False), (2, SMALLER, "restart", True)):

        def connections(settings: dict[str, Any], wanted: int = wanted) -> None:
            settings.setdefault("postgresql", {})["max_connections"] = wanted

        inventory = lab.edited(lab.directory / f"restarts-{number}.yaml", connections)
        try:
            before = lab.leader()
            planned = lab.kbpg("plan", inventory=inventory)
            assert planned.code == 3, planned.everything
            assert f"patroni:config [{impact}]" in planned.out
            lab.apply(inventory)
            settled(lab, wanted)
            assert (lab.leader() == before) is stays
            after = lab.kbpg("plan", inventory=inventory)
            assert after.code == 0, after.everything
            assert "nothing would change" in after.out
        finally:
            inventory.unlink()
