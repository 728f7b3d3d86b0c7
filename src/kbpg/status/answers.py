"""How the answers of one pass become a `Standing`. Nothing here asks a host anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kbpg.facts import Fact, Facts, NotKnown
from kbpg.haproxy import Server
from kbpg.health.questions import Pooler
from kbpg.inventory import read_name
from kbpg.patroni import LEADER_ROLES, NodeStatus
from kbpg.prediction import recovery_times
from kbpg.raft_admin import Consensus, addresses
from kbpg.status.questions import Postgres, Questions
from kbpg.status.standing import Standing
from kbpg.status.values import Endpoints, Member, Pool, Prediction, Proxy, Raft

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.errors import HostError
    from kbpg.inventory import Host


def together(context: Context, facts: Facts, ask: Questions, lost: Mapping[str, HostError]) -> Standing:
    """Put the answers to `ask` together; `lost` are the hosts without a connection, with their errors."""
    return _Answers(context, facts, ask, {name: error.reason for name, error in lost.items()}).standing()


class _Answers:
    """The answers of one pass, put together; nothing is asked here."""

    def __init__(self, context: Context, facts: Facts, ask: Questions, lost: Mapping[str, str]) -> None:
        self._context, self._facts, self._ask, self._lost = context, facts, ask, lost
        self._nodes = self._known(ask.node)
        self._postgres: Mapping[str, Postgres] = self._known(ask.postgres) if ask.postgres else {}
        self._leaders = [name for name, node in self._nodes.items() if node.leads]
        self._leader = self._leaders[0] if len(self._leaders) == 1 else None

    def standing(self) -> Standing:
        inventory = self._context.inventory
        balancer = inventory.cluster.load_balancer
        addresses = [balancer] if balancer else [host.address for host in inventory.proxies]
        ports = inventory.ports
        asked = self._ask.postgres and self._ask.raft and self._ask.pooler
        notes = (
            () if asked else ("passwords are missing in the credentials file, so not everything was asked",)
        )
        return Standing(
            inventory.cluster.name,
            datetime.now(UTC),
            self._leader,
            None if self._leader else self._dispute(),
            tuple(self._followed(self._member(host)) for host in inventory.db),
            tuple(self._proxy(host) for host in inventory.proxies),
            self._raft(),
            self._rpo_zero(),
            inventory.cluster.synchronous != "off",
            any(node.paused for node in self._nodes.values()) if self._nodes else None,
            inventory.haproxy.replica_max_lag,
            Endpoints(
                tuple(map(str, addresses)),
                ports.pgbouncer,
                ports.primary,
                ports.replicas,
                read_name(inventory.cluster.database),
                inventory.haproxy.read_fallback,
            ),
            tuple(
                Prediction(each.fault.value, each.title, each.low, each.high)
                for each in recovery_times(inventory)
            ),
            notes,
        )

    # --- db hosts ------------------------------------------------------------------------------------

    def _dispute(self) -> str:
        if self._leaders:
            return f"{' and '.join(self._leaders)} say that they lead"
        return "no node says that it leads" if self._nodes else "Patroni answers on no host"

    def _member(self, host: Host) -> Member:
        name, address = host.name, str(host.address)
        if name in self._lost:
            return Member(name, address, "unknown", "unreachable", problem=self._lost[name])
        node, postgres = self._nodes.get(name), self._postgres.get(name)
        if node is None:
            member = Member(name, address, "unknown", "no answer", problem=self._why(self._ask.node, name))
        else:
            member = Member(
                name,
                address,
                _role(node),
                "streaming" if node.receiving else node.state,
                node.timeline or None,
                patroni=node.version,
                pending_restart=node.pending_restart,
            )
        if postgres is None:
            return replace(member, answers=False if self._ask.postgres else None)
        return replace(
            member,
            answers=True,
            refused=postgres.refused,
            read_only=postgres.read_only,
            postgresql=postgres.version,
            replay_paused=postgres.replay_paused,
        )

    def _followed(self, member: Member) -> Member:
        """Return the member with its lag: the leader's knowledge alone is current."""
        if self._leader is None or member.leads:
            return member
        leader = self._postgres.get(self._leader)
        for follower in leader.followers if leader else ():
            if follower.name == member.name:
                seconds = follower.lag_seconds
                if seconds is None and follower.lag_bytes == 0:
                    seconds = 0.0  # PostgreSQL forgets it when nothing has been written for a while
                lag = follower.lag_bytes
                return replace(member, sync=follower.sync, lag_bytes=lag, lag_seconds=seconds)
        lags = {m.name: m.lag for m in self._facts.known(self._ask.cluster, self._leader) or ()}
        return replace(member, sync=member.name in self._synchronous(), lag_bytes=lags.get(member.name))

    def _rpo_zero(self) -> bool | None:
        if self._leader is None:
            return None
        leader = self._postgres.get(self._leader)
        if leader and leader.commits_wait is not None:
            return leader.commits_wait
        return bool(self._synchronous())

    def _synchronous(self) -> set[str]:
        """Return the replicas that commits wait for, as the leader's Patroni says."""
        replicas = self._nodes[self._leader].replicas if self._leader else ()
        return {s.name for s in replicas if s.state == "streaming" and s.sync_state in ("sync", "quorum")}

    def _raft(self) -> Raft | None:
        statuses = self._known(self._ask.raft) if self._ask.raft else {}
        if not statuses:
            return None
        members = addresses(self._context)
        names = {address: name for name, address in members.items()}
        quorate = Consensus(members, statuses).quorate
        newest = max(statuses.items(), key=lambda each: (each[0] in quorate, each[1].term))[1]
        leader = names.get(newest.leader or "", newest.leader)
        view = statuses.get(leader or "", newest)
        return Raft(
            leader,
            bool(quorate),
            newest.term,
            1 + len(view.partners),
            1 + sum(view.partners.values()),
            tuple(names.get(each, each) for each in view.away),
            tuple(name for name in statuses if name not in quorate),
        )

    # --- proxies -------------------------------------------------------------------------------------

    def _proxy(self, host: Host) -> Proxy:
        name, address, ask = host.name, str(host.address), self._ask
        if name in self._lost:
            return Proxy(name, address, None, None, problem=self._lost[name])
        servers = self._facts.known(ask.haproxy, name)
        console = self._facts.known(ask.pooler, name) if ask.pooler else None
        return Proxy(
            name,
            address,
            self._facts.known(ask.primary, name),
            self._facts.known(ask.pgbouncer, name),
            _up(servers, "primary"),
            _up(servers, "replicas"),
            None if console is None else _paused(console),
            None if console is None else _pools(console),
            console.version.removeprefix("PgBouncer ") if console else None,
            self._why(ask.haproxy, name),
            self._why(ask.pooler, name) if ask.pooler else None,
        )

    def _known(self, fact: Fact[Any]) -> dict[str, Any]:
        answers = {name: self._facts.known(fact, name) for name in self._context.db_names}
        return {name: answer for name, answer in answers.items() if answer is not None}

    def _why(self, fact: Fact[Any], host: str) -> str | None:
        """Return why a fact is not known, None where it is."""
        try:
            self._facts.get(fact, host)
        except NotKnown as reason:
            return reason.reason
        return None


