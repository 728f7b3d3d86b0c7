"""Step 05: the application's role, database and schema, pgvector on every node, the inventory's own databases."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.context import Context
from kbpg.facts import Facts, NotKnown
from kbpg.model import CLUSTER, Placed, Stage, State, Step
from kbpg.resources.probe import Probe
from kbpg.resources.public_rights import PublicRights
from kbpg.resources.role_settings import Timeouts, application
from kbpg.resources.sql import Database, Extension, Role, Schema, extensions
from kbpg.resources.sql_facts import RowsFact
from kbpg.steps import databases

REPLAY_DEADLINE = 30.0
"""Seconds until a replica has replayed what the leader just did; measured: milliseconds."""
QUERY_DEADLINE = 30.0
"""Seconds until a query as the application comes back: a new pool logs in first."""


ROLE = "role"
"""Title of the stage of the application's role."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 05."""
    cluster, credentials = context.inventory.cluster, context.credentials
    version = context.inventory.versions.pgvector
    timeouts = Timeouts(context, credentials.app_user, application(context))
    return (
        Stage(ROLE, (Placed(CLUSTER, Role(context, credentials.app_user, credentials.app_password)),)),
        Stage("timeouts", (Placed(CLUSTER, timeouts),)),
        *databases.roles(context),
        Stage("database", (Placed(CLUSTER, Database(context, cluster.database, credentials.app_user)),)),
        Stage(
            "extension",
            (
                Placed(
                    CLUSTER, Schema(context, cluster.database, credentials.app_user, credentials.app_user)
                ),
                Placed(CLUSTER, Extension(context, cluster.database, "vector", version)),
                *(Placed(CLUSTER, PublicRights(context, name)) for name in ("postgres", cluster.database)),
            ),
        ),
        *databases.databases(context),
        Stage("every node", tuple(Placed(name, version_here(context, name)) for name in context.db_names)),
        Stage(
            "vector query", tuple(Placed(name, vector_query(context, name)) for name in context.proxy_names)
        ),
    )


def version_here(context: Context, host: str) -> Probe:
    """Return the wait until this node has the extension at the wanted version."""
    fact = extensions(context, context.inventory.cluster.database)
    version = context.inventory.versions.pgvector

    def see(facts: Facts) -> State:
        found = dict(facts.get(fact, host))
        if "vector" not in found:
            raise NotKnown("vector is not there")
        return {"vector": found["vector"]}

    wanted: State = {"vector": version}
    return Probe(f"vector {version} here", wanted, see, [(host, fact)], deadline=REPLAY_DEADLINE)


def vector_query(context: Context, proxy: str) -> Probe:
    """Return the wait until the application gets a distance of vectors through this proxy's PgBouncer."""
    login = context.application(context.inventory.ports.pgbouncer)
    query = "select ('[1,2,3]'::vector <-> '[1,2,4]'::vector)::text"
    fact = RowsFact(login, "vector", query, pooled=True, live=True)

    def see(facts: Facts) -> State:
        return {"distance": facts.get(fact, proxy)[0][0]}

    name = f"a vector query as {login.user} through port {login.port}"
    return Probe(name, {"distance": "1"}, see, [(proxy, fact)], deadline=QUERY_DEADLINE)


STEP = Step(
    5,
    "pgvector",
    "the application's role, database and schema, pgvector on every node; other databases and roles",
    stages,
)
