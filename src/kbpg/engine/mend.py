"""Fixing what differs in a stage: wave by wave, the places of a wave side by side, per place in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from kbpg.engine.compare import Comparison
from kbpg.engine.outcome import Outcome
from kbpg.engine.reading import Reading
from kbpg.engine.rollout import AllAtOnce, Rollout
from kbpg.engine.site import Recorded, Site
from kbpg.engine.unexpected import explained, lost
from kbpg.errors import HostError, KbpgError
from kbpg.facts import Facts
from kbpg.model import CLUSTER, CONTROLLER, Placed, Stage, Status, Step

Outcomes = dict[Placed, Outcome]


def mend(reading: Reading, step: Step, stage: Stage, todo: Sequence[Comparison]) -> Outcomes:
    """Fix `todo` and return an outcome for each. A wave with a failure is the last."""
    rollout: Rollout = stage.rollout or AllAtOnce()
    impacts = {place: max(c.impact for c in todo if c.placed.place == place) for place in _places(todo)}
    reading.ask(dict.fromkeys(reading.context.db_names, rollout.facts))
    outcomes: Outcomes = {}
    for wave in rollout.waves(impacts, reading.facts(CLUSTER)):
        if any(o.status is Status.FAILED for o in outcomes.values()):
            break
        with ThreadPoolExecutor(max(1, len(wave))) as pool:
            for done in pool.map(lambda place: _mend_place(reading, step, rollout, place, todo), wave):
                outcomes |= done
        reading.forget(c.placed for c in todo if c.placed.place in wave)
    for missed in todo:
        outcomes.setdefault(missed.placed, not_attempted(step, missed, "another host failed before"))
    return outcomes


def not_attempted(step: Step, found: Comparison, why: str) -> Outcome:
    """Return the outcome of a difference that nothing was done about."""
    return Outcome.of(step, found, Status.NOT_ATTEMPTED, lines=(why,))


def evidence(found: Comparison, site: Site) -> list[str]:
    """Return what explains a failure of this resource; never raises."""
    try:
        return found.placed.resource.evidence(site)
    except Exception as error:  # noqa: BLE001 (what would explain a failure must not take its place)
        return [f"nothing more can be told: {explained(error).message}"]


def advice(found: Comparison, facts: Facts) -> str | None:
    """Return the hint for a difference that stayed; never raises."""
    try:
        return found.placed.resource.advice(facts)
    except Exception:  # noqa: BLE001 (as above: the failure itself is what must be shown)
        return None


def _mend_place(
    reading: Reading, step: Step, rollout: Rollout, place: str, todo: Sequence[Comparison]
) -> Outcomes:
    outcomes: Outcomes = {}
    mine = [c for c in todo if c.placed.place == place]
    recorded = {name: Recorded(host) for name, host in reading.hosts.items()}
    recorded[CONTROLLER] = Recorded(reading.controller)
    site = reading.site(place, {name: recorded[name] for name in reading.hosts}, recorded[CONTROLLER])
    current, impact = mine[0], max(c.impact for c in mine)
    try:
        rollout.before(site, impact)
        for current in mine:
            outcomes[current.placed] = _fix(step, current, site, recorded)
        current = mine[-1]
        rollout.after(site, impact)
    except Exception as error:  # noqa: BLE001 (whatever it is, it must not cost the other hosts' outcomes)
        why_failed = lost(error, reading.hosts) or explained(error)
        outcomes[current.placed] = Outcome.of(step, current, Status.FAILED, error=why_failed)
        for rest in mine:
            why = f"{current.placed.resource.id} failed before it"
            outcomes.setdefault(rest.placed, not_attempted(step, rest, why))
    return outcomes


def _fix(step: Step, found: Comparison, site: Site, recorded: Mapping[str, Recorded]) -> Outcome:
    assert found.change is not None  # noqa: S101 (only differences are fixed)
    started = time.monotonic()
    for host in recorded.values():
        host.ran.clear()
    try:
        found.placed.resource.fix(site, found.change)
    except HostError:
        raise
    except KbpgError as error:
        error.detail = (*error.detail, *evidence(found, site))
        raise
    ran = tuple(command for host in recorded.values() for command in host.ran)
    return Outcome.of(step, found, Status.CHANGED, commands=ran, seconds=time.monotonic() - started)


def _places(todo: Iterable[Comparison]) -> list[str]:
    return list(dict.fromkeys(c.placed.place for c in todo))
