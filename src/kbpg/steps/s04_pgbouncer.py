"""Step 04: PgBouncer on each proxy, and in PostgreSQL what it looks passwords up with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from kbpg import pooler
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts
from kbpg.inventory import Host, Inventory, pgbouncer_memory, pooled_connections
from kbpg.layout import OWNER, PGBOUNCER, POOLER_USER, layout
from kbpg.model import CLUSTER, CONTROLLER, Impact, Placed, Stage, State, Step
from kbpg.operations.waiting_clients import WaitingClients
from kbpg.render import render
from kbpg.resources.auth_query import AuthQuery
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.docker import PROXY_CONTAINERS, signalled
from kbpg.resources.file import File
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded
from kbpg.resources.memory_limit import MemoryLimit
from kbpg.resources.pause_ended import PauseEnded
from kbpg.resources.privilege import ALL, SMALL, Health, memory
from kbpg.resources.probe import Probe
from kbpg.resources.rolling import OneProxyAtATime
from kbpg.resources.sql import Role
from kbpg.resources.sql_facts import RowsFact
from kbpg.steps.certificates import certificate_files, certificates
from kbpg.steps.images import proxy_images

ANSWER_DEADLINE = 30.0
"""Seconds until a query comes back through a PgBouncer that was just started."""
RELOAD_DEADLINE = 5.0
"""Seconds for a reload; it takes milliseconds."""
ATTEMPTS = 3
"""Times that clients are made to wait, where transactions do not end."""
STOP_TIMEOUT = 30
"""Seconds for transactions to end after SIGINT."""
SECRETS = "userlist.txt"
COMMAND = ("sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec pgbouncer /etc/pgbouncer/pgbouncer.ini')
"""PgBouncer does not raise its own limit of open files to what the host allows, as HAProxy does."""


ROLE, NODES, ANSWERS = "role", "nodes", "answers"
"""Titles of stages that a rotation takes by themselves."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 04."""
    names = context.proxy_names
    role = Role(context, POOLER_USER, context.credentials.pgbouncer_password)
    return (
        Stage(ROLE, (Placed(CLUSTER, role),)),
        Stage("auth query", (Placed(CLUSTER, AuthQuery(context)),)),
        Stage("images", (Placed(CONTROLLER, Images("proxies", proxy_images(context), names)),)),
        Stage(
            NODES,
            tuple(p for host in context.inventory.proxies for p in _node(context, host)),
            OneProxyAtATime(partial(_answers, context)),
        ),
        Stage(ANSWERS, tuple(Placed(name, _answers(context, name)) for name in names)),
    )


def _node(context: Context, host: Host) -> list[Placed]:
    paths = layout(context)
    marker = paths.marker(PGBOUNCER)
    contents = {
        "pgbouncer.ini": render(
            "pgbouncer/pgbouncer.ini.j2", inventory=context.inventory, host=host, tls=context.transport
        ),
        SECRETS: render("pgbouncer/userlist.txt.j2", credentials=context.credentials),
    }
    trusted = certificates(context, host, paths.pgbouncer, marker)
    files = [
        *trusted,
        *(
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
        ),
    ]
    read = [*(text.encode() for text in contents.values()), *certificate_files(context, host).values()]
    config = Configuration(PGBOUNCER, marker, combined(read))
    spec = _container(context, host)
    container, limit = Container(spec, PROXY_CONTAINERS, config), MemoryLimit(spec, PROXY_CONTAINERS)
    loaded = Loaded(config, PROXY_CONTAINERS, partial(_reload, context), files)
    return [Placed(host.name, r) for r in (*files, container, limit, loaded, PauseEnded(context))]


def _container(context: Context, host: Host) -> ContainerSpec:
    _, image = proxy_images(context)
    # What it opens when it starts; 127.0.0.1, where it is one, is as old as the container
    ports, at = context.inventory.ports, context.inventory.listens_at(host)[0]
    return ContainerSpec(
        name=PGBOUNCER,
        image=image.name,
        inputs=image.inputs,
        command=COMMAND,
        mounts=(f"{layout(context).pgbouncer}:/etc/pgbouncer:ro",),
        stop_timeout=STOP_TIMEOUT,
        restart_for=f"{at}:{ports.pgbouncer}",
        tmpfs=(memory("/run/pgbouncer", 1),),  # its Unix socket
        user=OWNER,
        read_only=True,
        cap_drop=ALL,
        pids_limit=SMALL,
        health=Health(_answers_ssl_request(ports.pgbouncer)),
        memory=pgbouncer_memory(context.inventory),
    )


def _answers_ssl_request(port: int) -> str:
    """Return the question whether PgBouncer answers on its Unix socket, in words of the container's shell.

    It is PostgreSQL's SSLRequest, 8 bytes: the length and 80877103 (protocol documentation, 55.7). The answer is
    N or S, before anybody asks for a name or a password, and PgBouncer's log is silent about it.
    """
    request = r"printf '\000\000\000\010\004\322\026\057'"
    return f"{request} | socat -t 2 - UNIX-CONNECT:/run/pgbouncer/.s.PGSQL.{port} | grep -q '[NS]'"


def nofile(inventory: Inventory) -> int:
    """Return the open files PgBouncer needs: one a connection, and some."""
    return pooled_connections(inventory) + 200


def _reload(context: Context, site: Site) -> None:
    """Reload, and let every server connection be opened anew once its transaction has ended.

    A connection keeps the password and the encryption that it began with. Where the encryption itself changes, a
    reload closes connections amid their login, and clients that wait for one are told so ("connect string changed",
    seen with 1.24.1): no connection is opened while clients wait in PAUSE, so then it is made there. Raises
    `HostError`.
    """
    if _encryption(context, site) == context.transport.pooler:
        site.host.run(signalled(PGBOUNCER, "HUP"))
        pooler.reconnect(context, site.host)
        return
    for _ in range(ATTEMPTS):
        with WaitingClients(site, [site.place], "a change of tls", lenient=True) as clients:
            if clients.pause():
                _reload_encryption(context, site)
                return
    site.say(f"{site.place}: transactions do not end, so some clients may see an error")
    _reload_encryption(context, site)


def _reload_encryption(context: Context, site: Site) -> None:
    """Reload, and return when the new encryption is in force. Raises `HostError`."""
    ends = time.monotonic() + RELOAD_DEADLINE
    site.host.run(signalled(PGBOUNCER, "HUP"))
    while _encryption(context, site) != context.transport.pooler:
        if time.monotonic() > ends:
            raise HostError(
                site.place, "PgBouncer did not take its new configuration", detail=log_lines(site, PGBOUNCER)
            )
        time.sleep(0.05)
    pooler.reconnect(context, site.host)


def _encryption(context: Context, site: Site) -> str:
    """Return what PgBouncer asks of PostgreSQL now (server_tls_sslmode), "" where it does not say."""
    rows = pooler.shown(context, site.host, "CONFIG")
    return next((str(row["value"]) for row in rows if row["key"] == "server_tls_sslmode"), "")


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
