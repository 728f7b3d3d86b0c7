"""Plan and apply: gather, compare, fix what differs, gather again what was touched, compare again.

A stage is done when a comparison finds nothing left. Within it every resource may be fixed once: one that
still differs after its fix is `NotConverged`. What a fix makes differ (a rewritten configuration file, its
`Loaded` marker) is found by the next comparison, so there are no handlers and no triggers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from kbpg.context import Context
from kbpg.engine.compare import Comparison, compare
from kbpg.engine.mend import Outcomes, advice, evidence, mend
from kbpg.engine.outcome import Listener, Outcome, Report, Silent
from kbpg.engine.reading import Reading
from kbpg.errors import NotConverged
from kbpg.hosts.port import Writer
from kbpg.model import CLUSTER, CONTROLLER, Placed, Stage, Status, Step

Staged = tuple[Step, Stage]
Stages = Mapping[Step, Sequence[Stage]]


class Run:
    """One run of kbpg against connected hosts.

    `stages` are those of some steps, or of all, if somebody has computed them from the same context already.
    """

    def __init__(
        self,
        context: Context,
        hosts: Mapping[str, Writer],
        controller: Writer,
        listener: Listener | None = None,
        stages: Stages | None = None,
    ) -> None:
        self.context = context
        self.listener = listener or Silent()
        self.report = Report()
        self.reading = Reading(context, hosts, controller, self.listener.note)
        self._known = dict(stages or {})

    def plan(self, steps: Sequence[Step]) -> Report:
        """Compare everything and change nothing. A requirement that is not met has failed."""
        staged = self._stages(steps)
        self.reading.gather(item for _, stage in staged for item in self._items(stage))
        for step, stage in staged:
            for found in self._compare(stage):
                unmet = stage.requirement and found.change
                self._record(step, found, Status.FAILED if unmet else found.status)
        return self.report

    def apply(self, steps: Sequence[Step], after: Sequence[Step] = ()) -> Report:
        """Make it so. The first stage that fails ends the run.

        Before anything is changed, the requirements of all `steps` must be met, and those of the steps that
        come before them (`after`): one step alone is no way around the preflight.
        """
        required = [(step, stage) for step, stage in self._stages([*after, *steps]) if stage.requirement]
        staged = required + [(step, s) for step, s in self._stages(steps) if not s.requirement]
        self.reading.gather(item for _, stage in staged for item in self._items(stage))
        self._require(required)
        rest = staged[len(required) :]
        ahead = self._ahead([stage for _, stage in rest])
        for step in steps:
            mine = [(s, items) for (owner, s), items in zip(rest, ahead, strict=True) if owner is step]
            self._apply_step(step, mine)
        return self.report

    def unmet(self, steps: Sequence[Step]) -> list[Outcome]:
        """Compare the requirements alone, on those hosts that are connected, and return those that are not met.

        What cannot be known, because another host is needed for it, is none of them. Nothing is changed.
        """
        there = {*self.reading.hosts, CONTROLLER}
        required = [
            (
                step,
                Stage(
                    stage.title, tuple(i for i in self._items(stage) if i.place in there), requirement=True
                ),
            )
            for step, stage in self._stages(steps)
            if stage.requirement
        ]
        self.reading.gather(item for _, stage in required for item in stage.items)
        return [
            Outcome.of(step, found, Status.FAILED)
            for step, stage in required
            for found in self._compare(stage)
            if found.change and not found.unknown
        ]

    # --- one step, one stage -------------------------------------------------------------------------

    def _ahead(self, stages: Sequence[Stage]) -> list[list[Placed]]:
        """Return, for each stage, what to ask when it begins: its items, and those of stages after it.

        A change makes much of what is known stale. What then is only looked at again, as nothing differs there
        now, is asked in one pass; before a stage that changes something that would be for nothing.
        """
        ahead: list[list[Placed]] = []
        later: list[Placed] = []
        for stage in reversed(stages):
            items = list(self._items(stage))
            differs = any(found.change for found in self._compare(stage))
            ahead.insert(0, items if differs else items + later)
            later = [] if differs else ahead[0]
        return ahead

    def _apply_step(self, step: Step, stages: Sequence[tuple[Stage, Sequence[Placed]]]) -> None:
        started, first = time.monotonic(), len(self.report.outcomes)
        self.listener.step_started(step)
        for stage, ahead in stages:
            if self.report.failed:
                self._skip(step, stage)
                continue
            self.listener.stage_started(step, stage)
            self.reading.gather(ahead)
            self._converge(step, stage)
        seconds = time.monotonic() - started
        self.report.seconds[step.label] = seconds
        self.listener.step_finished(step, seconds, self.report.outcomes[first:])

    def _require(self, staged: Sequence[Staged]) -> None:
        for step, stage in staged:
            for found in self._compare(stage):
                self._record(step, found, Status.FAILED if found.change else Status.OK)

    def _skip(self, step: Step, stage: Stage) -> None:
        failed = self.report.of(Status.FAILED)[0]
        why = (f"{failed.step.label} failed at {failed.place}",)
        for item in self._items(stage):
            self._finish(Outcome(step, item.place, item.resource.id, Status.NOT_ATTEMPTED, why))

    def _converge(self, step: Step, stage: Stage) -> None:
        mended: Outcomes = {}
        items = list(self._items(stage))
        while True:
            self.reading.gather(items)
            found = self._compare(stage)
            todo = [c for c in found if c.fixable and c.placed not in mended]
            stuck = [c for c in found if c.change and (c.placed in mended or (c.unknown and not todo))]
            if stuck or not todo:
                break
            outcomes = mend(self.reading, step, stage, todo)
            mended |= outcomes
            ended = {outcome.status for outcome in outcomes.values()}
            if Status.FAILED in ended:
                if Status.CHANGED in ended:  # what those fixes left to be done is told as it is now
                    self.reading.gather(items)
                    found = self._compare(stage)
                break
        self._conclude(step, found, mended)

    def _conclude(self, step: Step, found: Sequence[Comparison], mended: Mapping[Placed, Outcome]) -> None:
        """Turn the last comparison and what was done into one outcome a resource."""
        broken = any(outcome.status is not Status.CHANGED for outcome in mended.values())
        stays = any(last.change and last.placed in mended for last in found)
        for last in found:
            done = mended.get(last.placed)
            if done and (last.change is None or done.status is not Status.CHANGED or broken):
                self._finish(done)
            elif last.change is None:
                self._record(step, last, Status.OK)
            elif broken or (stays and done is None):
                self._record(step, last, Status.NOT_ATTEMPTED)
            else:
                self._finish(self._not_converged(step, last, done))

    def _not_converged(self, step: Step, last: Comparison, done: Outcome | None) -> Outcome:
        wanted = "could not be read" if last.unknown else "did not converge"
        ran = [f"ran {command}" for command in (done.commands if done else ())]
        site = self.reading.site(last.placed.place)
        error = NotConverged(
            f"{wanted}: {'; '.join(last.lines)}",
            detail=[*ran, *evidence(last, site)],
            hint=advice(last, site.facts),
        )
        return Outcome.of(step, last, Status.FAILED, error=error)

    # --- outcomes ------------------------------------------------------------------------------------

    def _stages(self, steps: Sequence[Step]) -> list[Staged]:
        for step in steps:
            if step not in self._known:
                self._known[step] = step.stages(self.context)
        return [(step, stage) for step in steps for stage in self._known[step]]

    def _items(self, stage: Stage) -> list[Placed]:
        limit, everywhere = self.context.limit, (CLUSTER, CONTROLLER)
        chosen = not limit or stage.unlimited
        return [i for i in stage.items if chosen or i.place in limit or i.place in everywhere]

    def _compare(self, stage: Stage) -> list[Comparison]:
        return [compare(item, self.reading.facts(item.place)) for item in self._items(stage)]

    def _record(self, step: Step, found: Comparison, status: Status) -> None:
        self._finish(Outcome.of(step, found, status))

    def _finish(self, outcome: Outcome) -> None:
        self.report.outcomes.append(outcome)
        self.listener.resource_done(outcome)
