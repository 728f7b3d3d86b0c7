"""Which drills may be run on which hosts, in which order, and the note of what they break."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import islice
from pathlib import Path

import pytest
from tests.unit.small_cluster import context

from kbpg.drills import catalogue, disk, network, note, ordering, power, processes
from kbpg.drills.ordering import Order, allowed, sequence
from kbpg.drills.undo import TEXTS, Kind, Undo
from kbpg.errors import LockHeld, UsageError
from kbpg.inventory import Inventory
from kbpg.operations import patroni_process

POWER = 'drills: {power_off: [virsh, destroy, "{host}"], power_on: [virsh, start, "{host}-{address}"]}\n'


def inventory(settings: str = "") -> Inventory:
    return context(settings).inventory


@pytest.fixture
def no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "of_a_lab", lambda inventory: False)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "of_a_lab", lambda inventory: True)


@pytest.mark.usefixtures("no_lab")
@pytest.mark.parametrize("said", ["", "other", "KB"])
def test_hosts_that_are_no_labs_are_left_alone_without_the_clusters_name(said: str) -> None:
    with pytest.raises(UsageError, match="is not a lab's") as caught:
        allowed(Order(("switchover",)), inventory(), said)
    assert "--i-mean-it kb" in str(caught.value.hint)


@pytest.mark.usefixtures("no_lab")
def test_a_drill_that_needs_power_needs_commands_for_it() -> None:
    with pytest.raises(UsageError, match="leader-poweroff: it switches hosts off"):
        allowed(Order(("leader-poweroff",)), inventory(), "kb")
    (drill,) = allowed(Order(("leader-poweroff",)), inventory(POWER), "kb")
    assert drill.name == "leader-poweroff"
    off, on = power.commands(inventory(POWER), "db-2", lab=False)
    assert off == ["virsh", "destroy", "db-2"]
    assert on == ["virsh", "start", "db-2-192.0.2.2"]


@pytest.mark.usefixtures("no_lab")
def test_what_is_for_a_lab_only_is_refused_elsewhere_and_left_out_of_all() -> None:
    with pytest.raises(UsageError, match="disk-full: only on the hosts of a lab"):
        allowed(Order(("disk-full",)), inventory(POWER), "kb")
    names = [drill.name for drill in allowed(Order(("all",)), inventory(), "kb")]
    assert "disk-full" not in names
    assert "leader-poweroff" not in names
    assert "leader-partition" in names


@pytest.mark.usefixtures("lab")
def test_a_lab_may_be_broken_in_every_way() -> None:
    assert allowed(Order(("all",)), inventory(), "") == catalogue.ALL
    with pytest.raises(UsageError, match="no drill earthquake"):
        allowed(Order(("earthquake",)), inventory(), "")


def test_a_seed_is_an_order() -> None:
    def first(seed: int) -> list[str]:
        return [drill.name for drill in islice(sequence(Order(("random",), seed=seed), catalogue.ALL), 12)]

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_each_so_often() -> None:
    drills = catalogue.ALL[:2]
    assert list(sequence(Order(("all",), times=3), drills)) == [*drills] * 3


def test_all_drills_have_names_of_their_own_and_can_be_taken_back() -> None:
    names = [drill.name for drill in catalogue.ALL]
    assert len(set(names)) == len(names)
    assert not {ordering.EVERYTHING, catalogue.RANDOM} & set(names)
    assert set(TEXTS) == set(Kind)
    for drill in catalogue.ALL:
        acts = drill.undo(context(), "db-1")
        assert bool(acts) is not drill.planned, drill.name


# --- the note ----------------------------------------------------------------------------------------------

BROKEN = note.Note("leader-poweroff", "db-1", (Undo(Kind.POWER_ON, "db-1"), Undo(Kind.DATABASE)))


def test_a_note_is_read_back_once_its_drill_is_gone(tmp_path: Path) -> None:
    assert note.left(tmp_path) is None
    with note.under_way(tmp_path):
        note.write(tmp_path, BROKEN)
        assert note.left(tmp_path) is None
        with pytest.raises(LockHeld, match="under way"), note.under_way(tmp_path):
            pytest.fail("two at once")
    assert note.left(tmp_path) == BROKEN
    assert (tmp_path / note.FILE).stat().st_mode & 0o777 == 0o600
    note.forget(tmp_path)
    assert note.left(tmp_path) is None


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    note.write(tmp_path, BROKEN)
    child = os.fork()
    if child == 0:
        with note.under_way(tmp_path):
            os._exit(0)
    os.waitpid(child, 0)
    assert note.left(tmp_path) == BROKEN


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"drill": 1}', json.dumps({"drill": "a", "target": "b", "undo": [{"kind": "x"}]})],
)
def test_a_note_that_is_none_is_no_drill(tmp_path: Path, text: str) -> None:
    (tmp_path / note.FILE).write_text(text)
    assert note.left(tmp_path) is None


@pytest.mark.parametrize(
    "script",
    [
        network._CUT, network._REJOIN, disk._SMALL, disk._FILL, disk._ROOM, disk._LARGE,
        patroni_process.FREEZE, patroni_process.CONTINUE, patroni_process.CRASH, processes._POSTMASTER,
    ],
)  # fmt: skip
def test_the_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
