"""What each kind of repair does. Every one looks again before it acts, and raises instead of guessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kbpg import pooler
from kbpg.engine.outcome import Listener
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import KbpgError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.health.finding import Action, Repair
from kbpg.health.questions import PoolerFact
from kbpg.health.repair.daemon import start_docker
from kbpg.layout import PATRONI
from kbpg.model import CLUSTER, CONTROLLER, Status, Step
from kbpg.operations.patroni_change import change_by_rest
from kbpg.operations.pausing import resume
from kbpg.operations.raft_log import renew
from kbpg.operations.raft_members import remove_member
from kbpg.operations.raft_note import refuse_amid_rebuild
from kbpg.operations.reinit import await_streaming, reinitialize, restart_patroni, start_container
from kbpg.patroni import NodeFact, leader_of
from kbpg.pki import demand_written
from kbpg.render import sql_identifier
from kbpg.resources.docker import DB_CONTAINERS

PATIENCE = 10.0
"""Seconds for a replica to come back by itself before its data is replaced: a few of Patroni's loops."""
RETURN_SECONDS = 30.0
"""Seconds for a replica whose data is whole to stream again after its start; measured: 3 to 6 s."""


@dataclass(frozen=True)
class Bench:
    """What repairs work with: the cluster as a place, who is told of a run of the engine, and all steps."""

    site: Site
    listener: Listener | None
    steps: tuple[Step, ...]


Act = Callable[[Bench, Repair], str]
"""Does it and returns what was done, in words. Raises `KbpgError`."""


def perform(bench: Bench, repair: Repair) -> str:
    """Do what the repair says and return what was done. Raises `KbpgError`, `Refused` where it is not safe."""
    return ACTS[repair.action](bench, repair)


def _apply_step(bench: Bench, repair: Repair) -> str:
    number = int(repair.parameters["step"])
    step = next(each for each in bench.steps if each.number == number)
    after = [each for each in bench.steps if each.number < number]
    site = bench.site
    if number:
        demand_written(site.context.pki, site.context.inventory.pki_path)
    context = replace(site.context, limit=_limit(site, repair.host))
    run = Run(context, site.hosts, site.controller, bench.listener)
    report = run.apply((step,), after)
    failed = report.of(Status.FAILED)
    if failed:
        error = failed[0].error
        text = error.message if error else "; ".join(failed[0].lines)
        raise NotConverged(f"{failed[0].title}: {text}", detail=error.detail if error else ())
    return f"step {step.label} on {repair.host}: {len(report.of(Status.CHANGED))} changed"


def _limit(site: Site, host: str) -> frozenset[str]:
    """Return the hosts that a step works on: one, or all that are connected."""
    if host not in (CLUSTER, CONTROLLER):
        return frozenset((host,))
    everything = {each.name for each in site.context.inventory.hosts}
    return frozenset(site.hosts) if everything - set(site.hosts) else frozenset()


def _start_docker(bench: Bench, repair: Repair) -> str:
    return start_docker(bench.site.hosts[repair.host])


def _start_container(bench: Bench, repair: Repair) -> str:
    name = repair.parameters["container"]
    said = start_container(bench.site, repair.host, name)
    if name == PATRONI:
        await_streaming_or_lead(bench.site, repair.host)
    return said


def await_streaming_or_lead(site: Site, host: str) -> None:
    """Wait until the node leads or streams; what keeps it from that is the next finding. Raises nothing."""
    node = NodeFact(site.context.inventory.ports.patroni)
    try:
        facts = site.look(dict.fromkeys(site.context.db_names, (node,)))
        if leader_of(facts, node, site.context.db_names) != host:
            await_streaming(site, host, seconds=RETURN_SECONDS)
    except (KbpgError, NotKnown) as error:
        site.say(f"{host}: {error}")


def _own_data(bench: Bench, repair: Repair) -> str:
    """Step 01 sets owner and mode; a Patroni that has given up is started again, one that runs is left alone."""
    site, host = bench.site, repair.host
    refuse_amid_rebuild(site, host)
    given = Repair(Action.APPLY_STEP, host, repair.will, parameters={"step": "01"})
    said = _apply_step(bench, given)
    found = site.look({host: (DB_CONTAINERS,)}).get(DB_CONTAINERS, host).get(PATRONI)
    if found is not None and found["State"]["Status"] != "running":
        said += f"; {start_container(site, host, PATRONI)}"
    await_streaming_or_lead(site, host)
    return said


def _reinitialize(bench: Bench, repair: Repair) -> str:
    """What a log says may be over: a replica that comes back by itself within `PATIENCE` keeps its data."""
    site, host = bench.site, repair.host
    try:
        await_streaming(site, host, seconds=PATIENCE)
    except NotConverged:
        return reinitialize(site, host)
    return f"{host} streams again by itself, its data was left alone"


def _restart_patroni(bench: Bench, repair: Repair) -> str:
    said = [_apply_step(bench, repair)] if "step" in repair.parameters else []
    return "; ".join([*said, restart_patroni(bench.site, repair.host)])


