"""A cluster is removed from its hosts; its data only when that was asked for. Every step may be done twice.

The order: clients' way in first, then the replicas, the leader last: a replica would take over from one that goes
before it. Stopped last, the leader has all that they have, and data that is kept comes back from it. Then
configuration. Data goes before the record that says whose it is: a run that is killed leaves nothing unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError, Refused
from kbpg.layout import PATRONI_STOP, layout
from kbpg.operations.belongings import Belongings, strangers, take_stock
from kbpg.operations.clients import connected
from kbpg.operations.firewall_removal import remove_firewall
from kbpg.patroni import NodeFact
from kbpg.resources.docker import LABEL_INPUTS
from kbpg.resources.sysctl import PATH as SYSCTLS

REMOVE_TIMEOUT = 1800.0
"""Seconds to remove the files of a large database."""
# Files first, so that what cannot be removed is an error; then directories, of which a mount point stays. What is on
# another file system is not followed.
_EMPTY = """\
set -e
for directory; do
  [ -d "$directory" ] && [ ! -L "$directory" ] || continue
  find "$directory" -xdev -mindepth 1 ! -type d -delete
  find "$directory" -xdev -depth -type d -exec rmdir {} + 2>/dev/null || true
done
"""
# Whose the data is, and what was left half-way
_KEEP = '[ -d "$1" ] || exit 0; find "$1" -xdev -mindepth 1 ! -type d ! -name "*.json" -delete'


@dataclass(frozen=True)
class Wanted:
    """What was asked for: the data too; although clients are connected or hosts away; without the images."""

    with_data: bool = False
    force: bool = False
    keep_images: bool = False


@dataclass(frozen=True)
class Before:
    """What was found: what each host has, who is connected, which nodes lead, who is away, whether it is paused."""

    stock: Mapping[str, Belongings]
    clients: Mapping[str, int]
    leaders: tuple[str, ...]
    away: tuple[str, ...]
    paused: bool = False


@dataclass
class Removed:
    """What was removed, by host, in order."""

    items: dict[str, list[str]] = field(default_factory=dict)

    def note(self, host: str, what: str) -> None:
        """Remember something; several hosts at once."""
        self.items.setdefault(host, []).append(what)


def look(site: Site) -> Before:
    """Return what is so now. Changes nothing."""
    context = site.context
    node = NodeFact(context.inventory.ports.patroni)
    facts = site.look(dict.fromkeys(context.db_names, (node,)))
    nodes = {name: found for name in context.db_names if (found := facts.known(node, name))}
    leaders = tuple(name for name, found in nodes.items() if found.leads)
    paused = any(found.paused for found in nodes.values())
    away = tuple(host.name for host in context.inventory.hosts if host.name not in site.hosts)
    return Before(take_stock(site), connected(site), leaders, away, paused)


def why_not_destroy(site: Site, before: Before, wanted: Wanted) -> Refused | None:
    """Return the refusal, or None. Whose it is cannot be forced."""
    if reasons := strangers(site.context, before.stock):
        return Refused(
            "not destroyed: not everything here is this cluster's own",
            detail=reasons,
            hint="is it the right inventory? what is not kbpg's is yours to remove",
        )
    if before.clients and not wanted.force:
        return Refused(
            "not destroyed: the cluster serves clients",
            detail=[f"{count} {way}" for way, count in before.clients.items()],
            hint="stop the applications first, or --force",
        )
    if before.paused and not wanted.with_data and not wanted.force:
        return Refused(
            "not destroyed: Patroni is paused, and a paused Patroni does not start PostgreSQL from the kept data",
            hint="kbpg resume first",
        )
    if before.away and not wanted.force:
        return Refused(
            f"not destroyed: {', '.join(before.away)} cannot be reached",
            hint="bring it back, or --force: what it has stays there, until it is destroyed by a later run",
        )
    return None


def destroy(site: Site, before: Before, wanted: Wanted) -> Removed:
    """Remove what belongs to the cluster and return what was removed.

    Raises `Refused` where `why_not_destroy` says so, `KbpgError` with every host's failure; run it again then.
    """
    if refusal := why_not_destroy(site, before, wanted):
        raise refusal
    removed = Removed()
    proxies = [name for name in site.context.proxy_names if name in site.hosts]
    leaders = [name for name in before.leaders if name in site.hosts]
    replicas = [name for name in site.context.db_names if name in site.hosts and name not in leaders]
    for names in (proxies, replicas, leaders):
        if names:
            site.say(f"removing the containers of {', '.join(names)}")
        _each(names, lambda name: _containers(site, before.stock[name], removed))
    names = [*proxies, *replicas, *leaders]
    site.say(f"removing {'data and configuration' if wanted.with_data else 'configuration'}")
    _each(names, lambda name: _files(site, name, removed, with_data=wanted.with_data))
    if not wanted.keep_images:
        _each(names, lambda name: _images(site, before.stock[name], removed))
    return removed


def _containers(site: Site, belongings: Belongings, removed: Removed) -> None:
    host = site.hosts[belongings.host]
    for name in belongings.containers:
        stop = ["docker", "stop", "--time", str(PATRONI_STOP), name]
        host.run(stop, timeout=PATRONI_STOP + 60, check=False)  # it may have gone meanwhile
        host.run(["docker", "rm", "--force", "--volumes", name])
        removed.note(belongings.host, f"container {name}")


def _files(site: Site, name: str, removed: Removed, *, with_data: bool) -> None:
    """Remove what kbpg wrote; the record of whose the data is, and Raft's memory, go with the data only."""
    paths, host = layout(site.context), site.hosts[name]
    if name not in site.context.db_names:
        _run(host.run, _EMPTY, paths.haproxy, paths.pgbouncer, f"{paths.base}/kbpg")
        removed.note(name, "configuration")
    elif with_data:
        _run(host.run, _EMPTY, paths.data, f"{paths.base}/postgres")
        removed.note(name, "data")
        _run(host.run, _EMPTY, paths.patroni, f"{paths.base}/kbpg")
        removed.note(name, "configuration")
    else:
        _run(host.run, _EMPTY, paths.patroni)
        _run(host.run, _KEEP, f"{paths.base}/kbpg")
        removed.note(name, "configuration")
    if site.context.inventory.prepare.sysctls == "managed":
        host.run(["rm", "-f", SYSCTLS])
    # Last: until then the rules keep others from what still runs
    if remove_firewall(host):
        removed.note(name, "firewall rules")
    host.run(["rmdir", paths.base], check=False)


