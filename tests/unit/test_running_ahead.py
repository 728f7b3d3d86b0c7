"""What `plan` and `apply` get ready while hosts are dialled: computed once, and only for the context in force."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest

from kbpg.cli.running import Ahead
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
    ahead = Ahead(lambda: (counted.step,), after=(before.step,))
    given = context()
    ahead(given)
    ready = ahead.stages(given)
    assert list(ready) == [before.step, counted.step]
    Run(given, {}, FakeHost(CONTROLLER), stages=ready).apply(ahead.steps, ahead.after)
    assert counted.contexts == [given]
    assert before.contexts == [given]


def test_stages_of_another_context_are_not_used() -> None:
    counted = Counted()
    ahead = Ahead(lambda: (counted.step,))
    ahead(context())
    other = replace(context(), between=True)
    assert ahead.stages(other) == {}
    Run(other, {}, FakeHost(CONTROLLER), stages=ahead.stages(other)).plan(ahead.steps)
    assert counted.contexts[-1] is other


def test_without_anything_ready_a_run_computes_each_steps_stages_once() -> None:
    counted = Counted()
    given = context()
    ahead = Ahead(lambda: (counted.step,))
    Run(given, {}, FakeHost(CONTROLLER), stages=ahead.stages(given)).apply(ahead.steps)
    assert counted.contexts == [given]


def test_what_a_step_raises_is_raised() -> None:
    broken = Step(1, "broken", "summary", Mock(side_effect=LookupError("no such thing")))
    with pytest.raises(LookupError, match="no such thing"):
        Ahead(lambda: (broken,))(context())
