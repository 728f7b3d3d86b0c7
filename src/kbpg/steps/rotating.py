"""The parts of steps 02, 04 and 05 that put passwords into force, in the pieces that a rotation takes."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.context import Context
from kbpg.facts import Facts
from kbpg.layout import POOLER_USER
from kbpg.model import CLUSTER, Placed, Resource, Stage, State, Step
from kbpg.resources.file import File
from kbpg.resources.loaded import Loaded
from kbpg.resources.probe import Probe
from kbpg.resources.sql_facts import RolesFact
from kbpg.steps import databases, s02_patroni, s04_pgbouncer, s05_pgvector
from kbpg.steps.patroni_node import files_of
from kbpg.steps.titled import titled

REPLAY_DEADLINE = 10.0
"""Seconds for the replicas to replay a new verifier while clients wait: half the bound of the pause; a replica that
streams takes milliseconds."""
GATES = (s02_patroni.NOT_PAUSED, s02_patroni.NO_REBUILD_LEFT)
"""Titles of the stages of step 02 that are requirements."""
ROLES = (s02_patroni.SUPERUSER, s02_patroni.ROLES)
LOADED = (s02_patroni.NODES, s02_patroni.FORMED)
"""Titles of the stages of step 02 around Patroni's files, in the order of a rotation: what logs in with an old
password is refused from the ALTER ROLE on, so the files follow at once. `nodes` reloads one Patroni after another."""


def servers(context: Context) -> Sequence[Stage]:
    """Return the stages for the roles that the db hosts themselves log in with, and Patroni's files."""
    every = s02_patroni.stages(context)
    files = tuple(
        Placed(host.name, file) for host in context.inventory.db for file in files_of(context, host)
    )
    return [*titled(every, (*GATES, *ROLES)), Stage("files", files), *titled(every, LOADED)]


def node_file(host: str) -> Step:
    """Return the step that writes Patroni's files on one db host; nothing is loaded."""

    def stages(context: Context) -> Sequence[Stage]:
        files = files_of(context, context.inventory.host(host))
        return (Stage("files", tuple(Placed(host, file) for file in files)),)

    return Step(2, "patroni", f"Patroni's files on {host}", stages)


def pooler_file(context: Context) -> Sequence[Stage]:
    """Return the stages that write PgBouncer's files; nothing is loaded."""
    return (Stage("userlist", _pooler_nodes(context, File)),)


def pooler_switch(context: Context) -> Sequence[Stage]:
    """Return the stages that belong into one pause of the clients: the auth role, the reload, the role on every node.

    The reload does not wait for the nodes: one that lags must not keep PgBouncer from the leader.
    """
    (role,) = titled(s04_pgbouncer.stages(context), (s04_pgbouncer.ROLE,))
    seen = Stage("role on every node", (Placed(CLUSTER, _replayed(context)),))
    return (role, Stage("loaded", _pooler_nodes(context, Loaded)), seen)


def answers(context: Context) -> Sequence[Stage]:
    """Return the wait until every PgBouncer serves."""
    return titled(s04_pgbouncer.stages(context), (s04_pgbouncer.ANSWERS,))


def applications(context: Context) -> Sequence[Stage]:
    """Return the stages for the roles that applications log in with."""
    return titled(s05_pgvector.stages(context), (s05_pgvector.ROLE,), (databases.ROLES,))


def _pooler_nodes(context: Context, kind: type[Resource]) -> tuple[Placed, ...]:
    """Return the resources of this kind of PgBouncer's nodes: the rest of that stage does not belong into a pause."""
    (nodes,) = titled(s04_pgbouncer.stages(context), (s04_pgbouncer.NODES,))
    return tuple(item for item in nodes.items if isinstance(item.resource, kind))


def _replayed(context: Context) -> Probe:
    """Return the wait until every node has the auth role as the leader has it.

    PgBouncer looks the passwords of readers up on replicas: one that has not replayed it would refuse PgBouncer.
    """
    fact, names = RolesFact(context.superuser()), context.db_names

    def see(facts: Facts) -> State:
        verifiers = {(facts.get(fact, name).get(POOLER_USER) or {}).get("verifier") for name in names}
        return {"verifiers": len(verifiers)}

    sources = [(name, fact) for name in names]
    return Probe(f"{POOLER_USER} on every node", {"verifiers": 1}, see, sources, deadline=REPLAY_DEADLINE)


SERVERS_STEP = Step(2, "patroni", "passwords that the db hosts log in with", servers)
POOLER_FILE_STEP = Step(4, "pgbouncer", "PgBouncer's files", pooler_file)
POOLER_SWITCH_STEP = Step(4, "pgbouncer", "PgBouncer's password", pooler_switch)
ANSWERS_STEP = Step(4, "pgbouncer", "every PgBouncer serves", answers)
APPLICATIONS_STEP = Step(5, "pgvector", "passwords that applications log in with", applications)
EVERYTHING = (SERVERS_STEP, POOLER_FILE_STEP, POOLER_SWITCH_STEP, ANSWERS_STEP, APPLICATIONS_STEP)
"""What must be as the old file wants it before a rotation begins: then it changes passwords, and nothing else."""
