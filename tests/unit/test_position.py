"""How far data reaches, from what pg_controldata and pg_waldump print, and which node is ahead."""

from __future__ import annotations

import pytest

from kbpg.operations.position import Position, most_advanced, parse

CONTROL = """\
pg_control version number:            1300
Database system identifier:           7711362834214387742
Database cluster state:               {state}
Latest checkpoint location:           {checkpoint}
Latest checkpoint's REDO WAL file:    000000020000000000000006
Latest checkpoint's TimeLineID:       {timeline}
Minimum recovery ending location:     {recovery}
Min recovery ending loc's timeline:   {recovery_timeline}
Bytes per WAL segment:                16777216
"""


def control(
    *,
    checkpoint: str = "0/6009CB0",
    timeline: int = 2,
    recovery: str = "0/0",
    recovery_timeline: int = 0,
    segments: str = "none none",
    dump: str = "",
) -> str:
    head = CONTROL.format(
        state="in archive recovery",
        checkpoint=checkpoint,
        timeline=timeline,
        recovery=recovery,
        recovery_timeline=recovery_timeline,
    )
    return f"{head}kbpg-segments {segments}\n{dump}"


ENDED = "pg_waldump: error: error in WAL record at 0/6412D78: invalid record length at 0/6412DB0: wanted 24, got 0\n"


def test_the_end_of_the_wal_counts_and_not_the_checkpoint() -> None:
    """A replica acknowledges what is on its disk, far beyond its last restart point."""
    segments = "000000020000000000000006 000000020000000000000007"
    assert parse(control(segments=segments, dump=ENDED)) == Position(2, 0x6412D78, "7711362834214387742")


def test_wal_of_a_newer_timeline_than_the_checkpoints() -> None:
    dump = "pg_waldump: error: error in WAL record at 0/7000028: invalid record length at 0/7000060\n"
    segments = "000000030000000000000006 000000030000000000000007"
    assert parse(control(segments=segments, dump=dump)) == Position(3, 0x7000028, "7711362834214387742")


def test_a_recovery_point_beyond_the_wal_that_is_left() -> None:
    found = parse(control(recovery="1/2000", recovery_timeline=2))
    assert (found.timeline, found.lsn) == (2, 0x100002000)


def test_segments_that_are_full_reach_to_the_end_of_the_last() -> None:
    found = parse(control(segments="000000020000000000000006 000000020000000100000007"))
    assert found.lsn == (1 << 32) + 8 * (16 << 20)


def test_segments_without_a_record_count_from_their_start() -> None:
    dump = "pg_waldump: error: could not find a valid record after 0/8000000\n"
    found = parse(control(segments="000000020000000000000008 000000020000000000000009", dump=dump))
    assert found.lsn == 8 * (16 << 20)


@pytest.mark.parametrize("text", ["", "no such directory\n", "kbpg-segments none none\n", CONTROL])
def test_half_an_answer_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="pg_controldata"):
        parse(text)


@pytest.mark.parametrize(
    ("positions", "chosen"),
    [
        ({"a": Position(1, 10), "b": Position(1, 11), "c": Position(1, 9)}, "b"),
        # The later timeline wins, however much was written on the one that was left behind
        ({"a": Position(1, 1 << 40), "b": Position(2, 5), "c": Position(1, 3)}, "b"),
        ({"a": Position(1, 10), "b": Position(1, 10)}, "a"),
        ({"a": "cannot be read", "b": Position(1, 0)}, "b"),
        ({"a": "cannot be read"}, None),
        ({}, None),
    ],
)
def test_the_most_advanced_node(positions: dict[str, Position | str], chosen: str | None) -> None:
    assert most_advanced(positions) == chosen


def test_a_position_reads_as_postgresql_writes_it() -> None:
    assert str(Position(3, 0x1_0700_51C0)) == "timeline 3, 1/70051C0"
