"""Patroni's maintenance mode, set in its dynamic configuration and seen on every node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import HostError, NotConverged
from kbpg.facts import Facts, NotKnown
from kbpg.operations.patroni_change import change_by_rest
from kbpg.patroni import NodeFact
from kbpg.resources.patroni import RELOAD_MARGIN


@dataclass(frozen=True)
class Seen:
    """What the nodes say: `confirmed` are those that are as wanted, `silent` those that do not answer, and why.

    A silent node reads the consensus when it comes back, and then does as the others do.
    """

    paused: bool
    changed: bool
    confirmed: tuple[str, ...]
    silent: Mapping[str, str]


def pause(site: Site) -> Seen:
    """Switch automatic failover off and wait until every node that answers says so.

    Raises `HostError`; `NotConverged` where one says otherwise at the deadline, or none says anything.
    """
    return _set(site, paused=True)


def resume(site: Site) -> Seen:
    """Switch automatic failover on again and wait until every node that answers says so. Raises like `pause`."""
    return _set(site, paused=False)


def _set(site: Site, *, paused: bool) -> Seen:
    """Change it through any node that answers: whichever it is, the consensus passes it on."""
    names, node = site.context.db_names, NodeFact(site.context.inventory.ports.patroni)
    facts = site.look(dict.fromkeys(names, (node,)))
    answering = [name for name in names if facts.known(node, name)]
    if not answering:
        raise NotConverged(
            "Patroni answers on no host, so none can be told",
            detail=tuple(_said(facts, node, names).values()),
        )
    changed = any(facts.get(node, name).paused is not paused for name in answering)
    if changed:
        _change(site, answering[0], paused=paused)
    ends = time.monotonic() + 2 * site.context.inventory.timers.loop_wait + RELOAD_MARGIN
    while True:
        odd, silent = differing(site, node, paused)
        # Who answered before may be busy with just this
        if not (odd or silent.keys() & {*answering}) or time.monotonic() >= ends:
            break
        time.sleep(INTERVAL)
    confirmed = tuple(name for name in names if name not in odd and name not in silent)
    wanted = "paused" if paused else "not paused"
    if odd:
        raise NotConverged(f"{', '.join(odd)} does not say that Patroni is {wanted}", hint="kbpg raft status")
    if not confirmed:
        raise NotConverged(
            f"no node says that Patroni is {wanted}", detail=tuple(silent.values()), hint="kbpg raft status"
        )
    return Seen(paused, changed, confirmed, silent)


def _change(site: Site, host: str, *, paused: bool) -> None:
    body = {"pause": True if paused else None}
    try:
        change_by_rest(site.context, site.hosts[host], "PATCH", "/config", body)
    except HostError as error:
        # Without a quorum of Raft nothing can be written down
        error.hint = error.hint or "kbpg raft status"
        raise


def differing(site: Site, node: NodeFact, paused: bool) -> tuple[list[str], dict[str, str]]:
    """Look, and return which nodes say that Patroni is paused, or is not, other than `paused`; and which say nothing,
    with the reason. Those agree with nobody."""
    names = site.context.db_names
    facts = site.look(dict.fromkeys(names, (node,)))
    odd = [name for name in names if (found := facts.known(node, name)) and found.paused is not paused]
    return odd, _said(facts, node, names)


def _said(facts: Facts, node: NodeFact, names: list[str]) -> dict[str, str]:
    """Return why a node says nothing, by host."""
    found = {}
    for name in names:
        try:
            facts.get(node, name)
        except NotKnown as reason:
            found[name] = f"{name}: {reason.reason}"
    return found
