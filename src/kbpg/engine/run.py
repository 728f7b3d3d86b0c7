"""Plan and apply: gather, compare, fix what differs, gather again what was touched, compare again.

A stage is done when a comparison finds nothing left. Within it every resource may be fixed once: one that
still differs after its fix is `NotConverged`. What a fix makes differ (a rewritten configuration file, its
`Loaded` marker) is found by the next comparison, so there are no handlers and no triggers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from kbpg.context import Context
from kbpg.engine.compare import Comparison, compare
from kbpg.engine.gather import gather
from kbpg.engine.outcome import Listener, Outcome, Report, Silent
from kbpg.engine.rollout import AllAtOnce, Rollout
from kbpg.engine.site import Recorded, Site
from kbpg.engine.unexpected import explained
from kbpg.errors import HostError, KbpgError, NotConverged
from kbpg.facts import Fact, Facts, Knowledge
from kbpg.hosts.port import Writer
from kbpg.model import CLUSTER, CONTROLLER, Placed, Stage, Status, Step

Wanted = dict[str, list[Fact[object]]]
Staged = tuple[Step, Stage]


class Run:
    """One run of kbpg against connected hosts."""

    def __init__(
        self,
        context: Context,
        hosts: Mapping[str, Writer],
        controller: Writer,
        listener: Listener | None = None,
        limit: frozenset[str] = frozenset(),
    ) -> None:
        self.context = context
        self.hosts = hosts
        self.controller = controller
        self.listener = listener or Silent()
        self.limit = limit
        self.knowledge = Knowledge()
        self.report = Report()
        self._live: set[str] = set()

    def plan(self, steps: Sequence[Step]) -> Report:
        """Compare everything and change nothing. A requirement that is not met has failed."""
        staged = self._stages(steps)
        self._gather(item for _, stage in staged for item in self._items(stage))
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
        self._live = {
            fact.key for _, s in staged for item in s.items for _, fact in self._asks(item) if fact.live
        }
        self._gather(item for _, stage in staged for item in self._items(stage))
        self._require(required)
        for step in steps:
            self._apply_step(step, [s for owner, s in staged if owner is step and not s.requirement])
        return self.report

    # --- one step, one stage -------------------------------------------------------------------------

    def _apply_step(self, step: Step, stages: Sequence[Stage]) -> None:
        started, first = time.monotonic(), len(self.report.outcomes)
        self.listener.step_started(step)
        for stage in stages:
            if self.report.failed:
                self._skip(step, stage)
                continue
            self.listener.stage_started(step, stage)
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
        mended: dict[Placed, Outcome] = {}
        items = list(self._items(stage))
        while True:
            self._gather(items)
            found = self._compare(stage)
            todo = [c for c in found if c.fixable and c.placed not in mended]
            stuck = [c for c in found if c.change and (c.placed in mended or (c.unknown and not todo))]
            if stuck or not todo:
                break
            outcomes = self._mend(step, stage, todo)
            mended |= {c.placed: o for c, o in zip(todo, outcomes, strict=True)}
            if any(o.status is Status.FAILED for o in outcomes):
                break
        self._conclude(step, found, mended)

    def _conclude(self, step: Step, found: Sequence[Comparison], mended: Mapping[Placed, Outcome]) -> None:
        """Turn the last comparison and what was done into one outcome a resource."""
        broken = any(outcome.status is not Status.CHANGED for outcome in mended.values())
        for last in found:
            done = mended.get(last.placed)
            if done and (last.change is None or done.status is not Status.CHANGED or broken):
                self._finish(done)
            elif last.change is None:
                self._record(step, last, Status.OK)
            elif broken:
                self._record(step, last, Status.NOT_ATTEMPTED)
            else:
                self._finish(self._not_converged(step, last, done))

    def _not_converged(self, step: Step, last: Comparison, done: Outcome | None) -> Outcome:
        site = self._site(last.placed.place, self.hosts)
        wanted = "could not be read" if last.unknown else "did not converge"
        ran = [f"ran {command}" for command in (done.commands if done else ())]
        error = NotConverged(f"{wanted}: {'; '.join(last.lines)}", detail=[*ran, *_evidence(last, site)])
        return self._outcome(step, last, Status.FAILED, error=error)

    # --- fixing --------------------------------------------------------------------------------------

    def _mend(self, step: Step, stage: Stage, todo: Sequence[Comparison]) -> list[Outcome]:
        """Fix `todo`, wave by wave, the places of a wave side by side; return an outcome for each."""
        rollout: Rollout = stage.rollout or AllAtOnce()
        impacts = {place: max(c.impact for c in todo if c.placed.place == place) for place in _places(todo)}
        self._ask({name: list(rollout.facts) for name in self.context.db_names} if rollout.facts else {})
        outcomes: dict[Placed, Outcome] = {}
        for wave in rollout.waves(impacts, self._facts(CLUSTER)):
            if any(o.status is Status.FAILED for o in outcomes.values()):
                break
            with ThreadPoolExecutor(max(1, len(wave))) as pool:
                for done in pool.map(lambda place: self._mend_place(step, rollout, place, todo), wave):
                    outcomes |= done
            self._forget(c.placed for c in todo if c.placed.place in wave)
        why = "another host failed before"
        return [outcomes.get(c.placed, self._outcome(step, c, Status.NOT_ATTEMPTED, why=why)) for c in todo]

    def _mend_place(
        self, step: Step, rollout: Rollout, place: str, todo: Sequence[Comparison]
    ) -> dict[Placed, Outcome]:
        outcomes: dict[Placed, Outcome] = {}
        mine = [c for c in todo if c.placed.place == place]
        recorded = {name: Recorded(host) for name, host in self.hosts.items()}
        site = self._site(place, recorded)
        current, impact = mine[0], max(c.impact for c in mine)
        try:
            rollout.before(site, impact)
            for current in mine:
                outcomes[current.placed] = self._fix(step, current, site, recorded)
            current = mine[-1]
            rollout.after(site, impact)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not cost the other hosts' outcomes)
            why = f"{current.placed.resource.id} failed before it"
            shown = explained(error)
            outcomes[current.placed] = self._outcome(step, current, Status.FAILED, error=shown)
            for rest in mine:
                outcomes.setdefault(rest.placed, self._outcome(step, rest, Status.NOT_ATTEMPTED, why=why))
        return outcomes

    def _fix(self, step: Step, found: Comparison, site: Site, recorded: Mapping[str, Recorded]) -> Outcome:
        assert found.change is not None  # noqa: S101 (only differences are fixed)
        started = time.monotonic()
        for host in recorded.values():
            host.ran.clear()
        try:
            found.placed.resource.fix(site, found.change)
        except HostError:
            raise
        except KbpgError as error:
            error.detail = (*error.detail, *_evidence(found, site))
            raise
        ran = tuple(command for host in recorded.values() for command in host.ran)
        return self._outcome(step, found, Status.CHANGED, commands=ran, seconds=time.monotonic() - started)

    # --- knowledge -----------------------------------------------------------------------------------

    def _asks(self, item: Placed) -> list[tuple[str, Fact[object]]]:
        return list(item.resource.asks(item.place, self.context))

    def _gather(self, items: Iterable[Placed]) -> None:
        wanted: Wanted = {}
        for item in items:
            for name, fact in self._asks(item):
                wanted.setdefault(name, []).append(fact)
        self._ask(wanted)

    def _ask(self, wanted: Wanted) -> None:
        gather(self.hosts, self.knowledge, wanted)

    def _refresh(self, wanted: Mapping[str, Sequence[Fact[object]]]) -> None:
        for name, facts in wanted.items():
            self.knowledge.drop(name, {fact.key for fact in facts})
        gather(self.hosts, self.knowledge, wanted)

    def _forget(self, items: Iterable[Placed]) -> None:
        """Drop what fixes made stale: all of their hosts' facts, what they looked at, live facts anywhere."""
        for item in items:
            self.knowledge.forget(item.place)
            for name, fact in self._asks(item):
                self.knowledge.drop(name, {fact.key})
            if item.place == CLUSTER:
                for name in self.context.db_names:
                    self.knowledge.forget(name)
        self.knowledge.forget_keys(self._live)

    def _facts(self, place: str) -> Facts:
        return Facts(self.knowledge, place)

    def _site(self, place: str, hosts: Mapping[str, Writer]) -> Site:
        return Site(
            place,
            hosts,
            self.controller,
            self.context,
            self._facts(place),
            self._refresh,
            lambda text: self.listener.note(place, text),
        )

    # --- outcomes ------------------------------------------------------------------------------------

    def _stages(self, steps: Sequence[Step]) -> list[Staged]:
        return [(step, stage) for step in steps for stage in step.stages(self.context)]

    def _items(self, stage: Stage) -> list[Placed]:
        everywhere = (CLUSTER, CONTROLLER)
        chosen = not self.limit or stage.unlimited
        return [i for i in stage.items if chosen or i.place in self.limit or i.place in everywhere]

    def _compare(self, stage: Stage) -> list[Comparison]:
        return [compare(item, self._facts(item.place)) for item in self._items(stage)]

    def _outcome(
        self,
        step: Step,
        found: Comparison,
        status: Status,
        *,
        error: KbpgError | None = None,
        why: str | None = None,
        commands: tuple[str, ...] = (),
        seconds: float = 0.0,
    ) -> Outcome:
        item = found.placed
        lines = (why,) if why else found.lines
        return Outcome(
            step, item.place, item.resource.id, status, lines, found.impact, error, commands, seconds
        )

    def _record(self, step: Step, found: Comparison, status: Status) -> None:
        self._finish(self._outcome(step, found, status))

    def _finish(self, outcome: Outcome) -> None:
        self.report.outcomes.append(outcome)
        self.listener.resource_done(outcome)


def _places(todo: Iterable[Comparison]) -> list[str]:
    return list(dict.fromkeys(c.placed.place for c in todo))


def _evidence(found: Comparison, site: Site) -> list[str]:
    try:
        return found.placed.resource.evidence(site)
    except Exception as error:  # noqa: BLE001 (what would explain a failure must not take its place)
        return [f"nothing more can be told: {explained(error).message}"]