def _restart_postgresql(bench: Bench, repair: Repair) -> str:
    """Step 02 restarts what waits for it: one node at a time, the leader last and after a switchover."""
    given = Repair(Action.APPLY_STEP, repair.host, repair.will, parameters={"step": "02"})
    return _apply_step(bench, given)


def _reset_parameter(bench: Bench, repair: Repair) -> str:
    """Patroni is told to reload, not PostgreSQL: so it sees whether a restart is pending."""
    from psycopg.sql import SQL, Identifier

    from kbpg import sql

    site, name = bench.site, repair.parameters["name"]
    host, context = site.hosts[repair.host], site.context
    sql.execute(host, context.superuser(), SQL("ALTER SYSTEM RESET {}").format(Identifier(name)))
    change_by_rest(context, host, "POST", "/reload", {})
    said = f"{name} on {repair.host} was reset"
    if "restart" not in repair.parameters or not _waits_for_restart(site, repair.host):
        return said
    return f"{said}; {_restart_postgresql(bench, repair)}"


def _waits_for_restart(site: Site, host: str) -> bool:
    """Return whether Patroni says so within a few of its loops: it looks 1 s after a reload, then waits."""
    node = NodeFact(site.context.inventory.ports.patroni)
    for _ in site.looks(site.context.inventory.timers.loop_wait + 5, each=[host]):
        found = site.look({host: (node,)}).known(node, host)
        if found and found.pending_restart:
            return True
    return False


def _resume_patroni(bench: Bench, repair: Repair) -> str:
    resume(bench.site)
    return "Patroni's pause was ended"


def _resume_replay(bench: Bench, repair: Repair) -> str:
    from psycopg.sql import SQL

    from kbpg import sql

    site = bench.site
    sql.execute(site.hosts[repair.host], site.context.superuser(), SQL("SELECT pg_wal_replay_resume()"))
    return f"{repair.host} replays again"


def _resume_pooler(bench: Bench, repair: Repair) -> str:
    """RESUME of the whole, RESUME and ENABLE of each database that is held: the first leaves those paused that were
    paused by name, and PgBouncer refuses what is not needed (admin.c)."""
    context, host = bench.site.context, repair.host
    fact = PoolerFact(pooler.console(context))
    shown = bench.site.look({host: (fact,)}).get(fact, host)
    words = ["RESUME"] if shown.state.get("paused") == "yes" else []
    for row in shown.databases:
        held = {key for key in ("paused", "disabled") if str(row.get(key, 0)) not in ("0", "", "None", "no")}
        name = sql_identifier(str(row["name"]))
        words += [f"RESUME {name}"] if "paused" in held else []
        words += [f"ENABLE {name}"] if "disabled" in held else []
    for text in words:
        pooler.command(context, bench.site.hosts[host], text)
    return f"{', '.join(words) or 'nothing was held any more'} on {host}"


def _reconnect_pooler(bench: Bench, repair: Repair) -> str:
    pooler.reconnect(bench.site.context, bench.site.hosts[repair.host])
    return f"RECONNECT on {repair.host}"


def _create_slot(bench: Bench, repair: Repair) -> str:
    from psycopg.sql import SQL, Literal

    from kbpg import sql

    site, leader, slot = bench.site, repair.parameters["leader"], repair.parameters["slot"]
    node = NodeFact(site.context.inventory.ports.patroni)
    now = leader_of(site.look(dict.fromkeys(site.context.db_names, (node,))), node, site.context.db_names)
    if now != leader:
        raise Refused(f"the slot is not created: {now} leads now, not {leader}")
    statement = SQL(
        "SELECT pg_create_physical_replication_slot({slot}, true) WHERE NOT EXISTS"
        " (SELECT FROM pg_replication_slots WHERE slot_name = {slot})"
    ).format(slot=Literal(slot))
    sql.execute(site.hosts[leader], site.context.superuser(), statement)
    await_streaming(site, repair.host)
    return f"slot {slot} was created on {leader}"


def _remove_raft_member(bench: Bench, repair: Repair) -> str:
    member = repair.parameters["member"]
    remove_member(bench.site, member)
    return f"{member} was removed from the consensus"


def _renew_raft_log(bench: Bench, repair: Repair) -> str:
    said = renew(bench.site, repair.host)
    await_streaming_or_lead(bench.site, repair.host)
    return said


ACTS: Mapping[Action, Act] = {
    Action.START_DOCKER: _start_docker,
    Action.START_CONTAINER: _start_container,
    Action.APPLY_STEP: _apply_step,
    Action.OWN_DATA: _own_data,
    Action.REINITIALIZE: _reinitialize,
    Action.RESTART_PATRONI: _restart_patroni,
    Action.RESTART_POSTGRESQL: _restart_postgresql,
    Action.RESET_PARAMETER: _reset_parameter,
    Action.RESUME_PATRONI: _resume_patroni,
    Action.RESUME_REPLAY: _resume_replay,
    Action.RESUME_POOLER: _resume_pooler,
    Action.RECONNECT_POOLER: _reconnect_pooler,
    Action.CREATE_SLOT: _create_slot,
    Action.REMOVE_RAFT_MEMBER: _remove_raft_member,
    Action.RENEW_RAFT_LOG: _renew_raft_log,
}
