"""One db host's Patroni: its files, its container, and that it has loaded them."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import time
from datetime import datetime
from functools import partial

from kbpg import rest
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError
from kbpg.facts import Facts
from kbpg.inventory import Host
from kbpg.layout import DATA_INSIDE, OWNER, PATRONI, PATRONI_STOP, layout
from kbpg.model import Change, Impact, Placed
from kbpg.operations.patroni_change import NotLetIn, change_by_rest
from kbpg.patroni import REST_USER, NodeFact
from kbpg.render import render, templates_directory
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.docker import DB_CONTAINERS, signalled
from kbpg.resources.file import File
from kbpg.resources.loaded import Loaded, LoadedAhead
from kbpg.resources.memory_limit import MemoryLimit
from kbpg.resources.patroni import node_impact
from kbpg.resources.privilege import ALL, Health, memory, pids_limit
from kbpg.steps.certificates import certificate_files, certificates
from kbpg.steps.images import patroni_image
from kbpg.tuning import max_connections

SECRETS = "secrets.yml"
"""Patroni merges all files of its directory; the passwords are in this one alone."""
WATCHDOG = "watchdog.py"
"""Starts Patroni, and ends a leader whose Patroni stands still: docs/adr/0016-watchdog.md."""
RELOAD_POSTGRESQL = '[ ! -e "$PGDATA/postmaster.pid" ] || kill -HUP "$(head -n 1 "$PGDATA/postmaster.pid")"'
ROUND_MARGIN = 1.0
"""Seconds by which a round of Patroni may be late before a reload that was asked for counts as done."""
TRANSPORT_MARGIN = 10.0
"""Seconds besides two rounds of Patroni for its REST API to speak as its files say."""
FORMER = "it still shows its former certificate"
SHM_SIZE = 8 << 30
"""Bytes of /dev/shm, a limit and not a reservation: a parallel HNSW build takes all of `maintenance_work_mem` there
at once (up to 2 GB, tuning.py), and parallel hash joins their `work_mem` each."""


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
    own = [_file(context, name, text, marker) for name, text in _contents(context, host).items()]
    # the certificates first: what is written after them names them
    return [*certificates(context, host, layout(context).patroni, marker), *own]


def node_of(context: Context, host: Host) -> list[Placed]:
    """Return the container on `host`, that its memory has no limit (ADR 0019), and that it has loaded its files."""
    container, loaded = _program(context, host)
    limit = MemoryLimit(container.spec, DB_CONTAINERS)
    return [Placed(host.name, resource) for resource in (container, limit, loaded)]


def ahead_of(context: Context, host: Host) -> Placed:
    """Return the reload of a Patroni that will be restarted: its pg_hba knows new hosts before they want to clone."""
    container, loaded = _program(context, host)
    return Placed(host.name, LoadedAhead(loaded, container, NodeFact(context.inventory.ports.patroni)))


def _program(context: Context, host: Host) -> tuple[Container, Loaded]:
    marker = layout(context).marker(PATRONI)
    contents = [*_contents(context, host).values(), *certificate_files(context, host).values()]
    config = Configuration(PATRONI, marker, combined(contents))
    node = NodeFact(context.inventory.ports.patroni)
    container = NodeContainer(_container(context, host), config, node)
    return container, Loaded(config, DB_CONTAINERS, partial(_reload, context), files_of(context, host))


def _contents(context: Context, host: Host) -> dict[str, bytes]:
    """Return what Patroni reads at every reload, by file name."""
    return {
        "patroni.yml": settings_of(context, host).encode(),
        SECRETS: secrets_of(context, host).encode(),
        WATCHDOG: _watchdog(),
    }


def settings_of(context: Context, host: Host) -> str:
    """Return Patroni's configuration on `host`, but for the passwords."""
    return render("patroni/patroni.yml.j2", inventory=context.inventory, host=host, tls=context.transport)


