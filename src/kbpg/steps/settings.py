"""The part of step 02 that a change of settings needs."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.context import Context
from kbpg.model import Stage, Step
from kbpg.steps import s02_patroni
from kbpg.steps.titled import titled

NEEDED = (s02_patroni.NOT_PAUSED, s02_patroni.CONFIGURATION, s02_patroni.FORMED, s02_patroni.RESTARTS)
"""Titles of stages, in order. The configuration comes before the cluster: a node that a bad setting keeps from
starting starts with a good one."""


def stages(context: Context) -> Sequence[Stage]:
    """Return those stages, for a cluster that is there."""
    return titled(s02_patroni.stages(context), NEEDED)


STEP = Step(2, "patroni", "Patroni's dynamic configuration, and the restarts that it needs", stages)
