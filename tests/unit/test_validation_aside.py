"""Attempts side by side: results, reasons, and the one that hangs is left behind."""

from __future__ import annotations

import threading
import time

import pytest

from kbpg.errors import Unreachable
from kbpg.health.validation.aside import NoResult, each


def test_results_and_reasons_by_key() -> None:
    def work(key: str) -> int:
        if key == "host":
            raise Unreachable("db-1", "no answer")
        if key == "nothing":
            raise NoResult("not there")
        if key == "refused":
            raise ConnectionRefusedError("nothing answers on db-1:5432")
        return len(key)

    found, reasons = each(("four", "host", "nothing", "refused"), work)
    assert found == {"four": 4}
    assert reasons == {
        "host": "no answer",
        "nothing": "not there",
        "refused": "nothing answers on db-1:5432",
    }


def test_all_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)
    found, reasons = each(range(3), lambda _: together.wait())
    assert reasons == {}
    assert sorted(found.values()) == [0, 1, 2]


def test_one_that_hangs_is_left_behind() -> None:
    over = threading.Event()
    started = time.monotonic()
    try:
        found, reasons = each(("quick", "hangs"), lambda k: k == "quick" or over.wait(60), deadline=0.3)
    finally:
        over.set()
    assert time.monotonic() - started < 10
    assert found == {"quick": True}
    assert reasons == {"hangs": "no answer within 0.3 s"}


def test_a_mistake_of_ones_own_is_not_a_reason() -> None:
    with pytest.raises(ZeroDivisionError):
        each((0,), lambda key: 1 // key)
