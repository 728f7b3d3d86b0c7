"""What the status screen asks: whether ports are open, and every program's own view of how it stands."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kbpg import pooler
from kbpg.facts import CallFact, Fact, Login, NotKnown
from kbpg.haproxy import HaproxyFact
from kbpg.health.questions import PoolerFact
from kbpg.hosts.port import Reader
from kbpg.patroni import ClusterFact, NodeFact
from kbpg.raft import RaftFact
from kbpg.raft_admin import member_fact

if TYPE_CHECKING:
    from kbpg.context import Context

OPEN_TIMEOUT = 1.5
"""Seconds a port of a proxy may take to accept a connection; less than the whole pass may take."""
SETTLING = 0.5
"""Seconds for which members of Raft that do not hear each other are asked again: an election parts them for 25 ms
(`raft.SETTLING`). As long as there, the pass would be over, and nothing said of Raft whenever a member is off."""

_NODE = """
select pg_is_in_recovery(), current_setting('server_version'), current_setting('synchronous_standby_names'),
       current_setting('synchronous_commit'), case when pg_is_in_recovery() then pg_is_wal_replay_paused() end
"""
_REPLICAS = """
select application_name, state, sync_state,
       case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint end,
       extract(epoch from replay_lag)::float8
  from pg_catalog.pg_stat_replication
"""


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
class Follower:
    """A connection of the leader's `pg_stat_replication`; the lags are of replay, None where not known."""

    name: str
    state: str
    sync_state: str
    lag_bytes: int | None
    lag_seconds: float | None

    @property
    def sync(self) -> bool:
        """Return whether commits wait for it, alone or as one of a quorum, and it is there."""
        return self.state == "streaming" and self.sync_state in ("sync", "quorum")


@dataclass(frozen=True)
class Postgres:
    """What PostgreSQL says of itself; with `refused`, its reason to let nobody in, it said nothing else."""

    read_only: bool | None = None
    version: str | None = None
    commits_wait: bool | None = None
    replay_paused: bool = False
    followers: tuple[Follower, ...] = ()
    refused: str | None = None


@dataclass(frozen=True)
class PostgresFact(CallFact[Postgres]):
    """PostgreSQL's view of itself and of who streams from it, in one connection."""

    login: Login
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"postgres:{self.login.port}"

    def ask(self, reader: Reader) -> Postgres:
        """Ask; raises `NotKnown` where it does not answer, or is starting or stopping."""
        import psycopg

        from kbpg import sql

        try:
            with sql.connect(reader, self.login) as connection:
                ((read_only, version, names, commit, paused),) = sql.ask(connection, _NODE)
                rows = sql.ask(connection, _REPLICAS)
        except psycopg.Error as error:
            reason = sql.short(error)
            if "FATAL:" in str(error) and not reason.startswith("the database system is"):
                return Postgres(refused=reason)
            raise NotKnown(f"port {self.login.port}: {reason}") from None
        # A commit is sure to be elsewhere if it waits for somebody (PostgreSQL's manual, 20.6.2 and 20.5.1)
        waits = bool(names) and commit not in ("off", "local")
        followers = tuple(Follower(*row) for row in rows)
        return Postgres(read_only, str(version).split()[0], waits, bool(paused), followers)


@dataclass(frozen=True)
class Questions:
    """What is asked; None what is not, because the credentials file lacks its password."""

    node: NodeFact
    cluster: ClusterFact
    postgres: PostgresFact | None
    raft: RaftFact | None
    primary: PortFact
    pgbouncer: PortFact
    haproxy: HaproxyFact
    pooler: PoolerFact | None

    @classmethod
    def of(cls, context: Context, missing: Collection[str]) -> Questions:
        """Return the questions for this inventory, and passwords but the `missing` ones (names of the file)."""
        ports = context.inventory.ports
        postgres, raft = PostgresFact(context.superuser()), member_fact(context)
        return cls(
            NodeFact(ports.patroni),
            ClusterFact(ports.patroni),
            None if "POSTGRES_SUPERPASS" in missing else postgres,
            None if "RAFT_PASS" in missing else replace(raft, settling=SETTLING),
            PortFact(ports.primary),
            PortFact(ports.pgbouncer),
            HaproxyFact(ports.stats),
            None if "PGBOUNCER_AUTH_PASS" in missing else PoolerFact(pooler.console(context)),
        )

    def on_db(self) -> list[Fact[Any]]:
        """Return those for a db host."""
        return [fact for fact in (self.node, self.cluster, self.postgres, self.raft) if fact]

    def on_proxy(self) -> list[Fact[Any]]:
        """Return those for a proxy."""
        return [fact for fact in (self.primary, self.pgbouncer, self.haproxy, self.pooler) if fact]
