"""Step 02: the Patroni image, one container on each db host, and a cluster of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from kbpg import patroni
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts
from kbpg.inventory import Host
from kbpg.model import CLUSTER, CONTROLLER, Impact, Placed, Stage, State, Step
from kbpg.operations.patroni_change import change_by_rest
from kbpg.patroni import REST_USER, NodeFact
from kbpg.render import render
from kbpg.resources.birth import Removed, born, signs
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.file import File
from kbpg.resources.identity import Claimed, Identified
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded, LoadedAhead
from kbpg.resources.patroni import (
    DynamicConfig,
    PendingRestart,
    host_facts,
    wanted_configuration,
)
from kbpg.resources.pause import NotPaused
from kbpg.resources.probe import Probe
from kbpg.resources.rewind import RewindRights
from kbpg.resources.rolling import OneNodeAtATime, RestartOrder
from kbpg.resources.sql import Role
from kbpg.resources.superuser import SuperuserAccess
from kbpg.steps.images import patroni_image
from kbpg.steps.layout import DB_CONTAINERS, OWNER, PATRONI, REPLICATION_USER, REWIND_USER, layout

FORM_DEADLINE = 180.0
"""Seconds until one node leads and the others stream; a basebackup of a large cluster takes longer, and the
next run goes on waiting. Measured on empty hosts: 7 s."""
STOP_TIMEOUT = 120
"""Seconds for a clean shutdown of PostgreSQL, its last checkpoint included, before Docker kills it."""
SECRETS = "secrets.yml"
"""Patroni merges all files of its directory; the passwords are in this one alone."""
SHM_SIZE = 1 << 30
"""Bytes of /dev/shm, a limit and not a reservation: parallel queries and HNSW builds share memory there."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 02."""
    names, hosts = context.db_names, context.inventory.db
    rollout = OneNodeAtATime(context)
    node = NodeFact(context.inventory.ports.patroni)
    return (
        Stage("not paused", tuple(Placed(name, NotPaused(context)) for name in names), requirement=True),
        Stage("image", (Placed(CONTROLLER, Images(PATRONI, [patroni_image(context)], names)),)),
        Stage("claim", tuple(Placed(name, Claimed(context)) for name in names)),
        Stage(
            "files",
            (
                *(Placed(host.name, file) for host in hosts for file in _files(context, host)),
                Placed(context.inventory.first_db.name, _bootstrap(context)),
            ),
        ),
        Stage("ahead", tuple(_ahead(context, host) for host in hosts)),
        Stage("nodes", tuple(p for host in hosts for p in _node(context, host)), rollout),
        Stage("cluster", (Placed(CLUSTER, _formed(context)),)),
        Stage("identity", tuple(Placed(name, Identified(context, node)) for name in names)),
        Stage("born", (Placed(context.inventory.first_db.name, Removed(_bootstrap(context).path)),)),
        Stage("superuser", (Placed(CLUSTER, SuperuserAccess(context)),)),
        Stage("configuration", (Placed(CLUSTER, DynamicConfig(context)),)),
        Stage(
            "restarts", tuple(Placed(name, PendingRestart(context)) for name in names), RestartOrder(context)
        ),
        Stage("roles", tuple(Placed(CLUSTER, role) for role in _roles(context))),
        Stage("rewind", (Placed(CLUSTER, RewindRights(context, REWIND_USER)),)),
    )


def _files(context: Context, host: Host) -> list[File]:
    marker = layout(context).marker(PATRONI)
    return [_file(context, name, text, marker) for name, text in _contents(context, host).items()]


def _node(context: Context, host: Host) -> list[Placed]:
    return [Placed(host.name, resource) for resource in _program(context, host)]


def _ahead(context: Context, host: Host) -> Placed:
    """Return the reload of a Patroni that will be restarted: its pg_hba knows new hosts before they want to clone."""
    container, loaded = _program(context, host)
    return Placed(host.name, LoadedAhead(loaded, container, NodeFact(context.inventory.ports.patroni)))


def _program(context: Context, host: Host) -> tuple[Container, Loaded]:
    marker = layout(context).marker(PATRONI)
    config = Configuration(PATRONI, marker, combined(_contents(context, host).values()))
    container = Container(_container(context, host), DB_CONTAINERS, config)
    return container, Loaded(config, DB_CONTAINERS, partial(_reload, context), _files(context, host))


def _contents(context: Context, host: Host) -> dict[str, bytes]:
    """Return what Patroni reads at every reload, by file name."""
    inventory = context.inventory
    settings = render("patroni/patroni.yml.j2", inventory=inventory, host=host)
    secrets = render(
        "patroni/secrets.yml.j2",
        inventory=inventory,
        host=host,
        credentials=context.credentials,
        rest_user=REST_USER,
    )
    return {"patroni.yml": settings.encode(), SECRETS: secrets.encode()}


