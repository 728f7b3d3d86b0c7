"""Who is connected to the cluster now, besides kbpg and Patroni themselves."""

from __future__ import annotations

from dataclasses import dataclass

from kbpg import pooler
from kbpg.engine.site import Site
from kbpg.facts import CallFact, Login, NotKnown
from kbpg.hosts.port import Reader
from kbpg.layout import POOLER_USER, REPLICATION_USER
from kbpg.resources.sql_facts import RowsFact

_SESSIONS = f"""\
select coalesce(host(client_addr), 'local'), application_name ~ '^(kbpg|Patroni)', count(*)
from pg_catalog.pg_stat_activity where pid <> pg_backend_pid()
  and (backend_type = 'client backend' or (backend_type = 'walsender' and usename <> '{REPLICATION_USER}'))
group by 1, 2"""  # noqa: S608 (a constant)


@dataclass(frozen=True)
class PoolFact(CallFact[tuple[int, int]]):
    """How many clients a PgBouncer has, and how many server connections of its own."""

    login: Login
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"pool:{self.login.port}"

    def ask(self, reader: Reader) -> tuple[int, int]:
        """Ask its console. Raises `NotKnown` where it does not answer."""
        import psycopg

        from kbpg import sql

        try:
            with sql.connect(reader, self.login, pooled=True) as connection:
                clients = [row for row in pooler.rows(connection, "CLIENTS") if row["user"] != POOLER_USER]
                return len(clients), len(pooler.rows(connection, "SERVERS"))
        except (OSError, psycopg.Error) as error:
            raise NotKnown(f"port {self.login.port}: {sql.short(error)}") from None


def connected(site: Site) -> dict[str, int]:
    """Return how many clients there are, by the way they come; only ways with clients, and only what answers.

    A session that comes from a proxy is PgBouncer's own, or a client's of HAProxy: the two are told apart by their
    number alone, so somebody who comes or goes just then may be counted wrongly. PgBouncer's sessions that served
    kbpg last still bear its name.
    """
    context = site.context
    pool = PoolFact(pooler.console(context))
    sessions = RowsFact(context.superuser(), "sessions", _SESSIONS, live=True)
    wanted: dict[str, tuple[RowsFact | PoolFact, ...]] = dict.fromkeys(context.db_names, (sessions,))
    facts = site.look({**wanted, **dict.fromkeys(context.proxy_names, (pool,))})
    pools = [found for name in context.proxy_names if (found := facts.known(pool, name))]
    rows = [row for name in context.db_names for row in facts.known(sessions, name) or ()]
    proxies = {str(proxy.address) for proxy in context.inventory.proxies}
    through = sum(int(count) for where, _, count in rows if where in proxies)
    ways = {
        "through PgBouncer": sum(clients for clients, _ in pools),
        "through HAProxy": max(0, through - sum(servers for _, servers in pools)),
        "on the db hosts": sum(
            int(count) for where, ours, count in rows if where not in proxies and not ours
        ),
    }
    return {way: count for way, count in ways.items() if count}
