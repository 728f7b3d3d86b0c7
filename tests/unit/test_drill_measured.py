"""What drills measured, kept for the report of the next validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kbpg.cli.drills import _remember
from kbpg.console import Console
from kbpg.drills.attempt import Access, Attempt, Outcome
from kbpg.drills.catalogue import ALL
from kbpg.drills.measured import FILE, Measured, measured, recall, remember
from kbpg.drills.observer import Look
from kbpg.drills.run import Drilled
from kbpg.drills.tally import Row, compare
from kbpg.inventory import Inventory, parse
from kbpg.patroni import NodeFact

from .small_cluster import HOSTS

MINE, OTHER = "7711359422993199136", "7722222222222222222"
DRILLS = {drill.name: drill for drill in ALL}


def inventory(name: str = "kb", path: str = "i.yaml") -> Inventory:
    return parse(f"cluster: {{name: {name}}}\n{HOSTS}", path)


def look(at: float, role: str, identifier: str | None) -> Look:
    """What one node said of itself."""
    body = {"state": "running", "role": role, "database_system_identifier": identifier}
    return Look(at, "db-1", NodeFact(8008).parse(200, body))


LED = (look(9.0, "primary", MINE),)


def drilled(
    name: str,
    gap: float,
    *,
    day: int = 1,
    lost: int = 0,
    whole: bool = True,
    counted: bool = True,
    looks: Sequence[Look] = LED,
) -> Drilled:
    """A drill whose only client of 6432 waited so long, and whose last rows are not there."""
    ends = [9.0, 9.9, 9.9 + gap, 10.0 + gap]
    attempts = [
        Attempt(client=1, first=n, rows=1, begun=e, ended=e, outcome=Outcome.ACKNOWLEDGED, at=e, timeline=1)
        for n, e in enumerate(ends, 1)
    ]
    rows = [Row(1, n, 1) for n in range(1, len(ends) + 1 - lost)]
    return Drilled(
        DRILLS[name],
        "db-1",
        datetime(2026, 11, day, 10, tzinfo=UTC),
        fault_at=10.0,
        seconds=ends[-1],
        attempts={Access.POOLED: attempts},
        looks=list(looks),
        tally=compare(attempts, rows) if counted else None,
        whole=whole,
    )


def test_the_worst_of_a_drill_s_runs_and_all_rows_that_were_lost() -> None:
    done = [
        drilled("leader-poweroff", 20.0, day=2),
        drilled("switchover", 2.4),
        drilled("leader-poweroff", 22.5, day=3, lost=2),
    ]
    assert measured(done) == [
        Measured("leader-poweroff", 22.5, 2, "2026-11-03T10:00:00Z", 2),
        Measured("switchover", 2.4, 0, "2026-11-01T10:00:00Z", 1),
    ]


def test_a_drill_that_left_the_cluster_broken_measured_nothing() -> None:
    broken = drilled("leader-poweroff", 60.0, whole=False)
    uncounted = drilled("switchover", 2.0, counted=False)
    unpredicted = drilled("all-hosts-reboot", 30.0)
    assert measured([broken, uncounted, unpredicted]) == []


SWITCHED = Measured("switchover", 2.4, 0, "2026-11-01T10:00:00Z", 1)
POWER = Measured("leader-poweroff", 22.5, 0, "2026-11-03T10:00:00Z", 2)


def test_what_was_measured_last_is_recalled_by_fault(tmp_path: Path) -> None:
    state = tmp_path / ".kbpg"
    remember(state, inventory(), MINE, [SWITCHED, POWER])
    again = Measured("switchover", 1.9, 0, "2026-11-05T10:00:00Z", 1)
    remember(state, inventory(), MINE, [again])
    assert recall(state, inventory(), MINE) == {"switchover": again, "leader-power-cut": POWER}
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in state.iterdir()] == [FILE]


def test_of_two_drills_with_the_same_fault_the_catalogue_s_first_is_shown(tmp_path: Path) -> None:
    rolling = Measured("rolling-restart", 3.0, 0, "2026-11-09T10:00:00Z", 1)
    remember(tmp_path, inventory(), MINE, [rolling, SWITCHED])
    assert recall(tmp_path, inventory(), MINE) == {"switchover": SWITCHED}


def test_another_cluster_s_drills_are_not_this_one_s(tmp_path: Path) -> None:
    remember(tmp_path, inventory(), MINE, [SWITCHED])
    assert recall(tmp_path, inventory("other"), MINE) == {}
    assert recall(tmp_path, inventory(path="second.yaml"), MINE) == {}
    remember(tmp_path, inventory("second", "second.yaml"), OTHER, [POWER])
    assert recall(tmp_path, inventory(), MINE) == {"switchover": SWITCHED}
    # the inventory's file is another cluster's now
    remember(tmp_path, inventory("other"), OTHER, [POWER])
    assert recall(tmp_path, inventory("other"), OTHER) == {"leader-power-cut": POWER}


def test_a_cluster_that_was_built_anew_under_the_same_name_is_another_one(tmp_path: Path) -> None:
    remember(tmp_path, inventory(), MINE, [SWITCHED, POWER])
    assert recall(tmp_path, inventory(), OTHER) == {}
    again = Measured("switchover", 1.9, 0, "2026-11-05T10:00:00Z", 1)
    remember(tmp_path, inventory(), OTHER, [again])
    assert recall(tmp_path, inventory(), OTHER) == {"switchover": again}
    assert recall(tmp_path, inventory(), MINE) == {}


@pytest.mark.parametrize("kept", [MINE, ""])
def test_where_nobody_tells_which_cluster_it_is_nothing_is_shown(kept: str, tmp_path: Path) -> None:
    remember(tmp_path, inventory(), kept, [SWITCHED])
    assert recall(tmp_path, inventory(), "") == {}


def test_what_was_kept_without_an_identifier_does_not_count(tmp_path: Path) -> None:
    remember(tmp_path, inventory(), MINE, [SWITCHED])
    document = json.loads((tmp_path / FILE).read_text())
    assert document["i.yaml"].pop("system_identifier") == MINE
    (tmp_path / FILE).write_text(json.dumps(document))
    assert recall(tmp_path, inventory(), MINE) == {}
    remember(tmp_path, inventory(), MINE, [POWER])
    assert recall(tmp_path, inventory(), MINE) == {"leader-power-cut": POWER}


@pytest.mark.parametrize(
    ("looks", "identifier"),
    [
        ((), ""),
        ((Look(1.0, "db-1", None),), ""),
        ((look(1.0, "replica", OTHER),), ""),
        ((look(1.0, "primary", MINE), look(2.0, "replica", OTHER), Look(3.0, "db-1", None)), MINE),
        ((look(1.0, "primary", MINE), look(2.0, "primary", None)), MINE),
    ],
)
def test_which_cluster_was_drilled_is_its_leader_s_word(looks: tuple[Look, ...], identifier: str) -> None:
    assert drilled("switchover", 2.4, looks=looks).system_identifier == identifier


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"i.yaml": []}', '{"i.yaml": {"cluster": "kb"}}'])
def test_a_file_that_is_none_is_no_measurement_and_written_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    assert recall(tmp_path, inventory(), MINE) == {}
    remember(tmp_path, inventory(), MINE, [SWITCHED])
    assert recall(tmp_path, inventory(), MINE) == {"switchover": SWITCHED}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seconds", "soon"),
        ("seconds", -1),
        ("seconds", float("nan")),
        ("seconds", None),
        ("lost", "no"),
        ("lost", float("inf")),
        ("runs", 0),
        ("when", "yesterday"),
        ("when", 7),
        ("when", "2026-11-01T10:00:00"),
        ("drill", "unheard-of"),
    ],
)
def test_a_measurement_that_is_none_is_left_out(key: str, value: object, tmp_path: Path) -> None:
    remember(tmp_path, inventory(), MINE, [SWITCHED, POWER])
    document = json.loads((tmp_path / FILE).read_text())
    document["i.yaml"]["drills"][0][key] = value
    (tmp_path / FILE).write_text(json.dumps(document))
    assert recall(tmp_path, inventory(), MINE) == {"leader-power-cut": POWER}


def test_what_a_command_measured_is_kept_with_the_cluster_it_drilled(tmp_path: Path) -> None:
    with Console(color=False, mask=str) as console:
        _remember(
            console, tmp_path, inventory(), [drilled("switchover", 2.4), drilled("disk-full", 9.0, looks=())]
        )
        assert recall(tmp_path, inventory(), MINE) == {"switchover": SWITCHED}
        kept = (tmp_path / FILE).read_bytes()
        _remember(console, tmp_path, inventory(), [drilled("switchover", 1.9, looks=())])
    assert (tmp_path / FILE).read_bytes() == kept


def test_what_cannot_be_kept_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with Console(color=False, mask=str) as console:
        _remember(console, tmp_path / "file", inventory(), [drilled("switchover", 2.4)])
    assert "measured.json: not kept for kbpg validate" in capsys.readouterr().err
