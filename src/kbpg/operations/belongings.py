"""What a cluster has on its hosts, and whether it is this cluster's: facts in, reasons to leave it alone out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.layout import layout
from kbpg.operations.standing import RoomFact
from kbpg.resources.docker import DB_CONTAINERS, LABEL_SPEC, PROXY_CONTAINERS, ContainersFact, ImagesFact
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact, DataState, Ownership, judge, odd_one_out
from kbpg.resources.identity import record_path
from kbpg.steps.images import patroni_image, proxy_images

_SERVER = re.compile(r"^\s*server\s+\S+\s+([0-9a-fA-F.:]+):\d+", re.MULTILINE)

NOBODY = Ownership()
"""What a host without a record says."""


@dataclass(frozen=True)
class Belongings:
    """What one host has. `images` are by name, with kbpg's label ("" without it); `size` of the data in bytes.

    `routes` are the addresses that a proxy's HAProxy leads to. `problem` is why the host did not tell, or None.
    """

    host: str
    containers: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, str]
    data: DataState | None = None
    owner: Ownership = NOBODY
    size: int = 0
    routes: frozenset[str] = frozenset()
    problem: str | None = None


def take_stock(site: Site) -> dict[str, Belongings]:
    """Look at every connected host, and return what it has, by name. Changes nothing."""
    names = [host.name for host in site.context.inventory.hosts if host.name in site.hosts]
    facts = site.look({name: _questions(site.context, name) for name in names})
    return {name: _read(site.context, facts, name) for name in names}


def _is_db(context: Context, name: str) -> bool:
    return name in context.db_names


def _questions(context: Context, name: str) -> tuple[Fact[object], ...]:
    paths = layout(context)
    if _is_db(context, name):
        return (*_db(context), RoomFact(paths.data, paths.data))
    return _proxy(context)


def _db(context: Context) -> tuple[ContainersFact, ImagesFact, DataFact, FileFact]:
    paths = layout(context)
    images = ImagesFact((patroni_image(context).name,))
    return DB_CONTAINERS, images, DataFact(paths.data), FileFact(record_path(paths.base))


def _proxy(context: Context) -> tuple[ContainersFact, ImagesFact, FileFact]:
    images = ImagesFact(tuple(image.name for image in proxy_images(context)))
    return PROXY_CONTAINERS, images, FileFact(f"{layout(context).haproxy}/haproxy.cfg")


def _read(context: Context, facts: Facts, name: str) -> Belongings:
    try:
        if not _is_db(context, name):
            containers, images, config = _proxy(context)
            text = found.text if (found := facts.get(config, name)) else None
            routes = frozenset(_SERVER.findall(text or ""))
            return Belongings(name, facts.get(containers, name), facts.get(images, name), routes=routes)
        containers, images, data, record = _db(context)
        paths = layout(context)
        room = facts.known(RoomFact(paths.data, paths.data), name)
        text = found.text if (found := facts.get(record, name)) else None
        return Belongings(
            name,
            facts.get(containers, name),
            facts.get(images, name),
            data=facts.get(data, name),
            owner=Ownership.of(text),
            size=room[0] if room else 0,
        )
    except NotKnown as reason:
        return Belongings(name, {}, {}, problem=reason.reason)


def strangers(context: Context, stock: Mapping[str, Belongings]) -> list[str]:
    """Return every reason why something on these hosts is not this cluster's own, each beginning with the host."""
    identifiers = {
        name: frozenset(
            each for each in (b.owner.system_identifier, b.data.system_identifier if b.data else "") if each
        )
        for name, b in stock.items()
        if name in context.db_names
    }
    found = []
    for name, belongings in stock.items():
        odd = odd_one_out(name, identifiers) if name in identifiers else None
        reasons = [belongings.problem, _data(context, belongings), odd, _routes(context, belongings)]
        reasons += [_container(context, each) for each in belongings.containers.values()]
        found += [f"{name}: {reason}" for reason in reasons if reason]
    return found


def _data(context: Context, belongings: Belongings) -> str | None:
    if belongings.data is None:
        return None
    cluster, major = context.inventory.cluster.name, context.inventory.versions.postgresql
    return judge(belongings.data, belongings.owner, cluster, major)


def _routes(context: Context, belongings: Belongings) -> str | None:
    """Return that this proxy serves another cluster, where none of its servers is ours."""
    ours = {str(host.address) for host in context.inventory.db}
    if belongings.routes and not belongings.routes & ours:
        return f"its HAProxy serves another cluster: {', '.join(sorted(belongings.routes))}"
    return None


def _container(context: Context, container: Mapping[str, Any]) -> str | None:
    """Return why this is no container of kbpg's for this base_dir, or None."""
    name = str(container["Name"]).lstrip("/")
    base = f"{layout(context).base}/"
    if LABEL_SPEC not in (container["Config"].get("Labels") or {}):
        return f"the container {name} was not started by kbpg"
    elsewhere = [bind for bind in container["HostConfig"].get("Binds") or [] if not bind.startswith(base)]
    if elsewhere:
        return f"the container {name} works on {', '.join(elsewhere)}, not below {base}"
    return None
