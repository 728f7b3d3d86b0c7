"""HAProxy: it answers, and each port leads where it should."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.facts import REFUSED
from kbpg.haproxy import Server
from kbpg.health.check import CONTAINER_FAULT, LEADERLESS, NODE_FAULT, Check, Seen
from kbpg.health.checks.containers import last_lines, step_for
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.layout import HAPROXY, layout
from kbpg.tls import CA_FILE, DIRECTORY

DOWN = (*CONTAINER_FAULT, "haproxy-silent")
ROUTED = (*DOWN, *LEADERLESS, "haproxy-route-wrong", "haproxy-no-leader")


def _running(snapshot: Snapshot, proxy: str) -> bool:
    return snapshot.state(proxy, HAPROXY) == "running"


def silent(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies whose HAProxy runs and does not answer."""
    for proxy in snapshot.proxies:
        why = snapshot.why_not(snapshot.ask.haproxy, proxy)
        if why and _running(snapshot, proxy):
            will = f"bring HAProxy on {proxy} back to what the inventory says"
            yield Seen(
                proxy,
                f"HAProxy runs, but its statistics do not answer: {why}",
                last_lines(snapshot, proxy, HAPROXY),
                **step_for(snapshot, proxy, HAPROXY, will, "clients that it still serves reconnect"),
            )


def _lines(servers: Iterable[Server]) -> tuple[str, ...]:
    return tuple(f"{each.proxy}/{each.name}: {each.status} ({each.check})" for each in servers)


def no_leader(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies that find no node to send writers to."""
    for proxy in snapshot.proxies:
        servers = [each for each in snapshot.servers(proxy) or () if each.proxy == "primary"]
        if snapshot.servers(proxy) is None or any(each.up for each in servers):
            continue
        if any(each.rising for each in servers):
            continue
        leader = snapshot.leader
        about = (leader,) if leader else tuple(snapshot.context.db_names)
        remedy = _reach(snapshot, proxy, leader, "/primary") if leader else "{kbpg} status"
        yield Seen(
            proxy,
            f"no server is up for port {snapshot.inventory.ports.primary}"
            + (f", though {leader} leads" if leader else ""),
            _lines(servers),
            remedy,
            about=about,
        )


def _reach(snapshot: Snapshot, proxy: str, host: str, path: str) -> str:
    """Return the command that asks Patroni on `host` from the proxy, as HAProxy does.

    With TLS it verifies by the authority's certificate that the proxy's HAProxy has: a db host's is good for its
    address (pki/names.py). None of its own is wanted for a question (patroni.yml.j2, verify_client).
    """
    where = f"{snapshot.inventory.host(host).address}:{snapshot.inventory.ports.patroni}{path}"
    if not snapshot.context.transport.rest:
        return snapshot.on_host(proxy, "curl -sSI -m 3", f"http://{where}")
    authority = f"{layout(snapshot.context).haproxy}/{DIRECTORY}/{CA_FILE}"
    return snapshot.on_host(proxy, "curl -sSI -m 3", "--cacert", authority, f"https://{where}")


def wrong_route(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies whose port for writers leads to another node than the leader."""
    port = snapshot.inventory.ports.primary
    for proxy in snapshot.proxies:
        rows = snapshot.facts.known(snapshot.ask.views.primary, proxy)
        up = [each for each in snapshot.servers(proxy) or () if each.proxy == "primary" and each.up]
        where = snapshot.by_address.get(str(rows[0][1]), str(rows[0][1])) if rows else ""
        if rows and rows[0][0]:
            yield Seen(proxy, f"port {port} leads to {where}, which is read-only", _lines(up))
        elif rows and snapshot.leader and where != snapshot.leader:
            yield Seen(proxy, f"port {port} leads to {where}, but {snapshot.leader} leads", _lines(up))
        elif len(up) > 1:
            yield Seen(proxy, f"{len(up)} servers are up for port {port}", _lines(up))


def unusable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies through whose port for writers a query does not come back."""
    port = snapshot.inventory.ports.primary
    for proxy in snapshot.proxies:
        why = snapshot.why_not(snapshot.ask.views.primary, proxy)
        if why and REFUSED not in why and _running(snapshot, proxy):
            evidence = _lines(each for each in snapshot.servers(proxy) or () if each.proxy == "primary")
            yield Seen(proxy, f"a query through port {port} fails: {why}", evidence)


def no_replicas(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies with nobody for readers, or without a replica that streams."""
    for proxy in snapshot.proxies:
        servers = {each.name: each for each in snapshot.servers(proxy) or () if each.proxy == "replicas"}
        if not servers:
            continue
        replicas = [name for name in snapshot.context.db_names if name != snapshot.leader and name in servers]
        down = [name for name in replicas if not servers[name].up and not servers[name].rising]
        port = snapshot.inventory.ports.replicas
        by_leader = snapshot.inventory.haproxy.read_fallback == "primary"
        instead = "the leader serves reads" if by_leader else "nobody serves reads"
        for name in down:
            alone = f" and so is every other: {instead}" if len(down) == len(replicas) else ""
            yield Seen(
                proxy,
                f"{name} is down for the read-only port {port}{alone}",
                _lines([servers[name]]),
                _reach(snapshot, proxy, name, "/replica"),
                about=(name,),
                subject=name,
            )


CHECKS = (
    Check(
        "haproxy-silent",
        "HAProxy does not answer",
        Severity.CRITICAL,
        "clients of this proxy reach nobody, and whether its servers are up cannot be seen",
        "{kbpg} step 03 --limit {host}",
        silent,
        explained_by=CONTAINER_FAULT,
        part=HAPROXY,
    ),
    Check(
        "haproxy-no-leader",
        "HAProxy finds no leader",
        Severity.CRITICAL,
        "writers who come through this proxy are refused",
        "{kbpg} status",
        no_leader,
        explained_by=(*DOWN, *LEADERLESS, *NODE_FAULT),
    ),
    Check(
        "haproxy-route-wrong",
        "HAProxy leads to the wrong node",
        Severity.CRITICAL,
        "writers are sent to a node that does not take writes, or whose writes will be lost",
        "{kbpg} step 03 --limit {host}",
        wrong_route,
        explained_by=(*DOWN, "two-leaders"),
        part=HAPROXY,
    ),
    Check(
        "haproxy-unusable",
        "nothing comes back through HAProxy",
        Severity.CRITICAL,
        "clients of this proxy cannot work",
        "{kbpg} step 03 --limit {host}",
        unusable,
        explained_by=ROUTED,
        part=HAPROXY,
    ),
    Check(
        "haproxy-replica-down",
        "HAProxy does not use a replica",
        Severity.WARNING,
        "readers who come through this proxy have fewer nodes, or none",
        "{kbpg} status",
        no_replicas,
        explained_by=(*DOWN, *LEADERLESS, *NODE_FAULT, "replica-lag", "replica-replay-paused"),
    ),
)