def _run(run: Callable[..., object], script: str, *words: str) -> None:
    run(["sh", "-c", script, "remove", *words], timeout=REMOVE_TIMEOUT)


def _images(site: Site, belongings: Belongings, removed: Removed) -> None:
    """Remove kbpg's images by their label, also those that a newer one has replaced; others keep theirs."""
    host = site.hosts[belongings.host]
    ours = [name for name, label in belongings.images.items() if label]
    if not belongings.images and not belongings.containers:
        return
    dangling = [
        "docker",
        "images",
        "--quiet",
        "--filter",
        "dangling=true",
        "--filter",
        f"label={LABEL_INPUTS}",
    ]
    older = host.run(dangling, check=False).stdout.split()
    for image in (*ours, *dict.fromkeys(older)):
        if host.run(["docker", "rmi", image], check=False).ok and image in ours:
            removed.note(belongings.host, f"image {image}")


def _each(names: Sequence[str], work: Callable[[str], None]) -> None:
    """Work on all hosts side by side. Raises one error for all that failed, when all have ended."""
    if not names:
        return
    failures: list[KbpgError] = []

    def attempt(name: str) -> None:
        try:
            work(name)
        except HostError as error:
            failures.append(error)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(attempt, names))
    if len(failures) == 1:
        raise failures[0]
    if failures:
        detail = [line for error in failures for line in (error.message, *(f"  {d}" for d in error.detail))]
        raise KbpgError(f"{len(failures)} hosts failed", detail=detail, hint="run the same command again")
