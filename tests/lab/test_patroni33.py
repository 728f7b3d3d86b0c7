"""The older Patroni, by choice."""

from __future__ import annotations

import pytest
from tests.lab.conftest import DB, Lab

pytestmark = [pytest.mark.lab, pytest.mark.faults]


def test_patroni_3_3_11_passes_the_same_run(bare: Lab) -> None:
    inventory = bare.edited(
        bare.directory / "patroni33.yaml", lambda s: s.update(versions={"patroni": "3.3.11"})
    )
    bare.apply(inventory, timeout=900)
    for host in DB:
        assert bare.rest(host)["patroni"]["version"] == "3.3.11"
    assert bare.rest(bare.leader())["role"] == "master"
    assert bare.one("haproxy-01", 6432, "select '[1,2,3]'::vector <-> '[1,2,4]'::vector") == 1
    assert bare.kbpg("switchover", inventory=inventory).code == 0
    bare.await_whole(60)
    assert bare.kbpg("plan", inventory=inventory).code == 0
    assert bare.kbpg("diagnose", inventory=inventory).code == 0
