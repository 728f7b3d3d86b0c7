"""How long a failure keeps writes away (RTO) and what it can cost (RPO), from the configured timers alone.

A prediction is a range, from the luckiest moment for the fault to the unluckiest, of the gap that one client sees
between two acknowledged writes through PgBouncer and HAProxy. Each is a sum of parts with a source:

detection
    - A silent leader: its lock expires `ttl` after it was last refreshed, which happens every `loop_wait`, so
      between `ttl - loop_wait` and `ttl` after the fault (patroni/dcs/raft.py, `KVStoreTTL.__expire_keys`, every
      Raft tick of 50 ms; the deletion wakes the others, `Raft._on_delete`).
    - A crashed PostgreSQL: seen in the leader's next round, after at most `loop_wait`. With
      `primary_start_timeout: 0` the leader gives its lock away at once, otherwise it first tries to start PostgreSQL
      again for as long (patroni/ha.py, `Ha.recover`).
    - A switchover: the leader acts in its next round; it checkpoints, stops PostgreSQL, and waits one second more for
      the replicas where it sees the shutdown before its end (patroni/ha.py, `Ha.demote`; ADR 0023).
election
    The replicas ask every member for its WAL position and wait at most 2 s for one that does not answer
    (patroni/ha.py, `Ha.fetch_node_status`).
promotion
    PostgreSQL leaves recovery: `PROMOTION` seconds.
routing
    HAProxy puts a server in after `check_rise` good checks: up to one `check_interval` until the first, then
    `check_fast_interval` between the others (HAProxy's manual, "inter", "fastinter"). It leaves the old leader after
    `check_fall` bad ones, counted at worst from the same moment. PgBouncer tries a failed login again after
    `server_login_retry`.

Measured by hand, one client writing through both, ttl/loop_wait/retry_timeout 20/2/5: kill -9 of the postmaster 2.2
s, power cut 21-23 s, cut network 22.0 s, switchover (before ADR 0023) 2.2-3.4 s and once 6.2 s; 30/10/10: 7.6, 29.0,
27.8 and 16.1 s. All of them lie inside the ranges, as tests/unit/test_prediction.py keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbpg.inventory import Inventory

TCP_USER_TIMEOUT = 1000
"""Milliseconds that what a client sent may stay unacknowledged by the kernel of the proxy, or of the load balancer,
until the connection counts as lost. Without it a client whose proxy lost its power waits for a quarter of an hour
(tcp(7), tcp_retries2). The kernel acknowledges while a query runs, however long: this does not limit queries."""
ELECTION = (0.1, 0.5)
"""Seconds until a replica has the lock, while every other member answers: two rounds of Raft and REST."""
SILENT_MEMBER = 2.0
"""Seconds a replica waits for a member that does not answer; hard-coded in patroni/ha.py."""
PROMOTION = (0.2, 1.0)
"""Seconds `pg_promote` takes; measured on the 2-core test machine."""
STOPPING = (0.1, 3.0)
"""Seconds for a clean stop after a checkpoint; at worst Patroni sleeps one of them."""
LOGIN_RETRY = 0.6
"""Seconds: `server_login_retry` in templates/pgbouncer/pgbouncer.ini.j2, and PgBouncer's round of a third of one."""

STARTING = (1.0, 5.0)
"""Seconds until Patroni is there again after its container ended; measured on the 2-core test machine."""
RECONNECT = (0.1, 0.6)
"""Seconds for a client to be let in by the other PgBouncer, after a short pause."""

Range = tuple[float, float]


class Fault(StrEnum):
    """What can happen to the leader, and to others."""

    CRASH = "postgresql-crash"
    POWER = "leader-power-cut"
    NETWORK = "leader-network-cut"
    SWITCHOVER = "switchover"
    PATRONI = "patroni-crash"
    FROZEN = "patroni-frozen"
    REPLICA = "replica-loss"
    PROXY = "proxy-power-cut"
    POOLER = "pgbouncer-crash"


TITLES: Mapping[Fault, str] = {
    Fault.CRASH: "PostgreSQL crashes on the leader",
    Fault.POWER: "the leader's host loses power",
    Fault.NETWORK: "the leader's host is cut off the network",
    Fault.SWITCHOVER: "planned switchover",
    Fault.PATRONI: "Patroni crashes on the leader",
    Fault.FROZEN: "Patroni stands still on the leader",
    Fault.REPLICA: "a replica is lost",
    Fault.PROXY: "a proxy loses power",
    Fault.POOLER: "PgBouncer crashes on a proxy",
}


LEADERS = (Fault.CRASH, Fault.POWER, Fault.NETWORK, Fault.SWITCHOVER)
"""What `kbpg status` and the report predict: all that keeps writes away from a whole cluster."""


@dataclass(frozen=True)
class Part:
    """One term of a sum: what takes the time, and between how many and how many seconds."""

    what: str
    seconds: Range


