"""One db host's Patroni: its files, its container, and that it has loaded them."""

from __future__ import annotations

import functools
import hashlib
import json
from datetime import datetime
from functools import partial

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts
from kbpg.inventory import Host
from kbpg.model import Change, Impact, Placed
from kbpg.operations.patroni_change import NotLetIn, change_by_rest
from kbpg.patroni import REST_USER, NodeFact
from kbpg.render import render, templates_directory
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.docker import signalled
from kbpg.resources.file import File
from kbpg.resources.loaded import Loaded, LoadedAhead
from kbpg.resources.patroni import node_impact
from kbpg.steps.images import patroni_image
from kbpg.steps.layout import DB_CONTAINERS, OWNER, PATRONI, layout

STOP_TIMEOUT = 120
"""Seconds for a clean shutdown of PostgreSQL, its last checkpoint included, before Docker kills it."""
SECRETS = "secrets.yml"
"""Patroni merges all files of its directory; the passwords are in this one alone."""
WATCHDOG = "watchdog.py"
"""Starts Patroni, and ends a leader whose Patroni stands still: docs/adr/0016-watchdog.md."""
SHM_SIZE = 1 << 30
"""Bytes of /dev/shm, a limit and not a reservation: parallel queries and HNSW builds share memory there."""


class NodeContainer(Container):
    """Patroni's container: one that leads is replaced after a switchover."""

    def __init__(self, spec: ContainerSpec, config: Configuration, node: NodeFact) -> None:
        super().__init__(spec, DB_CONTAINERS, config)
        self._node = node
        self.facts = (*self.facts, node)

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return SWITCHOVER where a leader is replaced."""
        impact = super().impact(change, facts)
        return impact if impact < Impact.RESTART else node_impact(facts, self._node)


def files_of(context: Context, host: Host) -> list[File]:
    """Return the files that Patroni on `host` reads when it starts and at every reload."""
    marker = layout(context).marker(PATRONI)
    return [_file(context, name, text, marker) for name, text in _contents(context, host).items()]


def node_of(context: Context, host: Host) -> list[Placed]:
    """Return the container on `host`, and that it has loaded its files."""
    return [Placed(host.name, resource) for resource in _program(context, host)]


def ahead_of(context: Context, host: Host) -> Placed:
    """Return the reload of a Patroni that will be restarted: its pg_hba knows new hosts before they want to clone."""
    container, loaded = _program(context, host)
    return Placed(host.name, LoadedAhead(loaded, container, NodeFact(context.inventory.ports.patroni)))


def _program(context: Context, host: Host) -> tuple[Container, Loaded]:
    marker = layout(context).marker(PATRONI)
    config = Configuration(PATRONI, marker, combined(_contents(context, host).values()))
    node = NodeFact(context.inventory.ports.patroni)
    container = NodeContainer(_container(context, host), config, node)
    return container, Loaded(config, DB_CONTAINERS, partial(_reload, context), files_of(context, host))


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
    return {"patroni.yml": settings.encode(), SECRETS: secrets.encode(), WATCHDOG: _watchdog()}


@functools.cache
def _watchdog() -> bytes:
    return (templates_directory() / "patroni" / WATCHDOG).read_bytes()


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


def _container(context: Context, host: Host) -> ContainerSpec:
    paths, image = layout(context), patroni_image(context)
    return ContainerSpec(
        name=PATRONI,
        image=image.name,
        inputs=image.inputs,
        command=("python3", f"/etc/patroni/{WATCHDOG}", "patroni", "/etc/patroni"),
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
    """Return a digest of what is read only at the start: name, scope, Raft's addresses, the watchdog."""
    ports = context.inventory.ports
    members = sorted(f"{each.address}:{ports.raft}" for each in context.inventory.db)
    parts = [context.inventory.cluster.name, host.name, host.address, ports.patroni, *members]
    parts.append(hashlib.sha256(_watchdog()).hexdigest())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _reload(context: Context, site: Site) -> None:
    """Ask Patroni to read its files. Raises `HostError`, with its log where it does not answer.

    One that only starts answers nobody before Raft has a quorum, which may need the other nodes. It has read
    the files if its container was started after they were written, as when a run was killed between the two. One
    that does not know this password yet, which was changed in the credentials file, gets SIGHUP, which asks for none:
    tini, the container's first process, passes it on.
    """
    try:
        change_by_rest(context, site.host, "POST", "/reload", {})
    except NotLetIn:
        site.host.run(signalled(PATRONI, "HUP"))
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
