"""The timeline of a drill: its labels lie apart, the outage is where it was, everything is inside."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from kbpg.report.drill_chart import TALL, WIDE, Chart, Frame, chart, charts
from kbpg.report.drill_labels import MOST, Label, Mark, place
from kbpg.report.drill_panels import nice
from kbpg.report.drill_series import Bin, bins, coarser, longest_gap, outage

from .drill_document import broken, crash, drill, idle, nothing, poweroff, proxy, sequence, series, switchover

ALL = [poweroff(), crash(), switchover(), proxy(), broken(), idle(), sequence()]


def texts(drawn: Chart, kind: str) -> list[str]:
    """Return the texts of a kind as they are read."""
    return ["".join(words for words, _ in text.parts) for text in drawn.texts if kind in text.kind.split()]


def shape(drawn: Chart, kind: str) -> str:
    """Return the data of the first path of that kind."""
    return next(each.path for each in drawn.shapes if kind in each.kind.split())


# --- the whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [WIDE, TALL], ids=lambda frame: frame.name)
@pytest.mark.parametrize("found", ALL, ids=lambda found: found["name"])
def test_everything_lies_inside(found: dict[str, Any], frame: Frame) -> None:
    drawn = chart(found, frame)
    assert drawn.height <= (300 if frame is WIDE else 420)
    for each in drawn.shapes:
        assert "nan" not in each.path
        for x in re.findall(r"[MHL](-?[\d.]+)", each.path):
            assert 0 <= float(x) <= frame.width
        for y in re.findall(r"(?:V|[ML][\d.]+ )(-?[\d.]+)", each.path):
            assert 0 <= float(y) <= drawn.height
    for text in drawn.texts:
        assert 0 <= text.x <= frame.width
        assert 0 < text.y <= drawn.height


def test_the_parts_of_a_power_cut() -> None:
    drawn = chart(poweroff(), WIDE)
    assert texts(drawn, "outage") == ["21.3 s without a write"]
    assert texts(drawn, "label") == [
        *("fault", "noticed +18.9 s", "new leader +20.0 s", "writes again +21.3 s", "mended +30.0 s"),
        "redundant +46.0 s",
    ]
    assert texts(drawn, "name") == [
        "Writes, pooled",
        "Writes were due",
        "Time per write",
        "Writes, direct",
        "Reads",
    ]
    assert texts(drawn, "note") == ["predicted 18.3–26.5 s, goal 23 s"]
    assert texts(drawn, "tick")[-6:] == ["0 s", "+10 s", "+20 s", "+30 s", "+40 s", "+50 s"]
    assert [each.kind for each in drawn.shapes].count("failed") == 3
    assert drawn.description.startswith("Writes, pooled: longest wait 21.3 s, 3 errors. Writes, direct:")
    assert "+21.3 s writes again: first acknowledged write." in drawn.description


def test_the_outage_begins_at_the_fault_and_ends_with_the_first_write() -> None:
    drawn = chart(poweroff(), WIDE)
    begin, end = (float(x) for x in re.findall(r"[MH]([\d.]+)", shape(drawn, "away"))[:2])
    fault, again = (float(re.findall(r"M([\d.]+)", shape(drawn, kind))[0]) for kind in ("fault", "recovered"))
    assert abs(begin - fault) < 4
    assert abs(end - again) < 4


def test_writes_that_never_come_back_are_shaded_to_the_end() -> None:
    drawn = chart(broken(), WIDE)
    assert texts(drawn, "outage") == ["55.0 s without a write until the end"]


def test_what_only_some_clients_wait_for_is_no_outage() -> None:
    drawn = chart(proxy(), WIDE)
    assert texts(drawn, "outage") == ["longest wait 0.90 s"]
    assert not [each for each in drawn.shapes if each.kind == "away"]


def test_a_wait_that_is_known_to_begin_somewhere_is_shaded_there() -> None:
    found = proxy()
    found["figures"]["pooled"]["rto_at"] = 5.1
    drawn = chart(found, WIDE)
    assert texts(drawn, "outage") == ["longest wait 0.90 s"]
    assert shape(drawn, "away")


def test_of_many_faults_only_the_numbers_are_written() -> None:
    for frame in (WIDE, TALL):
        assert texts(chart(sequence(), frame), "label") == [str(number) for number in range(1, 13)]


def test_nothing_is_drawn_of_nothing() -> None:
    assert charts(nothing()) == ()
    assert len(charts(drill("x", "x", [(1.0, "fault", "x")]))) == 2


# --- labels ---------------------------------------------------------------------------------------------


def apart(labels: tuple[Label, ...]) -> None:
    """Check that no label lies over another and no line goes through one."""
    for one, other in combinations(labels, 2):
        upper, lower = sorted((one, other), key=lambda label: label.row)
        if one.row == other.row:
            assert one.span[1] <= other.span[0] or other.span[1] <= one.span[0]
        else:
            assert not lower.span[0] < upper.mark.x < lower.span[1]


@pytest.mark.parametrize(
    "xs", [(0, 1, 2, 3), (0, 60, 61, 300), (300, 320, 330, 335), (50,) * 4, (0, 300, 310)]
)
def test_labels_lie_apart(xs: tuple[float, ...]) -> None:
    labels = place([Mark(x, "ten chars.", "fault", rank) for rank, x in enumerate(xs)], 0, 336)
    assert len(labels) == len(xs)
    assert all(label.span[0] >= 0 and label.span[1] <= 336 for label in labels)
    apart(labels)


def test_labels_that_find_no_place_are_those_of_the_lowest_rank() -> None:
    marks = [Mark(x, "a label of some length", "fault", 40 - x) for x in range(40)]
    labels = place(marks, 0, 336)
    assert 0 < len(labels) <= MOST
    assert max(label.mark.rank for label in labels) <= MOST
    apart(labels)
    assert place([Mark(5, "wider than all there is", "fault")], 0, 20) == ()


# --- series ---------------------------------------------------------------------------------------------


def steady(*counts: int) -> tuple[Bin, ...]:
    return tuple(Bin(index / 4, (index + 1) / 4, count, 0, 5.0, 9.0) for index, count in enumerate(counts))


def test_coarser_bins_keep_sums_and_extremes() -> None:
    fine = bins(series(60.0, pooled=(5.0, 26.0)), "pooled")
    coarse = coarser(fine, 50)
    assert len(fine) == 240
    assert len(coarse) == 48
    assert sum(each.acknowledged for each in coarse) == sum(each.acknowledged for each in fine)
    assert sum(each.failed for each in coarse) == sum(each.failed for each in fine)
    assert max(each.worst or 0 for each in coarse) == 21_000
    assert (coarse[0].begin, coarse[-1].end) == (0.0, 60.0)


def test_lists_of_different_lengths_are_no_reason_to_fail() -> None:
    found = bins(
        {"bin": 0.5, "begin": 1.0, "pooled": {"acknowledged": [4, 2], "failed": [], "latency_ms": [3.0]}},
        "pooled",
    )
    assert found == (Bin(1.0, 1.5, 4, 0, 3.0, None), Bin(1.5, 2.0, 2, 0, None, None))
    assert found[0].rate == 8.0
    assert bins({"bin": 0, "begin": 0.0, "pooled": {}}, "pooled") == bins(None, "pooled") == ()


def test_the_longest_gap_is_found_after_the_fault() -> None:
    found = steady(0, 0, 0, 5, 0, 0, 5, 0, 5)
    assert longest_gap(found, 0.9) == (1.0, 1.5)
    assert longest_gap(found, 0.0) == (0.0, 0.75)
    assert longest_gap(steady(1, 1), 0.0) is None


@pytest.mark.parametrize(
    ("counts", "waited", "expected"),
    [
        ((5, 5, 0, 0, 0, 0, 5, 5), 1.1, (0.45, 1.55)),  # as long as it was, around the middle of the gap
        ((5, 5, 0, 0, 0, 0, 5, 5), 9.0, None),  # one client waited longer than all together
        ((5, 5, 0, 0, 0, 0), 1.0, (0.5, 1.5)),
        ((5, 5, 0, 0, 0, 0), None, (0.5, 1.5)),  # nobody saw its end
        ((5, 5, 0, 0, 5, 5), None, None),
        ((0, 0, 0, 0), 1.0, None),  # there never were writes
        ((5, 5), 0.1, None),
    ],
)
def test_when_nobody_could_write(counts: tuple[int, ...], waited: float | None, expected: Any) -> None:
    assert outage(steady(*counts), 0.25, waited) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "step"), [(0, 1), (0.03, 0.05), (1, 1), (1.2, 2), (4.9, 5), (70, 100), (200, 200)]
)
def test_steps_are_round(value: float, step: float) -> None:
    assert nice(value) == pytest.approx(step)