def _role(node: NodeStatus) -> str:
    """Return a node's role; a leader whose PostgreSQL does not run is none, and not a replica either."""
    if node.leads:
        return "leader"
    return "unknown" if node.role in LEADER_ROLES else "replica"


def _up(servers: Sequence[Server] | None, proxy: str) -> tuple[str, ...] | None:
    """Return the nodes that HAProxy has for `proxy`, None where it does not say."""
    return None if servers is None else tuple(s.name for s in servers if s.proxy == proxy and s.up)


def _paused(console: Pooler) -> bool:
    """Return whether PAUSE holds all databases, or one."""
    return console.state.get("paused") == "yes" or any(row.get("paused") for row in console.databases)


def _pools(console: Pooler) -> tuple[Pool, ...]:
    """Return the pools but the console's own (docs: PgBouncer's usage, SHOW POOLS)."""
    return tuple(
        Pool(
            str(row["database"]),
            str(row["user"]),
            int(row["cl_active"]),
            int(row["cl_waiting"]),
            sum(int(row.get(name) or 0) for name in ("sv_active", "sv_active_cancel", "sv_being_canceled")),
            sum(int(row.get(name) or 0) for name in ("sv_idle", "sv_used", "sv_tested", "sv_login")),
            int(row["maxwait"]) + int(row["maxwait_us"]) / 1e6,
        )
        for row in console.pools
        if row["database"] != "pgbouncer"
    )
