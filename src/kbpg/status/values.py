"""What a standing is made of: hosts, pools, the consensus, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong, in a few words that name the host, and what was seen."""

    title: str
    detail: str = ""


@dataclass(frozen=True)
class Member:
    """A db host as it is.

    `role` is `leader`, `replica` or `unknown`. `lag_bytes` and `lag_seconds` are how far its replay is behind,
    as the leader sees it, None where that is not known; `sync` is whether a commit may count on it. `answers`
    is whether its PostgreSQL answers, None where it was not asked, `refused` why it lets kbpg ask nothing;
    `problem` is why nothing is known.
    """

    name: str
    address: str
    role: str
    state: str
    timeline: int | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    sync: bool | None = None
    postgresql: str | None = None
    patroni: str | None = None
    answers: bool | None = None
    refused: str | None = None
    read_only: bool | None = None
    replay_paused: bool = False
    pending_restart: bool = False
    problem: str | None = None

    @property
    def leads(self) -> bool:
        """Return whether it says of itself that it leads."""
        return self.role == "leader"


@dataclass(frozen=True)
class Pool:
    """One of PgBouncer's pools: clients with a server connection and without, the servers, the longest wait."""

    database: str
    user: str
    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    max_wait_seconds: float


@dataclass(frozen=True)
class Proxy:
    """A proxy as it is.

    `haproxy` and `pgbouncer` are whether their ports accept connections, None where not known. `routes_to`
    are the nodes HAProxy sends writes to, `reads_from` the replicas it has for readers, `pools` what PgBouncer's
    console shows, each None where that does not answer, for the reason in `haproxy_problem` or
    `pgbouncer_problem`. `problem` is why nothing is known.
    """

    name: str
    address: str
    haproxy: bool | None
    pgbouncer: bool | None
    routes_to: tuple[str, ...] | None = None
    reads_from: tuple[str, ...] | None = None
    paused: bool | None = None
    pools: tuple[Pool, ...] | None = None
    pgbouncer_version: str | None = None
    haproxy_problem: str | None = None
    pgbouncer_problem: str | None = None
    problem: str | None = None

    @property
    def max_wait(self) -> float:
        """Return the seconds for which the client at the head of the slowest queue waits."""
        return max((pool.max_wait_seconds for pool in self.pools or () if pool.clients_waiting), default=0.0)


@dataclass(frozen=True)
class Raft:
    """The consensus, as its leader sees it, or else the member with the newest term.

    `members` counts all members, `connected` those that it is connected to and itself, and `missing` names
    the others (a host, or "address:port" of one that is not in the inventory); `isolated` are the hosts whose
    member says that it has no quorum.
    """

    leader: str | None
    quorum: bool
    term: int
    members: int
    connected: int
    missing: tuple[str, ...] = ()
    isolated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoints:
    """Where clients connect: the load balancer or every proxy, and the port of each kind.

    `read_database` is PgBouncer's name for reads; `fallback` who serves them without a replica (`primary`, `none`).
    """

    addresses: tuple[str, ...]
    pooled: int
    direct: int
    read_only: int
    read_database: str = ""
    fallback: str = "primary"


@dataclass(frozen=True)
class Prediction:
    """How many seconds writes are away after a fault, from the luckiest moment to the unluckiest."""

    fault: str
    title: str
    low_seconds: float
    high_seconds: float


def behind(member: Member) -> str:
    """Return how far a member is behind, in bytes and in seconds; `-` where that is not known."""
    known = (
        "" if member.lag_bytes is None else _bytes(member.lag_bytes),
        "" if member.lag_seconds is None else _seconds(member.lag_seconds),
    )
    return ", ".join(text for text in known if text) or "-"


def _bytes(count: int) -> str:
    """Return bytes in a unit that leaves at most four digits: 20.0 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
