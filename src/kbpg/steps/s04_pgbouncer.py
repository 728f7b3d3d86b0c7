"""Step 04: PgBouncer on each proxy, and in PostgreSQL what it looks passwords up with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.inventory import Host, Inventory
from kbpg.model import CLUSTER, CONTROLLER, Impact, Placed, Stage, State, Step
from kbpg.render import render
from kbpg.resources.auth_query import AuthQuery
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.docker import signalled
from kbpg.resources.file import File
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded
from kbpg.resources.pause_ended import PauseEnded
from kbpg.resources.probe import Probe
from kbpg.resources.rolling import OneProxyAtATime
from kbpg.resources.sql import Role
from kbpg.resources.sql_facts import RowsFact
from kbpg.steps.images import proxy_images
from kbpg.steps.layout import OWNER, PGBOUNCER, POOLER_USER, PROXY_CONTAINERS, layout

ANSWER_DEADLINE = 30.0
"""Seconds until a query comes back through a PgBouncer that was just started."""
STOP_TIMEOUT = 30
"""Seconds for transactions to end after SIGINT."""
SECRETS = "userlist.txt"
COMMAND = ("sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec pgbouncer /etc/pgbouncer/pgbouncer.ini')
"""PgBouncer does not raise its own limit of open files to what the host allows, as HAProxy does."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 04."""
    names = context.proxy_names
    role = Role(context, POOLER_USER, context.credentials.pgbouncer_password)
    return (
        Stage("role", (Placed(CLUSTER, role),)),
        Stage("auth query", (Placed(CLUSTER, AuthQuery(context)),)),
        Stage("images", (Placed(CONTROLLER, Images("proxies", proxy_images(context), names)),)),
        Stage(
            "nodes",
            tuple(p for host in context.inventory.proxies for p in _node(context, host)),
            OneProxyAtATime(partial(_answers, context)),
        ),
        Stage("answers", tuple(Placed(name, _answers(context, name)) for name in names)),
    )


def _node(context: Context, host: Host) -> list[Placed]:
    paths = layout(context)
    marker = paths.marker(PGBOUNCER)
    contents = {
        "pgbouncer.ini": render("pgbouncer/pgbouncer.ini.j2", inventory=context.inventory, host=host),
        SECRETS: render("pgbouncer/userlist.txt.j2", credentials=context.credentials),
    }
    files = [
        File(
            f"{paths.pgbouncer}/{name}",
            text.encode(),
            owner=OWNER,
            mode=0o600,
            secret=name == SECRETS,
            marker=marker,
            impact=Impact.RELOAD,
        )
        for name, text in contents.items()
    ]
    config = Configuration(PGBOUNCER, marker, combined(text.encode() for text in contents.values()))
    container = Container(_container(context, host), PROXY_CONTAINERS, config)
    loaded = Loaded(config, PROXY_CONTAINERS, _reload, files)
    return [Placed(host.name, r) for r in (*files, container, loaded, PauseEnded(context))]


def _container(context: Context, host: Host) -> ContainerSpec:
    _, image = proxy_images(context)
    ports = context.inventory.ports
    return ContainerSpec(
        name=PGBOUNCER,
        image=image.name,
        inputs=image.inputs,
        command=COMMAND,
        mounts=(f"{layout(context).pgbouncer}:/etc/pgbouncer:ro",),
        stop_timeout=STOP_TIMEOUT,
        restart_for=f"{host.address}:{ports.pgbouncer}",
    )


def nofile(inventory: Inventory) -> int:
    """Return the open files PgBouncer needs: one a client, one a server connection, and some.

    Databases that the inventory does not name have pools too: room for a few of them.
    """
    own = inventory.pgbouncer
    listed = own.read_pool_size + sum(2 * database.pool_size for database in inventory.databases)
    return own.max_client_connections + 10 * (own.pool_size + own.reserve_pool_size) + listed + 200


def _reload(site: Site) -> None:
    site.host.run(signalled(PGBOUNCER, "HUP"))


def _answers(context: Context, proxy: str) -> Probe:
    """Return the wait until a query comes back through this PgBouncer, as its own role."""
    login = context.login(POOLER_USER, "pgbouncer_password", "postgres", context.inventory.ports.pgbouncer)
    fact = RowsFact(login, "answers", "select 1", pooled=True, live=True)

    def see(facts: Facts) -> State:
        return {"answers": facts.get(fact, proxy) == ((1,),)}

    name = f"port {login.port} answers"
    evidence = partial(log_lines, name=PGBOUNCER)
    return Probe(
        name, {"answers": True}, see, [(proxy, fact)], deadline=ANSWER_DEADLINE, evidence_of=evidence
    )


STEP = Step(4, "pgbouncer", "PgBouncer on the proxies: transaction pools to the leader", stages)
