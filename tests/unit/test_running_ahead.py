"""What `plan` and `apply` get ready while hosts are dialled: computed once, and only for the context in force."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest

from kbpg.cli.ahead import Ahead
from kbpg.cli.running import stages_of
from kbpg.context import Context
from kbpg.engine.run import Run
from kbpg.hosts.fake import FakeHost
from kbpg.model import CONTROLLER, Stage, Step

from .small_cluster import context


class Counted:
    """A step that notes for which contexts its stages were computed."""

    def __init__(self, number: int = 1) -> None:
        self.contexts: list[Context] = []
        self.step = Step(number, f"step-{number}", "summary", self._stages)

    def _stages(self, context: Context) -> list[Stage]:
        self.contexts.append(context)
        return [Stage("a requirement", (), requirement=True), Stage("a stage", ())]


def test_a_run_computes_no_stages_that_are_ready() -> None:
    counted, before = Counted(2), Counted(1)
    ahead = stages_of(lambda: (counted.step,), after=(before.step,))
    given = context()
    ahead(given)
    ready = ahead.of(given)
    assert ready is not None
    assert list(ready) == [before.step, counted.step]
    Run(given, {}, FakeHost(CONTROLLER), stages=ready).apply([counted.step], [before.step])
    assert counted.contexts == [given]
    assert before.contexts == [given]


def test_stages_of_another_context_are_not_used() -> None:
    counted = Counted()
    ahead = stages_of(lambda: (counted.step,))
    given = context()
    ahead(given)
    other = replace(given, between=True)
    assert ahead.of(given) is not None
    assert ahead.of(other) is None
    Run(other, {}, FakeHost(CONTROLLER), stages=ahead.of(other)).plan([counted.step])
    assert counted.contexts == [given, other]


def test_without_anything_ready_a_run_computes_each_steps_stages_once() -> None:
    counted = Counted()
    given = context()
    Run(given, {}, FakeHost(CONTROLLER)).apply([counted.step])
    assert counted.contexts == [given]


def test_what_a_step_raises_is_raised() -> None:
    broken = Step(1, "broken", "summary", Mock(side_effect=LookupError("no such thing")))
    with pytest.raises(LookupError, match="no such thing"):
        stages_of(lambda: (broken,))(context())


def test_what_is_computed_is_kept_for_its_context_alone() -> None:
    ahead = Ahead(lambda given: [given])
    first, second = context(), context()
    assert ahead.of(first) is None
    ahead(first)
    assert ahead.of(first) == [first]
    assert ahead.of(second) is None
