"""Step 03: HAProxy on each proxy, 5432 to the leader and 5433 to the replicas."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from kbpg import pooler
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError, LockLost, NotConverged
from kbpg.facts import Facts
from kbpg.inventory import Host, haproxy_memory
from kbpg.inventory.networks import LOOPBACK
from kbpg.layout import HAPROXY, OWNER, PGBOUNCER, layout
from kbpg.model import CONTROLLER, Impact, Placed, Stage, State, Step
from kbpg.render import render
from kbpg.resources.configuration import Configuration, combined
from kbpg.resources.container import Container, ContainerSpec, log_lines
from kbpg.resources.docker import PROXY_CONTAINERS, runs
from kbpg.resources.file import File
from kbpg.resources.image import Images
from kbpg.resources.loaded import Loaded
from kbpg.resources.memory_limit import MemoryLimit
from kbpg.resources.privilege import ALL, SMALL, THROW_AWAY, Health, memory
from kbpg.resources.probe import Probe
from kbpg.resources.rolling import OneProxyAtATime
from kbpg.resources.sql_facts import RowsFact
from kbpg.steps.certificates import certificate_files, certificates
from kbpg.steps.images import proxy_images
from kbpg.tls import DIRECTORY, OLD_SUFFIX

ROUTE_DEADLINE = 30.0
"""Seconds until HAProxy has found the leader: two good checks, so about a second."""
RELOAD_DEADLINE = 20.0
"""Seconds until a HAProxy that was just started takes commands."""
STOP_TIMEOUT = 10
"""Seconds; HAProxy ends its connections at once on SIGTERM."""
HEALTH = Health(
    'echo "show info" | socat -t 2 - UNIX-CONNECT:/run/haproxy/admin.sock | grep -q "^Name: HAProxy"'
)
"""Whether the running worker answers on its socket; whether it has a leader is what its statistics say."""
UP = "2"
"""srv_op_state (HAProxy's management guide, "show servers state")."""
KNOWN = 'cd /run/haproxy && echo "show servers state" | socat -t 2 - ./admin.sock >servers.state;'
"""The new worker begins with what the old one knows of the servers: by itself it takes all for up until its first
checks, and sends writes to replicas."""
TWICE = f" sed -i -E 's/^([0-9]+ [^ ]+ [0-9]+ [^ ]+)( .*)$/&\\n\\1{OLD_SUFFIX}\\2/' servers.state;"
"""What is known of a server is known of the one that is checked the old way, too."""
TOO_EARLY = (
    f""" awk '$2 == "primary" {{ if ($4 ~ /\\{OLD_SUFFIX}$/) old = 1; else if ($6 == {UP}) up = 1 }}"""
    """ END { exit !(old && !up) }' servers.state && rm servers.state && exit;"""
)
"""Where nodes are checked both ways, until one is up by the check that stays: without it nobody would be."""
RELOAD = " echo reload | socat -t 15 - ./master.sock; rm -f servers.state"
"""The master answers `Success=1` once the new worker runs, or says why it kept the old one."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 03."""
    names = context.proxy_names
    return (
        Stage("images", (Placed(CONTROLLER, Images("proxies", proxy_images(context), names)),)),
        Stage(
            "nodes",
            tuple(p for host in context.inventory.proxies for p in _node(context, host)),
            OneProxyAtATime(partial(route, context)),
        ),
        Stage("routes", tuple(Placed(name, route(context, name)) for name in names)),
    )


def _node(context: Context, host: Host) -> list[Placed]:
    paths = layout(context)
    text = render(
        "haproxy/haproxy.cfg.j2", inventory=context.inventory, host=host, tls=context.transport
    ).encode()
    marker = paths.marker(HAPROXY)
    trusted = certificates(context, host, paths.haproxy, marker, bundle=True)
    file = File(
        f"{paths.haproxy}/haproxy.cfg",
        text,
        owner=OWNER,
        mode=0o640,
        check=partial(_check, context),
        marker=marker,
        impact=Impact.RELOAD,
    )
    config = Configuration(
        HAPROXY, marker, combined([text, *certificate_files(context, host, bundle=True).values()])
    )
    spec = _container(context)
    container, limit = Container(spec, PROXY_CONTAINERS, config), MemoryLimit(spec, PROXY_CONTAINERS)
    loaded = Loaded(config, PROXY_CONTAINERS, partial(_reload, context), [*trusted, file])
    return [Placed(host.name, resource) for resource in (*trusted, file, container, limit, loaded)]


def _container(context: Context) -> ContainerSpec:
    image, _ = proxy_images(context)
    return ContainerSpec(
        name=HAPROXY,
        image=image.name,
        inputs=image.inputs,
        command=(
            "haproxy",
            "-W",
            "-db",
            "-S",
            "/run/haproxy/master.sock,mode,600",
            "-f",
            "/etc/haproxy/haproxy.cfg",
        ),
        mounts=(f"{layout(context).haproxy}:/etc/haproxy:ro",),
        stop_timeout=STOP_TIMEOUT,
        tmpfs=(memory("/run/haproxy", 4),),  # its sockets, and the servers' state during a reload
        user=OWNER,
        read_only=True,
        cap_drop=ALL,
        pids_limit=SMALL,
        health=HEALTH,
        memory=haproxy_memory(context.inventory),
    )


def nofile(connections: int) -> int:
    """Return the open files HAProxy needs: two a connection, and some (measured: 10,000 need 20,034).

    The container gets the host's limit, up to which HAProxy raises its own; a limit of its own would mean a
    restart for every change of `max_connections`, where a reload does.
    """
    return 2 * connections + 200


def _check(context: Context, site: Site, content: bytes) -> None:
    """Let the program itself read the new configuration before the running HAProxy sees it.

    That is a process of its own: beside the running one if its container has the wanted image, which saves
    0.3 s, else in a throw-away container without a network. Raises `NotConverged` with what HAProxy says.
    """
    image, _ = proxy_images(context)
    running, spec = site.facts.get(PROXY_CONTAINERS).get(HAPROXY), _container(context)
    beside = running is not None and spec.found(running) == spec.state()
    trusted = f"--volume={layout(context).haproxy}/{DIRECTORY}:/etc/haproxy/{DIRECTORY}:ro"
    apart = ["docker", "run", "--interactive", *THROW_AWAY, trusted, image.name]
    argv = ["docker", "exec", "--interactive", HAPROXY] if beside else apart
    output = site.host.run([*argv, "haproxy", "-c", "-q", "-f", "/dev/stdin"], stdin=content, check=False)
    if not output.ok:
        said = (output.stdout + output.stderr).strip().splitlines()[-8:]
        raise NotConverged("HAProxy would not load the new configuration", detail=said)


def _reload_command(context: Context, anyway: bool) -> list[str]:
    both = TWICE if context.transport.between else "" if anyway else TOO_EARLY
    return ["docker", "exec", HAPROXY, "sh", "-c", KNOWN + both + RELOAD]


def _reload(context: Context, site: Site) -> None:
    """Reload without dropping a connection, then make the PgBouncers open new ones.

    The old worker keeps its connections but checks no servers any more (haproxy issue 3330), so those of
    the PgBouncers must not stay on it: of this proxy's, and of one that came here when its own HAProxy was away.
    Raises `HostError`, also where this proxy's PgBouncer does not take it: once the marker is there, nothing would
    move its connections away. What is wrong with another's is said: a proxy does not need the others to be well.
    """
    ends = time.monotonic() + RELOAD_DEADLINE
    while True:
        late = time.monotonic() > ends
        output = site.host.run(_reload_command(context, anyway=late), check=False, timeout=30.0)
        if "Success=1" in output.stdout:
            break
        if late:
            said = (output.stdout + output.stderr).strip().splitlines()[-8:]
            raise HostError(site.place, "HAProxy did not reload", detail=[*said, *log_lines(site, HAPROXY)])
        time.sleep(0.2)
    for name in context.proxy_names:
        if name in site.hosts and runs(site.facts.known(PROXY_CONTAINERS, name), PGBOUNCER):
            _reconnect(context, site, name)


def _reconnect(context: Context, site: Site, name: str) -> None:
    """Reconnect a PgBouncer that is connected through this place's HAProxy. Raises `HostError`, see `_reload`."""
    mine = name == site.place
    try:
        pooler.reconnect(context, site.hosts[name], through=LOOPBACK if mine else site.host.address)
    except HostError as error:
        if mine or isinstance(error, LockLost):
            raise
        site.say(
            f"{error.message}; connections that it has through {site.place} stay on the old worker there"
        )


def route(context: Context, proxy: str) -> Probe:
    """Return the wait until this proxy's port leads to a PostgreSQL that takes writes."""
    user, port = context.credentials.superuser, context.inventory.ports.primary
    login = context.login(user, "superuser_password", "postgres", port)
    fact = RowsFact(login, "route", "select not pg_is_in_recovery()", live=True)

    def see(facts: Facts) -> State:
        return {"writable": bool(facts.get(fact, proxy)[0][0])}

    name = f"port {login.port} leads to the leader"
    evidence = partial(log_lines, name=HAPROXY)
    return Probe(
        name, {"writable": True}, see, [(proxy, fact)], deadline=ROUTE_DEADLINE, evidence_of=evidence
    )


STEP = Step(3, "haproxy", "HAProxy on the proxies: one port to the leader, one to the replicas", stages)
