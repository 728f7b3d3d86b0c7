"""New values for PostgreSQL's parameters and Patroni's timers: in the inventory, in the cluster, in force.

In this order, so that whatever happens in between, `kbpg apply-all` finishes the work:

1. Everything that can be refused is refused: by the inventory's rules without a connection, then by the running
   PostgreSQL, then because the cluster is not whole. Nothing has been touched.
2. The inventory is written. From here on a run that was killed is finished by the next `apply-all`.
3. The stages of step 02 that settings need (and steps 03 and 04, for a failover preset) are applied, restarts one
   node at a time in the order that `resources/rolling.py` knows.
4. If the cluster refuses, the inventory gets its old content, and the same stages bring the cluster back to it.
5. What is in force is read from every node, and compared with what PostgreSQL had made of the value in 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kbpg.engine.outcome import Outcome, Report
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError, NotConverged
from kbpg.facts import Facts, NotKnown
from kbpg.inventory.assignment import Assignment, refuse, similar
from kbpg.inventory.store import Edit
from kbpg.model import Status, Step
from kbpg.operations.server_settings import (
    PRELOADED,
    FileErrorsFact,
    LibrariesFact,
    LibraryDirectoryFact,
    ServerSetting,
    SettingsFact,
    Trial,
    TrialFact,
)
from kbpg.patroni import NodeFact, leader_of
from kbpg.resources.hardware import HardwareFact, smallest
from kbpg.steps import s03_haproxy, s04_pgbouncer, settings

BUFFER = 8192
"""Bytes of one of PostgreSQL's buffers: the unit of shared_buffers in pg_settings."""
FIXED = {"internal": "it is fixed when PostgreSQL is built or its data directory made"}

LEADER_DEADLINE = 60.0
"""Seconds for somebody to lead again after a change that failed, before the way back is given up: a failover after a
crash takes a few (docs/inventory.md), and a node that starts anew some more."""


def steps_for(assignments: Sequence[Assignment]) -> tuple[Step, ...]:
    """Return the steps that bring these settings into force, step 02 cut down to what settings need."""
    proxies = (s03_haproxy.STEP, s04_pgbouncer.STEP)
    return (settings.STEP, *(proxies if any(each.name == "failover" for each in assignments) else ()))


def tried(site: Site, assignments: Sequence[Assignment]) -> dict[str, Trial]:
    """Return what the leader's PostgreSQL makes of each new value of its parameters.

    Raises `UsageError` with everything that is wrong with them, `NotConverged` where there is nobody to ask.
    """
    context = site.context
    values = [(each, each.value) for each in assignments if each.of_postgresql and each.value is not None]
    node, server = NodeFact(context.inventory.ports.patroni), SettingsFact(context.superuser())
    facts = site.look(dict.fromkeys(context.db_names, (node, server, HardwareFact())))
    try:
        leader = leader_of(facts, node, context.db_names)
        known = facts.get(server, leader)
        unknown = [each for each, _ in values if each.name not in known]
        refuse([f"{e.name}: {_why_unknown(e.name, list(known))}" for e in unknown])
        refuse([f"{e.name}: {FIXED[c]}" for e, _ in values if (c := known[e.name].context) in FIXED])
        major = context.inventory.versions.postgresql
        asked = {each.name: TrialFact(each.name, value, major) for each, value in values}
        facts = site.look({leader: tuple(asked.values())})
        found = {name: facts.get(fact, leader) for name, fact in asked.items()}
        refuse([f"{name}: {trial.refused}" for name, trial in found.items() if trial.refused])
        refuse(_missing(site, leader, next((v for e, v in values if e.name == PRELOADED), "")))
        refuse(_too_large(found, smallest(facts, context.db_names).memory))
    except NotKnown as silence:
        raise NotConverged(
            f"nothing was changed: {silence.reason}", hint="mend the cluster first: kbpg diagnose"
        ) from silence
    return found


def _why_unknown(name: str, known: Sequence[str]) -> str:
    if "." in name:
        return (
            "the running PostgreSQL does not know it, so it cannot be checked: load its library first "
            "(shared_preload_libraries)"
        )
    return f"neither PostgreSQL nor Patroni has a setting of this name{similar(name, known)}"


