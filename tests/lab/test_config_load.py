"""Settings that only a restart changes, set while twenty clients write through both PgBouncers: they only wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.conftest import DB, Lab
from tests.lab.faults import psql
from tests.lab.load import Load

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def inventory(converged: Lab) -> Iterator[Path]:
    """A copy of the lab's inventory that kbpg may change."""
    path = converged.directory / "config-load.yaml"
    path.write_bytes(converged.inventory.read_bytes())
    yield path
    path.unlink()


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("shared_buffers=320MB", marks=pytest.mark.faults),
        "max_connections=400",
        pytest.param("max_connections=360", marks=pytest.mark.faults),
        pytest.param("shared_buffers=256MB", marks=pytest.mark.faults),
    ],
)
def test_clients_wait_and_see_no_error(converged: Lab, inventory: Path, load: Load, setting: str) -> None:
    lab = converged
    lab.await_whole(60)
    load.reset()
    ran = lab.kbpg("config", "set", setting, inventory=inventory)
    load.go_on_for(1)
    seen = load.stop()
    print(f"{setting}: {ran.seconds:.1f} s, {seen}")
    assert ran.code == 0, ran.everything
    assert "inventory and cluster agree: apply-all would change nothing" in ran.out
    name, _, value = setting.partition("=")
    assert {psql(lab, host, f"show {name}") for host in DB} == {value}
    assert not [host for host in DB if lab.rest(host).get("pending_restart")]
    assert not seen.errors, seen
    assert seen.lost == 0