def _file(context: Context, name: str, content: bytes, marker: str) -> File:
    return File(
        f"{layout(context).patroni}/{name}",
        content,
        owner=OWNER,
        mode=0o600,
        secret=name == SECRETS,
        marker=marker,
        impact=Impact.RELOAD,
    )


def _bootstrap(context: Context) -> File:
    """Return the file that only the first db host has, and only until the cluster is born.

    Patroni initialises a cluster wherever it is; a later stage removes it, so that nothing gives birth twice. A
    Patroni that was started without it has to reload to see it: hence the marker.
    """

    def content(facts: Facts) -> bytes:
        dynamic = wanted_configuration(context, facts)
        return render("patroni/bootstrap.yml.j2", inventory=context.inventory, dynamic=dynamic).encode()

    path = f"{layout(context).patroni}/bootstrap.yml"
    sources = [*((name, fact) for name in context.db_names for fact in host_facts(context)), *signs(context)]
    return File(
        path,
        content,
        owner=OWNER,
        mode=0o600,
        marker=layout(context).marker(PATRONI),
        sources=sources,
        absent=partial(born, context),
    )


def _container(context: Context, host: Host) -> ContainerSpec:
    paths, image = layout(context), patroni_image(context)
    return ContainerSpec(
        name=PATRONI,
        image=image.name,
        inputs=image.inputs,
        command=("patroni", "/etc/patroni"),
        mounts=(
            f"{paths.data}:/var/lib/postgresql/data:rw",
            f"{paths.raft}:/var/lib/raft:rw",
            f"{paths.patroni}:/etc/patroni:ro",
        ),
        stop_timeout=STOP_TIMEOUT,
        shm_size=SHM_SIZE,
        tmpfs=("/run/postgresql:uid=999,gid=999,mode=0755",),  # the socket, and a password file of Patroni's
        restart_for=_restart_for(context, host),
    )


def _restart_for(context: Context, host: Host) -> str:
    """Return a digest of what Patroni reads only when it starts: its name, scope and Raft's addresses."""
    ports = context.inventory.ports
    members = sorted(f"{each.address}:{ports.raft}" for each in context.inventory.db)
    parts = [context.inventory.cluster.name, host.name, host.address, ports.patroni, *members]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _reload(context: Context, site: Site) -> None:
    """Ask Patroni to read its files. Raises `HostError`, with its log where it does not answer.

    One that only starts answers nobody before Raft has a quorum, which may need the other nodes. It has read
    the files if its container was started after they were written, as when a run was killed between the two.
    """
    try:
        change_by_rest(context, site.host, "POST", "/reload", {})
    except HostError as error:
        if isinstance(error.__cause__, OSError) and _started_since(context, site):
            return
        error.detail = (*error.detail, *log_lines(site, PATRONI))
        raise


def _started_since(context: Context, site: Site) -> bool:
    """Return whether the container was started after its files were written, by the host's own clock."""
    paths = [f"{layout(context).patroni}/{name}" for name in ("patroni.yml", SECRETS)]
    written = site.host.run(["stat", "-c", "%.Y", *paths]).stdout.split()
    started = str(site.facts.get(DB_CONTAINERS)[PATRONI]["State"]["StartedAt"])
    return datetime.fromisoformat(started).timestamp() > max(map(float, written))


def _formed(context: Context) -> Probe:
    """Return the wait for one leader and every other node streaming from it."""
    names = context.db_names
    node = NodeFact(context.inventory.ports.patroni)

    def see(facts: Facts) -> State:
        leader = patroni.leader_of(facts, node, names)
        streaming = patroni.streaming_of(facts, node, leader)
        return {"leaders": 1, "streaming": len([n for n in names if n in streaming])}

    def evidence(site: Site) -> list[str]:
        lines = []
        for name in names:
            found = site.facts.known(node, name)
            shown = f"{found.role}, {found.state}" if found else "no answer from Patroni"
            lines += [f"{name}: {shown}", *(f"  {line}" for line in log_lines(site, PATRONI, name))]
        return lines

    wanted: State = {"leaders": 1, "streaming": len(names) - 1}
    sources = [(name, node) for name in names]
    title = f"1 leader, {len(names) - 1} streaming"
    return Probe(title, wanted, see, sources, deadline=FORM_DEADLINE, evidence_of=evidence)


def _roles(context: Context) -> list[Role]:
    """Return the roles that Patroni made when the cluster was born: their passwords must stay in step."""
    credentials = context.credentials
    return [
        # initdb gives its superuser REPLICATION too
        Role(
            context,
            credentials.superuser,
            credentials.superuser_password,
            superuser=True,
            replication=True,
        ),
        Role(context, REPLICATION_USER, credentials.replication_password, replication=True),
        Role(context, REWIND_USER, credentials.rewind_password),
    ]


STEP = Step(2, "patroni", "build the Patroni image, start the cluster, wait until it is whole", stages)
