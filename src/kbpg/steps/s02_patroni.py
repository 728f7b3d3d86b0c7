"""Step 02: the Patroni image, one container on each db host, and a cluster of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kbpg.adoption.takeover import Adopted, AdoptionDone, AdoptionOrder, HandoverFirst, KeptAside
from kbpg.context import Context
from kbpg.facts import Facts
from kbpg.inventory import Host
from kbpg.layout import OWNER, PATRONI, REPLICATION_USER, REWIND_USER, layout
from kbpg.model import CLUSTER, CONTROLLER, Placed, Stage, Step
from kbpg.patroni import NodeFact
from kbpg.render import render
from kbpg.resources.birth import Removed, born, signs
from kbpg.resources.file import File
from kbpg.resources.half_done import NoRebuildLeft
from kbpg.resources.identity import Claimed, Identified
from kbpg.resources.image import Images
from kbpg.resources.patroni import (
    DynamicConfig,
    PendingRestart,
    host_facts,
    wanted_configuration,
)
from kbpg.resources.pause import NotPaused
from kbpg.resources.rewind import RewindRights
from kbpg.resources.rolling import OneNodeAtATime, RestartOrder
from kbpg.resources.sql import Role
from kbpg.resources.superuser import SuperuserAccess
from kbpg.steps.formed import formed
from kbpg.steps.images import patroni_image
from kbpg.steps.patroni_node import ahead_of, files_of, node_of

NOT_PAUSED, NO_REBUILD_LEFT = "not paused", "no rebuild left"
"""Titles of the gates, which are requirements."""
NODES, FORMED, SUPERUSER, CONFIGURATION = "nodes", "cluster", "superuser", "configuration"
RESTARTS, ROLES = "restarts", "roles"
"""Titles of stages that procedures take by themselves."""


def stages(context: Context) -> Sequence[Stage]:
    """Return the stages of step 02."""
    names = context.db_names
    node = NodeFact(context.inventory.ports.patroni)
    return (
        Stage(NOT_PAUSED, tuple(Placed(name, NotPaused(context)) for name in names), requirement=True),
        Stage(NO_REBUILD_LEFT, tuple(Placed(n, NoRebuildLeft(context)) for n in names), requirement=True),
        Stage("image", (Placed(CONTROLLER, Images(PATRONI, [patroni_image(context)], names)),)),
        *(_adopting(context) if context.adopting else _claiming(context)),
        Stage(FORMED, (Placed(CLUSTER, formed(context)),)),
        Stage("identity", tuple(Placed(name, Identified(context, node)) for name in names)),
        Stage("born", (Placed(context.inventory.first_db.name, Removed(_bootstrap(context).path)),)),
        Stage(SUPERUSER, (Placed(CLUSTER, SuperuserAccess(context)),)),
        Stage(CONFIGURATION, (Placed(CLUSTER, DynamicConfig(context)),)),
        Stage(
            RESTARTS, tuple(Placed(name, PendingRestart(context)) for name in names), RestartOrder(context)
        ),
        Stage(ROLES, tuple(Placed(CLUSTER, role) for role in _roles(context))),
        Stage("rewind", (Placed(CLUSTER, RewindRights(context, REWIND_USER)),)),
    )


def _claiming(context: Context) -> Sequence[Stage]:
    """Return how the nodes of kbpg's own cluster come into being, or are changed."""
    hosts = context.inventory.db
    files = tuple(Placed(host.name, file) for host in hosts for file in files_of(context, host))
    nodes = tuple(p for host in hosts for p in node_of(context, host))
    return (
        Stage("claim", tuple(Placed(host.name, Claimed(context)) for host in hosts)),
        Stage("files", (*files, Placed(context.inventory.first_db.name, _bootstrap(context)))),
        Stage("ahead", tuple(ahead_of(context, host) for host in hosts)),
        Stage(NODES, nodes, OneNodeAtATime(context)),
    )


def _adopting(context: Context) -> Sequence[Stage]:
    """Return how the nodes of a proven cluster become kbpg's (docs/adopting.md).

    The roles come first: a node that was replaced logs in with the passwords of the credentials file. A host is
    recorded only then, and its files are written when its turn comes, since the old container may mount them.
    """
    hosts, credentials = context.inventory.db, context.credentials
    roles = [*_roles(context), Role(context, credentials.app_user, credentials.app_password)]

    def adopted(host: Host) -> list[Placed]:
        before = [KeptAside(context, PATRONI, layout(context).patroni), *files_of(context, host)]
        return [*(Placed(host.name, each) for each in before), *node_of(context, host)]

    return (
        Stage("roles in use", tuple(Placed(CLUSTER, role) for role in roles)),
        Stage("rewind in use", (Placed(CLUSTER, RewindRights(context, REWIND_USER)),)),
        Stage("handover", (Placed(CLUSTER, HandoverFirst(context)),)),
        Stage("adopt", tuple(Placed(host.name, Adopted(context)) for host in hosts)),
        Stage(NODES, tuple(p for host in hosts for p in adopted(host)), AdoptionOrder(context)),
        Stage("adopted", tuple(Placed(host.name, AdoptionDone(context)) for host in hosts)),
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
