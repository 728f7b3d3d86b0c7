"""`kbpg status`: the cluster on one screen, from what every node says of itself."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

from kbpg.cli.texts import table
from kbpg.console import Console, Line, Style
from kbpg.engine.gather import gather
from kbpg.errors import Exit
from kbpg.facts import CallFact, Facts, Knowledge, NotKnown
from kbpg.hosts.port import Reader
from kbpg.inventory import Host
from kbpg.model import CLUSTER
from kbpg.options import Options
from kbpg.patroni import ClusterFact, NodeFact
from kbpg.session import Session, open_session

OPEN_TIMEOUT = 2.0
"""Seconds a port of a proxy may take to accept a connection."""


@dataclass(frozen=True)
class PortFact(CallFact[bool]):
    """Whether something on the host accepts connections on a port of its cluster address."""

    port: int
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"port:{self.port}"

    def ask(self, reader: Reader) -> bool:
        """Connect, and hang up."""
        try:
            reader.dial(self.port, timeout=OPEN_TIMEOUT).close()
        except (ConnectionRefusedError, TimeoutError):
            return False
        return True


@dataclass(frozen=True)
class MemberLine:
    """A db host as it is.

    `lag_bytes` is how far it is behind the leader, None where that is not known; `problem` is why nothing is.
    """

    name: str
    address: str
    role: str
    state: str
    timeline: int | None = None
    lag_bytes: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ProxyLine:
    """A proxy as it is: whether HAProxy's and PgBouncer's ports accept connections, None where not known."""

    name: str
    address: str
    haproxy: bool | None
    pgbouncer: bool | None
    problem: str | None = None


@dataclass(frozen=True)
class Standing:
    """The cluster on one screen; `problem` is why no leader is known."""

    cluster: str
    leader: str | None
    problem: str | None
    members: tuple[MemberLine, ...]
    proxies: tuple[ProxyLine, ...]

    @property
    def healthy(self) -> bool:
        """Return whether there is a leader, every other node streams and every proxy accepts connections."""
        streaming = all(m.state == "streaming" for m in self.members if m.name != self.leader)
        return self.leader is not None and streaming and all(p.haproxy and p.pgbouncer for p in self.proxies)


def status(options: Options) -> int:
    """Show the cluster and return the exit code."""
    with Console(color=options.color) as console:
        console.busy("connecting to the hosts")
        ask = console.ask if sys.stdin.isatty() else None
        with open_session(options, doing="status", lock=False, partial=True, ask=ask) as session:
            console.busy("reading the hosts")
            standing = look(session)
        if options.json:
            console.data(asdict(standing))
        else:
            console.result(_shown(standing))
    return int(Exit.OK if standing.healthy else Exit.FAILED)


def look(session: Session) -> Standing:
    """Ask every host side by side and put the answers together."""
    inventory, ports = session.context.inventory, session.context.inventory.ports
    node, cluster = NodeFact(ports.patroni), ClusterFact(ports.patroni)
    haproxy, pgbouncer = PortFact(ports.primary), PortFact(ports.pgbouncer)
    knowledge = Knowledge()
    wanted: dict[str, list[Any]] = {host.name: [node, cluster] for host in inventory.db}
    wanted |= {host.name: [haproxy, pgbouncer] for host in inventory.proxies}
    gather(session.hosts, knowledge, wanted)
    facts = Facts(knowledge, CLUSTER)
    leaders = [name for name in session.context.db_names if (n := facts.known(node, name)) and n.leads]
    leader = leaders[0] if len(leaders) == 1 else None
    problem = None if leader else _dispute(leaders)
    # Only the leader's memory of the others is used: one that was cut off has a stale one
    lags = {m.name: m.lag for m in facts.known(cluster, leader) or ()} if leader else {}
    lost = {name: error.reason for name, error in session.unreachable.items()}
    members = (_member(facts, node, host, lags.get(host.name), lost.get(host.name)) for host in inventory.db)
    proxies = (
        ProxyLine(
            host.name,
            str(host.address),
            facts.known(haproxy, host.name),
            facts.known(pgbouncer, host.name),
            lost.get(host.name),
        )
        for host in inventory.proxies
    )
    return Standing(inventory.cluster.name, leader, problem, tuple(members), tuple(proxies))


def _dispute(leaders: list[str]) -> str:
    return f"{' and '.join(leaders)} all say that they lead" if leaders else "no node says that it leads"


def _member(facts: Facts, fact: NodeFact, host: Host, lag: int | None, lost: str | None) -> MemberLine:
    address = str(host.address)
    if lost:
        return MemberLine(host.name, address, "unknown", "unreachable", problem=lost)
    try:
        node = facts.get(fact, host.name)
    except NotKnown as unknown:
        return MemberLine(host.name, address, "unknown", "no answer", problem=unknown.reason)
    state = "streaming" if node.receiving else node.state
    if node.leads:
        return MemberLine(host.name, address, "leader", state, node.timeline or None)
    return MemberLine(host.name, address, "replica", state, node.timeline or None, lag)


def _shown(standing: Standing) -> list[Line]:
    members = [("node", "address", "role", "state", "timeline", "lag")]
    members += [
        (m.name, m.address, m.role, m.state, _known(m.timeline), _bytes(m.lag_bytes))
        for m in standing.members
    ]
    proxies = [("proxy", "address", "haproxy", "pgbouncer")]
    proxies += [(p.name, p.address, _answers(p.haproxy), _answers(p.pgbouncer)) for p in standing.proxies]
    verdict = (
        Line("healthy", Style.GOOD) if standing.healthy else Line("not healthy: kbpg diagnose", Style.BAD)
    )
    leader = f"leader {standing.leader}" if standing.leader else f"no leader: {standing.problem}"
    head = Line(f"cluster {standing.cluster}, {leader}", Style.TITLE)
    lines: tuple[MemberLine | ProxyLine, ...] = (*standing.members, *standing.proxies)
    problems = [Line(f"{line.name}: {line.problem}", Style.WARNING) for line in lines if line.problem]
    return [head, Line(), *table(members), Line(), *table(proxies), Line(), *problems, verdict]


def _known(value: object) -> str:
    return "-" if value is None else str(value)


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value} B"


def _answers(value: bool | None) -> str:
    return {True: "answers", False: "does not answer", None: "unknown"}[value]
