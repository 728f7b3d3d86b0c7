"""Step 01: whether the hosts are fit, all checks at once; then Docker, directories, sysctls, clock, firewall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from kbpg.context import Context
from kbpg.firewall import policy
from kbpg.inventory import Host
from kbpg.inventory.networks import LOOPBACK
from kbpg.layout import (
    HAPROXY,
    OWNER,
    PATRONI,
    PGBOUNCER,
    layout,
)
from kbpg.model import Placed, Resource, Stage, Step
from kbpg.resources import sysctl
from kbpg.resources.datadir import DataDirectoryOwner
from kbpg.resources.directory import Directory
from kbpg.resources.docker import DB_CONTAINERS, PROXY_CONTAINERS
from kbpg.resources.file import File
from kbpg.resources.firewall import FirewallRules
from kbpg.resources.firewall_unit import FirewallUnit
from kbpg.resources.package import Docker, Nftables, TimeService
from kbpg.resources.preflight.ports import Needed
from kbpg.resources.preflight.resource import Preflight
from kbpg.resources.preflight.subject import Needs
from kbpg.steps import s03_haproxy, s04_pgbouncer
from kbpg.tls import DIRECTORY


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 01; with `report` in the inventory, sysctls and clock are left alone."""
    inventory = context.inventory
    hosts, prepare = inventory.hosts, inventory.prepare
    found = [
        Stage(
            "preflight",
            tuple(Placed(h.name, Preflight(context, h, needs(context, h))) for h in hosts),
            requirement=True,
        )
    ]
    if prepare.install_docker:
        found.append(Stage("docker", tuple(Placed(host.name, Docker()) for host in hosts)))
    found.append(Stage("directories", tuple(p for host in hosts for p in _directories(context, host))))
    if prepare.sysctls == "managed":
        found.append(Stage("sysctls", tuple(p for host in hosts for p in _sysctls(host))))
    if prepare.clock == "managed":
        found.append(Stage("clock", tuple(Placed(host.name, TimeService()) for host in hosts)))
    # Before step 02: a new host is let in by all others before it joins
    if prepare.firewall == "managed":
        found.append(Stage("nftables", tuple(Placed(host.name, Nftables()) for host in hosts)))
    found.append(Stage("firewall", tuple(p for host in hosts for p in _firewall(context, host))))
    return found


def needs(context: Context, host: Host) -> Needs:
    """Return what the host's role asks of it."""
    paths, inventory = layout(context), context.inventory
    if host.role == "db":
        rooms, mounts = (paths.data, paths.base), inventory.postgresql.mounts
        return Needs(DB_CONTAINERS, _db_ports(context, host), {}, rooms, mounts)
    files = {
        "HAProxy": s03_haproxy.nofile(inventory.haproxy.max_connections),
        "PgBouncer": s04_pgbouncer.nofile(inventory),
    }
    return Needs(PROXY_CONTAINERS, _proxy_ports(context, host), files, (paths.base,))


def _db_ports(context: Context, host: Host) -> tuple[Needed, ...]:
    ports, at = context.inventory.ports, host.address
    return (
        Needed(ports.postgresql, "PostgreSQL", PATRONI, (at, LOOPBACK)),
        Needed(ports.patroni, "Patroni's REST API", PATRONI, (at,)),
        Needed(ports.raft, "Raft", PATRONI, (at,)),
    )


def _proxy_ports(context: Context, host: Host) -> tuple[Needed, ...]:
    ports, clients = context.inventory.ports, context.inventory.listens_at(host)
    return (
        Needed(ports.primary, "HAProxy to the leader", HAPROXY, clients),
        Needed(ports.replicas, "HAProxy to the replicas", HAPROXY, clients),
        Needed(ports.stats, "HAProxy's statistics", HAPROXY, (host.address,)),
        Needed(ports.pgbouncer, "PgBouncer", PGBOUNCER, clients),
    )


def _directories(context: Context, host: Host) -> list[Placed]:
    paths = layout(context)
    resources: list[Resource] = [
        Directory(paths.base),
        Directory(f"{paths.base}/kbpg", mode=0o700),
        Directory(f"{paths.base}/kbpg/loaded", mode=0o700),
    ]
    if host.role == "db":
        uid, gid = map(int, OWNER.split(":"))
        resources += [
            Directory(f"{paths.base}/postgres"),
            Directory(paths.data, owner=OWNER, mode=0o700),
            Directory(paths.raft, owner=OWNER, mode=0o700),
            Directory(paths.patroni, owner=OWNER, mode=0o700),
            Directory(f"{paths.patroni}/{DIRECTORY}", owner=OWNER, mode=0o700),
            DataDirectoryOwner(paths.pgdata, uid=uid, gid=gid),
        ]
    else:
        # Who runs in the containers has to come in; the files with passwords are 0600 themselves.
        for path in (paths.haproxy, paths.pgbouncer):
            resources += [Directory(path), Directory(f"{path}/{DIRECTORY}", owner=OWNER, mode=0o700)]
    return [Placed(host.name, resource) for resource in resources]


def _sysctls(host: Host) -> list[Placed]:
    settings = sysctl.DATABASE if host.role == "db" else sysctl.NETWORK
    fact = sysctl.fact(settings)
    file = File(
        sysctl.PATH,
        lambda facts: sysctl.content(settings, facts.get(fact, host.name)),
        sources=[(host.name, fact)],
    )
    resources = (Directory(str(PurePosixPath(sysctl.PATH).parent)), file, sysctl.Sysctls(settings))
    return [Placed(host.name, resource) for resource in resources]


def _firewall(context: Context, host: Host) -> list[Placed]:
    """Return the rules, then their file and the unit that loads it at boot; with `off` that none of it is there.

    In this order: what has not proved to leave SSH alone must not come back at the next boot.
    """
    inventory = context.inventory
    path = policy.rules_path(inventory)
    resources: list[Resource]
    if inventory.prepare.firewall == "managed":
        content = policy.rules_file(inventory, host)
        resources = [
            FirewallRules(policy.guarded(inventory, host), content),
            File(path, content, mode=0o600),
            FirewallUnit(policy.unit_file(inventory)),
        ]
    else:
        # The unit first: stopped, it would take the rules with it, and started again bring them back
        resources = [FirewallUnit(), FirewallRules(), File(path, b"", absent=lambda _: True)]
    return [Placed(host.name, resource) for resource in resources]


STEP = Step(
    1, "prepare", "check the hosts, then Docker, directories, kernel settings, clock, firewall", stages
)
