"""What is shown before a failover, and after a pause."""

from __future__ import annotations

from dataclasses import replace

from kbpg.cli.maintaining import _pause_lines, losses, positions
from kbpg.console import plain
from kbpg.operations import pausing
from kbpg.operations.position import Position

from .test_leaderless import GONE, REPLICA, SEEN


def test_all_that_reach_farthest_are_marked() -> None:
    assert plain(positions(SEEN)) == (
        "how far the data reaches\n"
        f"  db-1  timeline 4, 0/1F4, the most advanced; {GONE}\n"
        "  db-2  timeline 4, 0/1F4, the most advanced; replica, running\n"
        "  db-3  timeline 4, 0/190; replica, running\n"
    )


def test_without_any_position_none_is_marked() -> None:
    unread = replace(SEEN, positions=dict.fromkeys(SEEN.positions, "cannot be reached"))
    assert "most advanced" not in plain(positions(unread))


def test_what_is_lost_comes_first() -> None:
    away = replace(
        SEEN, positions={**SEEN.positions, "db-1": "cannot be reached", "db-2": Position(4, 300, "7")}
    )
    assert plain(losses(away, "off")) == (
        "lost: db-3 has 100 bytes of WAL that db-2 does not have\n"
        "not known: db-1: cannot be reached: what only it has is lost\n"
    )


def test_nothing_lost_is_said_and_so_is_the_easier_way() -> None:
    paused = replace(SEEN, nodes={**SEEN.nodes, "db-3": replace(REPLICA, paused=True)})
    assert plain(losses(paused, "quorum")) == (
        "nothing is lost: no node's data reaches farther than that of db-2\n"
        "Patroni is paused: after kbpg resume a replica takes over by itself\n"
    )


def test_a_pause_names_who_said_so_and_who_did_not() -> None:
    seen = pausing.Seen(True, False, ("db-1", "db-2"), {"db-3": "db-3: no answer"})
    assert plain(_pause_lines(seen)) == (
        "already paused, on db-1, db-2\n"
        "not seen on db-3: no answer\n"
        "nobody takes over when the leader fails, until: kbpg resume\n"
    )
    assert plain(_pause_lines(pausing.Seen(False, True, ("db-1",), {}))) == "not paused, on db-1\n"