@dataclass(frozen=True)
class Recovery:
    """How long writes are away after a fault: `low` to `high` seconds, and what they are made of."""

    fault: Fault
    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """Return the fault in words."""
        return TITLES[self.fault]

    @property
    def low(self) -> float:
        """Return the seconds of the luckiest case."""
        return round(sum(part.seconds[0] for part in self.parts), 2)

    @property
    def high(self) -> float:
        """Return the seconds of the unluckiest case."""
        return round(sum(part.seconds[1] for part in self.parts), 2)

    @property
    def range(self) -> str:
        """Return both as text, in full seconds: `18–25 s`."""
        low, high = int(self.low), -int(-self.high // 1)
        return f"{low}–{high} s"

    @property
    def formula(self) -> str:
        """Return the sum as text."""
        return " + ".join(f"{part.what} {_span(part.seconds)}" for part in self.parts)

    def document(self, measured: float | None = None) -> dict[str, Any]:
        """Return it as JSON shows it; `measured` are the seconds that a drill took, None without one."""
        return {
            "fault": self.fault.value,
            "title": self.title,
            "low_seconds": self.low,
            "high_seconds": self.high,
            "formula": self.formula,
            "measured_seconds": measured,
        }


@dataclass(frozen=True)
class Loss:
    """What a failover can lose of acknowledged commits: at most `bytes` of WAL, None where nothing bounds it."""

    bytes: int | None
    text: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"bytes": self.bytes, "text": self.text}


def recovery_times(inventory: Inventory) -> tuple[Recovery, ...]:
    """Return the predicted recovery time of the leader's faults; the module's docstring has formula and sources."""
    return tuple(recovery_time(inventory, fault) for fault in LEADERS)


def recovery_time(inventory: Inventory, fault: Fault) -> Recovery:
    """Return the predicted recovery time of one fault."""
    return Recovery(fault, _parts(inventory)[fault])


def _parts(inventory: Inventory) -> Mapping[Fault, tuple[Part, ...]]:
    timers = inventory.timers
    lock = Part("the lock expires", (float(timers.ttl - timers.loop_wait), float(timers.ttl)))
    silent = Part("election, one member silent", (ELECTION[0], ELECTION[1] + SILENT_MEMBER))
    quick = Part("election", ELECTION)
    promotion = Part("promotion", PROMOTION)
    routing = Part("HAProxy and PgBouncer", _routing(inventory))
    seen = Part("Patroni sees it", (0.0, float(timers.loop_wait)))
    restart = float(timers.primary_start_timeout)
    # The leader tries to start again first, and where that works nobody else is elected
    again = (Part("starting again in place", (0.0, restart)),) if restart else ()
    stop = Part("checkpoint and clean stop", STOPPING)
    turn = Part("the candidate's next round", (0.0, float(timers.loop_wait)))
    away = Part("the client notices that the host is silent", (0.0, TCP_USER_TIMEOUT / 1000 + 0.3))
    other = Part("it connects to the other proxy", RECONNECT)
    return {
        Fault.CRASH: (seen, *again, quick, promotion, routing),
        Fault.POWER: (lock, silent, promotion, routing),
        Fault.NETWORK: (lock, silent, promotion, routing),
        Fault.SWITCHOVER: (seen, stop, turn, quick, promotion, routing),
        Fault.PATRONI: (
            Part("Docker and Patroni start again", STARTING),
            Part("crash recovery", PROMOTION),
            routing,
        ),
        Fault.FROZEN: (lock, silent, promotion, routing),
        # Any one replica acknowledges a commit
        Fault.REPLICA: (Part("commits go on with the other replica", (0.0, 1.5)),),
        Fault.PROXY: (away, other),
        Fault.POOLER: (Part("the connection is reset", (0.0, 0.1)), other),
    }


def data_loss(inventory: Inventory, synchronous: int | None = None) -> Loss:
    """Return the predicted loss of a failover; `synchronous` is how many replicas commits wait for now.

    With synchronous commit a failover is only to a replica that acknowledged every commit (Patroni's manual,
    replication modes), so nothing acknowledged is lost, whatever the lag. In quorum mode a leader without any replica
    goes on alone: what it acknowledges then exists once. Asynchronous: a replica up to `maximum_lag_on_failover`
    behind the position the leader last published may take over, and that is one `loop_wait` old.
    """
    mode, timers = inventory.cluster.synchronous, inventory.timers
    if mode == "off":
        limit = timers.maximum_lag_on_failover
        return Loss(
            None,
            f"asynchronous: up to {limit} bytes of WAL and what is written in {timers.loop_wait} s",
        )
    if synchronous == 0 and mode == "quorum":
        return Loss(None, "not 0 now: no replica acknowledges commits, the leader goes on alone")
    if mode == "strict":
        return Loss(0, "no acknowledged commit; with no replica left writes stop")
    return Loss(0, "no acknowledged commit, as long as one replica streams")


def _routing(inventory: Inventory) -> Range:
    """Return the seconds until clients reach the new leader: HAProxy's checks, then PgBouncer's next login."""
    haproxy = inventory.haproxy
    again = haproxy.check_fast_interval / 1000
    most = (max(haproxy.check_rise, haproxy.check_fall) - 1) * again
    return (haproxy.check_rise - 1) * again, haproxy.check_interval / 1000 + most + LOGIN_RETRY


def _span(seconds: Range) -> str:
    low, high = (f"{value:g}" for value in (round(seconds[0], 2), round(seconds[1], 2)))
    return f"{low} s" if low == high else f"{low}–{high} s"
