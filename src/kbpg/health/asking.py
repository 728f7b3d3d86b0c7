"""Every question of a diagnosis: what the steps ask, and what only a diagnosis does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbpg import pooler
from kbpg.adoption.proof import Proof
from kbpg.facts import Fact, Facts, Knowledge
from kbpg.haproxy import HaproxyFact
from kbpg.health.questions import (
    NeighboursFact,
    PoolerFact,
    UsageFact,
)
from kbpg.health.views import Views, views
from kbpg.model import Placed, Step
from kbpg.operations.raft_note import rebuild_note
from kbpg.patroni import ClusterFact, ConfigFact, NodeFact
from kbpg.raft import RaftFact
from kbpg.raft_admin import member_fact
from kbpg.resources.docker import DB_CONTAINERS, PROXY_CONTAINERS, ImagesFact
from kbpg.resources.file import FileFact
from kbpg.resources.hardware import HardwareFact
from kbpg.resources.preflight.clock import ClockFact, clock_fact
from kbpg.resources.preflight.system import SystemFact
from kbpg.resources.sql import extensions
from kbpg.resources.sql_facts import RolesFact
from kbpg.steps.authority import CERTIFICATE, on_host
from kbpg.steps.images import HAPROXY_IMAGE, PATRONI_IMAGE, PGBOUNCER_IMAGE

if TYPE_CHECKING:
    from kbpg.context import Context

Wanted = dict[str, list[Fact[object]]]


@dataclass(frozen=True)
class Questions:
    """The facts that checks look at, as values: the same ones are asked and read."""

    node: NodeFact
    cluster: ClusterFact
    config: ConfigFact
    raft: RaftFact
    haproxy: HaproxyFact
    pooler: PoolerFact
    roles: RolesFact
    extensions: Fact[tuple[tuple[Any, ...], ...]]
    views: Views
    usage: UsageFact
    usage_on_db: UsageFact
    clock: ClockFact

    @classmethod
    def of(cls, context: Context) -> Questions:
        """Return the questions for this inventory and these credentials."""
        ports, base = context.inventory.ports, context.inventory.cluster.base_dir
        return cls(
            NodeFact(ports.patroni),
            ClusterFact(ports.patroni),
            ConfigFact(ports.patroni),
            member_fact(context),
            HaproxyFact(ports.stats),
            PoolerFact(pooler.console(context)),
            RolesFact(context.superuser()),
            extensions(context, context.inventory.cluster.database),
            views(context),
            UsageFact((base,)),
            UsageFact((base, *context.inventory.postgresql.mounts)),
            clock_fact(context.inventory.prepare.max_clock_skew),
        )

    def usage_of(self, context: Context, host: str) -> UsageFact:
        """Return the question for a host's disks: a db host has directories of `postgresql.mounts` too."""
        return self.usage_on_db if host in context.db_names else self.usage


Items = list[tuple["Step", "Placed"]]


def placed(context: Context) -> Items:
    """Return every resource of every step but the last, which is a diagnosis itself."""
    from kbpg.steps import ALL

    return [(step, i) for step in ALL[:-1] for stage in step.stages(context) for i in stage.items]


def wanted(context: Context, items: Items) -> Wanted:
    """Return every question of a diagnosis by host: what the steps ask for their `items`, and what only it does."""
    ask = Questions.of(context)
    found: Wanted = {}
    for _, item in items:
        for name, fact in item.resource.asks(item.place, context):
            found.setdefault(name, []).append(fact)
    for host in context.inventory.hosts:
        found.setdefault(host.name, []).append(FileFact(on_host(context, host, CERTIFICATE)))
    for name in context.db_names:
        found[name] += [rebuild_note(context), *Proof(context, Facts(Knowledge(), name)).questions()]
        found[name] += [ask.node, ask.cluster, ask.config, ask.raft, ask.roles, ask.extensions]
        found[name] += ask.views.on_db()
        found[name] += _common(context, name, ask)
    for name in context.proxy_names:
        found[name] += [ask.haproxy, ask.pooler, *ask.views.on_proxy(), *_common(context, name, ask)]
    return found


def of_docker(context: Context, host: str) -> list[Fact[object]]:
    """Return what is asked of a host's Docker: known without the steps, and what takes a host longest to answer."""
    containers, images = (
        (DB_CONTAINERS, (PATRONI_IMAGE,))
        if host in context.db_names
        else (PROXY_CONTAINERS, (HAPROXY_IMAGE, PGBOUNCER_IMAGE))
    )
    return [containers, ImagesFact(images), NeighboursFact(containers.names), SystemFact()]


def _common(context: Context, host: str, ask: Questions) -> Iterable[Fact[object]]:
    return (*of_docker(context, host), HardwareFact(), ask.clock, ask.usage_of(context, host))