def _missing(site: Site, leader: str, names: str) -> list[str]:
    """Return which libraries to preload are not there. Raises `NotKnown`."""
    if not names:
        return []
    directory = LibraryDirectoryFact(site.context.superuser())
    where = site.look({leader: (directory,)}).get(directory, leader)
    fact = LibrariesFact(names, where)
    found = site.look({leader: (fact,)}).get(fact, leader)
    return [f"{PRELOADED}: there is no library {name} in {where}" for name in found]


def _too_large(found: Mapping[str, Trial], memory: int) -> list[str]:
    """Return why PostgreSQL would not start: shared memory beyond what the smallest db host has, in bytes."""
    buffers = found.get("shared_buffers")
    if buffers is None or int(buffers.text) * BUFFER <= memory:
        return []
    mb = 1 << 20
    return [
        f"shared_buffers: {int(buffers.text) * BUFFER // mb} MB is more than the {memory // mb} MB of a db host"
    ]


def in_the_way(report: Report) -> list[Outcome]:
    """Return why the planned steps cannot be carried out now: paused, not whole, or not known. Empty: they can."""
    apart = [outcome for outcome in report.of(Status.DIFFERS) if outcome.resource.startswith("probe:")]
    return [*report.of(Status.FAILED, Status.UNKNOWN), *apart]


@dataclass(frozen=True)
class Applied:
    """What became of a change: the engine's report; after a failure, the report of going back (None: not tried)."""

    report: Report
    back: Report | None = None
    not_restored: KbpgError | None = None


def apply(
    site: Site, edit: Edit, steps: Sequence[Step], forth: Callable[[], Run], back: Callable[[], Run]
) -> Applied:
    """Write the inventory and apply `steps`; after a failure undo both.

    `forth` makes the run for the new inventory, `back` that for the old one. Raises `UsageError` where the file
    cannot be written; nothing else was done then.
    """
    edit.write()
    report = forth().apply(steps)
    if not report.failed or not edit.changes:
        return Applied(report)
    try:
        edit.restore()
    except KbpgError as error:
        return Applied(report, not_restored=error)
    _await_leader(site)
    return Applied(report, back=back().apply(steps))


def _await_leader(site: Site) -> None:
    """Wait until a node leads, which the way back needs; where none does, or can be asked, the way back says so."""
    names, node = site.context.db_names, NodeFact(site.context.inventory.ports.patroni)
    with suppress(HostError):
        for _ in site.looks(LEADER_DEADLINE, some=names):
            with suppress(NotKnown):
                leader_of(site.look(dict.fromkeys(names, (node,))), node, names)
                return


@dataclass(frozen=True)
class Verified:
    """What every node runs with afterwards, by host; a reason where that cannot be read."""

    in_force: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pending: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Sequence[str] = ()


def verify(site: Site, trials: Mapping[str, Trial]) -> Verified:
    """Read the settings of every node and compare them with what PostgreSQL made of the new values."""
    context = site.context
    names = context.db_names
    server, errors = SettingsFact(context.superuser()), FileErrorsFact(context.superuser())
    facts = site.look(dict.fromkeys(names, (server, errors)))
    problems: list[str] = []
    in_force: dict[str, dict[str, str]] = {}
    pending: dict[str, list[str]] = {}
    for name in names:
        found = _settings(facts, server, name, problems)
        in_force[name] = {key: s.shown for key in trials if (s := found.get(key))}
        pending[name] = [s.name for s in found.values() if s.pending_restart]
        problems += [f"{name}: {key} waits for a restart" for key in pending[name]]
        problems += [f"{name}: {text}" for text in facts.known(errors, name) or ()]
        problems += [
            f"{name}: {key} is {s.shown}: {_source(s)}"
            for key, trial in trials.items()
            if (s := found.get(key)) and _differs(s, trial)
        ]
    return Verified(in_force, pending, problems)


def _settings(
    facts: Facts, fact: SettingsFact, host: str, problems: list[str]
) -> Mapping[str, ServerSetting]:
    try:
        return facts.get(fact, host)
    except NotKnown as silence:
        problems.append(f"{host}: {silence.reason}")
        return {}


def _differs(setting: ServerSetting, trial: Trial) -> bool:
    """Return whether a node runs with another value; -1 often means that PostgreSQL computes one itself."""
    return setting.text != trial.text and trial.text != "-1" and not setting.pending_restart


def _source(setting: ServerSetting) -> str:
    if setting.file.endswith("postgresql.auto.conf"):
        return f"ALTER SYSTEM has set it, ALTER SYSTEM RESET {setting.name} ends that"
    return f"it comes from {setting.file or setting.source}"
