"""What clients were told against the rows that are there, and the figures made of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kbpg.drills.attempt import Attempt, Outcome
from kbpg.drills.figures import BIN, counts, errors, longest_gap, series
from kbpg.drills.tally import Row, compare


def attempt(
    n: int, outcome: Outcome = Outcome.ACKNOWLEDGED, *, ended: float = 1.0, **more: object
) -> Attempt:
    given = {"client": 1, "rows": 1, "begun": ended - 0.01, "at": 100.0 + ended, "timeline": 1, **more}
    return Attempt(first=n, ended=ended, outcome=outcome, **given)  # type: ignore[arg-type]


def there(*numbers: int, copies: int = 1) -> list[Row]:
    return [Row(1, n, copies) for n in numbers]


def test_rows_that_are_there_as_told_are_no_problem() -> None:
    tried = [attempt(1), attempt(2, rows=2), attempt(4, Outcome.REFUSED), attempt(5, Outcome.UNKNOWN)]
    tally = compare(tried, there(1, 2, 3))
    assert tally.problems == []
    assert (tally.acknowledged, tally.refused, tally.unknown, tally.unknown_there) == (3, 1, 1, 0)


@pytest.mark.parametrize(
    ("tried", "rows", "said"),
    [
        ([attempt(1), attempt(2)], there(1), "1 acknowledged rows are not there"),
        ([attempt(1)], there(1, copies=2), "1 rows are there more than once"),
        ([attempt(1, Outcome.REFUSED)], there(1), "1 rows are there although they were refused"),
        # Half of a transaction is as bad as none
        ([attempt(1, rows=2)], there(1), "1 acknowledged rows are not there"),
    ],
)
def test_what_must_not_be_is_said(tried: Sequence[Attempt], rows: Sequence[Row], said: str) -> None:
    assert compare(tried, rows).problems == [said]


def test_what_is_unknown_may_be_there_or_not() -> None:
    tried = [attempt(1, Outcome.UNKNOWN), attempt(2, Outcome.UNKNOWN)]
    tally = compare(tried, there(2))
    assert tally.problems == []
    assert tally.unknown_there == 1


def test_an_old_leader_that_writes_after_the_new_one_began_is_a_problem() -> None:
    old, new = attempt(1, ended=5.0, timeline=3), attempt(2, ended=4.5, timeline=4)
    (said,) = compare([old, new], there(1, 2)).problems
    assert said == "timeline 3 still took writes 0.500 s after timeline 4 had begun"
    apart = compare([attempt(1, ended=4.0, timeline=3), new], there(1, 2))
    assert apart.problems == []
    assert (apart.terms[3].last, apart.terms[4].first) == (104.0, 104.5)


def test_the_gap_is_that_of_the_client_who_waited_longest() -> None:
    quick = [attempt(n, ended=n * 0.1) for n in range(1, 100)]
    stuck = [attempt(n, ended=t, client=2) for n, t in enumerate((1.0, 2.0, 6.5, 7.0, 8.0, 9.0, 9.9), 1)]
    seconds, begin = longest_gap([*quick, *stuck], 0.0, 10.0)
    assert (seconds, begin) == (4.5, 2.0)


def test_a_client_that_never_succeeds_waits_all_the_time() -> None:
    assert longest_gap([attempt(1, Outcome.NO_CONNECTION, ended=3.0)], 1.0, 11.0) == (10.0, 1.0)


def test_failures_are_no_successes() -> None:
    tried = [attempt(1, ended=1.0), attempt(2, Outcome.UNKNOWN, ended=2.0), attempt(3, ended=4.0)]
    assert longest_gap(tried, 0.0, 4.0) == (3.0, 1.0)


def test_counts_and_errors() -> None:
    tried = [
        attempt(1, rows=2),
        attempt(0, Outcome.NO_CONNECTION, rows=0, error="refused", ended=2.0),
        attempt(0, Outcome.NO_CONNECTION, rows=0, error="refused", ended=1.5),
        attempt(3, Outcome.UNKNOWN, error="gone", ended=1.0),
    ]
    assert counts(tried) == {"acknowledged": 2, "refused": 0, "unknown": 1, "errors": 3, "failed_connects": 2}
    assert errors(tried)[0] == {"outcome": "no connection", "text": "refused", "count": 2, "first": 1.5}


def test_every_attempt_is_on_the_curve() -> None:
    tried = [attempt(n, ended=n * 0.1) for n in range(100)] + [attempt(200, Outcome.REFUSED, ended=99.0)]
    curves = series({"pooled": tried}, 9.9)["pooled"]
    assert sum(curves["acknowledged"]) == 100
    assert sum(curves["failed"]) == 1
    assert len({len(curve) for curve in curves.values()}) == 1
    assert len(curves["failed"]) == int(9.9 / BIN) + 1
    assert curves["latency_ms"][0] == pytest.approx(10.0)