def secrets_of(context: Context, host: Host) -> str:
    """Return Patroni's passwords, as it reads them on `host`."""
    return render(
        "patroni/secrets.yml.j2",
        inventory=context.inventory,
        host=host,
        credentials=context.credentials,
        rest_user=REST_USER,
        tls=context.transport,
    )


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
            f"{paths.data}:{DATA_INSIDE}:rw",
            f"{paths.raft}:/var/lib/raft:rw",
            f"{paths.patroni}:/etc/patroni:ro",
            *(f"{path}:{path}:rw" for path in context.inventory.postgresql.mounts),
        ),
        stop_timeout=PATRONI_STOP,
        shm_size=SHM_SIZE,
        # The first: the socket, password files of Patroni's and of `kbpg psql`. The second: what initdb and
        # patronictl write for themselves, and Python's temporary files.
        tmpfs=(memory("/run/postgresql", 16, "0755"), memory("/tmp", 64, "1777")),  # noqa: S108
        restart_for=_restart_for(context, host),
        user=OWNER,
        read_only=True,
        cap_drop=ALL,
        pids_limit=pids_limit(max_connections(context.inventory)),
        health=Health(_ready(context.inventory.cluster.superuser)),
    )


def _ready(superuser: str) -> str:
    """Return the question whether PostgreSQL takes connections, in words of the container's shell.

    The port is that of the running server: line 4 of its pid file (src/include/utils/pidfile.h). pg_isready needs no
    password, but a role without a line in pg_hba.conf would leave an error in the log each time.
    """
    port = 'port=$(sed -n 4p "$PGDATA/postmaster.pid")'
    return f'{port} && pg_isready -t 3 -h /run/postgresql -p "$port" -d postgres -U {shlex.quote(superuser)}'


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
    # Patroni reloads PostgreSQL where its settings have changed; a renewed certificate is none
    site.host.run(["docker", "exec", PATRONI, "sh", "-c", RELOAD_POSTGRESQL])
    _await_transport(context, site)


def _await_transport(context: Context, site: Site) -> None:
    """Wait until the REST API speaks as its files say: it loads them in Patroni's next round. Raises `HostError`.

    Where they have another certificate, too: it closes its port to take it, and whoever asks then hears nobody. It
    takes none in a round that finds its configuration changed as well (`local or sighup and
    reload_local_certificate()`, patroni/__main__.py, 4.1.5), so after such a round it is asked to reload once more.
    """
    one_round = context.inventory.timers.loop_wait + ROUND_MARGIN
    began = asked = time.monotonic()
    while True:
        try:
            problem = _behind(
                context, site.place, rest.certificate(site.host, context.inventory.ports.patroni)
            )
            if not problem:
                return
        except OSError as error:
            problem = str(error) or type(error).__name__
        now = time.monotonic()
        if now - began > 2 * one_round + TRANSPORT_MARGIN:
            raise HostError(site.place, f"Patroni's REST API did not take its new settings: {problem}")
        if problem == FORMER and now - asked > one_round:
            site.host.run(signalled(PATRONI, "HUP"))
            asked = now
        time.sleep(0.2)


def _behind(context: Context, host: str, shown: str | None) -> str:
    """Return what a REST API that shows this certificate (PEM; None: none) has not taken of its files yet, or ""."""
    if (shown is not None) != context.transport.rest:
        return "it still speaks TLS" if shown else "it does not speak TLS"
    own = "".join(context.pki.hosts[host].certificate.decode().split())
    return "" if not shown or "".join(shown.split()) in own else FORMER


def _started_since(context: Context, site: Site) -> bool:
    """Return whether the container was started after its files were written, by the host's own clock."""
    paths = [f"{layout(context).patroni}/{name}" for name in ("patroni.yml", SECRETS)]
    written = site.host.run(["stat", "-c", "%.Y", *paths]).stdout.split()
    started = str(site.facts.get(DB_CONTAINERS)[PATRONI]["State"]["StartedAt"])
    return datetime.fromisoformat(started).timestamp() > max(map(float, written))
