"""PgBouncer: it answers, looks passwords up, has servers to give, and is not paused."""

from __future__ import annotations

from collections.abc import Iterable

from kbpg.facts import REFUSED
from kbpg.health.check import CONTAINER_FAULT, HOST_FAULT, LEADERLESS, POOLED_FAULT, Check, Seen
from kbpg.health.checks.containers import last_lines, step_for
from kbpg.health.finding import Action, Repair, Severity
from kbpg.health.questions import Row
from kbpg.health.snapshot import Snapshot
from kbpg.inventory import read_name
from kbpg.layout import PGBOUNCER
from kbpg.model import ABSENT, CLUSTER
from kbpg.resources.auth_query import AuthQuery
from kbpg.tuning import UNLISTED_CONNECTIONS

PATIENCE = 1
"""Seconds a client may wait for a server before it is worth a line; a full pool in passing waits milliseconds."""
DOWN = (*CONTAINER_FAULT, "pgbouncer-silent", "pgbouncer-paused")
HAPROXY_FAULT = ("haproxy-silent", "haproxy-no-leader", "haproxy-route-wrong", "haproxy-unusable")


def silent(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the proxies whose PgBouncer runs and whose console does not answer."""
    for proxy in snapshot.proxies:
        why = snapshot.why_not(snapshot.ask.pooler, proxy)
        if why and snapshot.state(proxy, PGBOUNCER) == "running":
            will = f"bring PgBouncer on {proxy} back to what the inventory says"
            yield Seen(
                proxy,
                f"PgBouncer runs, but its console does not answer: {why}",
                last_lines(snapshot, proxy, PGBOUNCER),
                **step_for(snapshot, proxy, PGBOUNCER, will, "clients that it still serves reconnect"),
            )


def _served(snapshot: Snapshot, proxy: str) -> list[Row]:
    """Return the databases that PgBouncer serves, without its console."""
    rows = pooler.databases if (pooler := snapshot.pooler(proxy)) else ()
    return [row for row in rows if row.get("name") != "pgbouncer"]


def paused(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the PgBouncers that somebody paused, or whose database is disabled."""
    for proxy in snapshot.proxies:
        held = [
            str(row["name"]) for row in _served(snapshot, proxy) if _on(row, "paused") or _on(row, "disabled")
        ]
        pooler = snapshot.pooler(proxy)
        whole = pooler is not None and pooler.state.get("paused") == "yes"
        if held or whole:
            waiting = sum(int(row.get("cl_waiting") or 0) for row in pooler.pools) if pooler else 0
            yield Seen(
                proxy,
                "paused" + (f": {', '.join(held)}" if held else ""),
                (f"clients that wait: {waiting}",),
                repair=Repair(
                    Action.RESUME_POOLER,
                    proxy,
                    f"RESUME (and ENABLE {', '.join(held) or 'nothing'}) on {proxy}",
                ),
            )


def _on(row: Row, name: str) -> bool:
    return str(row.get(name, 0)) not in ("0", "", "None", "no")


def target(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the PgBouncers that send their clients elsewhere than to HAProxy."""
    inventory = snapshot.inventory
    proxies = {"127.0.0.1", *(str(host.address) for host in inventory.proxies)}
    reads = {read_name(name) for name in ("postgres", *inventory.database_names)}
    for proxy in snapshot.proxies:
        for row in _served(snapshot, proxy):
            hosts = [host for host in str(row.get("host") or "").split(",") if host]
            strange = [host for host in hosts if host not in proxies]
            port = inventory.ports.replicas if row["name"] in reads else inventory.ports.primary
            if strange or str(row.get("port")) != str(port):
                will = f"write PgBouncer's configuration on {proxy} and reload it"
                yield Seen(
                    proxy,
                    f"database {row['name']} leads to {','.join(hosts)}:{row.get('port')}, which is no HAProxy",
                    **step_for(snapshot, proxy, PGBOUNCER, will),
                )
                break


def auth_query(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield that users cannot be looked up: the function is missing or changed, or the login is refused."""
    for _, found in snapshot.differing(AuthQuery):
        missing = found.change is not None and found.change.have is ABSENT
        seen = "there is no function pgbouncer.{}" if missing else "pgbouncer.{} was changed"
        evidence = () if missing else found.lines
        yield Seen(CLUSTER, seen.format("user_lookup"), evidence, repair=_function())
        return
    for proxy in snapshot.proxies:
        why = snapshot.why_not(snapshot.ask.views.pooled, proxy)
        if not why or snapshot.pooler(proxy) is None or not _about_login(why):
            continue
        user = snapshot.context.credentials.app_user
        yield Seen(
            proxy,
            f"the login of {user} through port {snapshot.inventory.ports.pgbouncer} is refused: {why}",
            last_lines(snapshot, proxy, PGBOUNCER),
            repair=_function(),
        )


def _function() -> Repair:
    will = "create pgbouncer.user_lookup anew, with its owner and its grants"
    return Repair(Action.APPLY_STEP, CLUSTER, will, parameters={"step": "04"})


def _about_login(why: str) -> bool:
    texts = (REFUSED, "no such user", "auth_query", "config error")
    return any(text in why for text in texts)


def unusable(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the PgBouncers that answer, and that do not get the application to the leader."""
    views, port = snapshot.ask.views, snapshot.inventory.ports.pgbouncer
    for proxy in snapshot.proxies:
        if snapshot.pooler(proxy) is None:
            continue
        why = snapshot.why_not(views.pooled, proxy)
        rows = snapshot.facts.known(views.pooled, proxy)
        if why and not _about_login(why):
            seen = f"a query as the application through port {port} fails: {why}"
        elif rows and rows[0][0]:
            where = snapshot.by_address.get(str(rows[0][1]), str(rows[0][1]))
            seen = f"port {port} leads to {where}, which is read-only"
        else:
            continue
        repair = Repair(Action.RECONNECT_POOLER, proxy, f"RECONNECT on {proxy}: new connections to HAProxy")
        yield Seen(proxy, seen, last_lines(snapshot, proxy, PGBOUNCER), repair=repair)


def vector(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the PgBouncers through which the application works, but not with vectors."""
    for proxy in snapshot.proxies:
        why = snapshot.why_not(snapshot.ask.views.vector, proxy)
        rows = snapshot.facts.known(snapshot.ask.views.vector, proxy)
        if snapshot.facts.known(snapshot.ask.views.pooled, proxy) is None:
            continue
        if why or (rows and rows[0][0] != "1"):
            yield Seen(proxy, f"a distance of two vectors cannot be computed: {why or rows}")


def waiting(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the pools whose clients wait for a server connection."""
    for proxy in snapshot.proxies:
        pooler = snapshot.pooler(proxy)
        for row in pooler.pools if pooler else ():
            clients, seconds = _number(row, "cl_waiting"), _number(row, "maxwait")
            if row.get("database") == "pgbouncer" or not clients or seconds < PATIENCE:
                continue
            busy, database = _number(row, "sv_active"), str(row.get("database"))
            pool = f"{row.get('user')}@{database}"
            size, remedy = snapshot.inventory.pgbouncer.pool_size, ""
            if database not in _named(snapshot):
                size = UNLISTED_CONNECTIONS
                remedy = (
                    "list the database in the inventory (databases) with a pool_size, then {kbpg} apply-all"
                )
            yield Seen(
                proxy,
                f"{clients} clients of {pool} wait, the first for {seconds} s",
                (f"{busy} server connections are active, pool size {size}",),
                remedy,
                subject=pool,
            )


def _named(snapshot: Snapshot) -> set[str]:
    """Return the databases that have a line of their own in pgbouncer.ini."""
    inventory = snapshot.inventory
    names = {inventory.cluster.database, "postgres", *(each.name for each in inventory.databases)}
    return names | {read_name(name) for name in names}


def _number(row: Row, name: str) -> int:
    return int(row.get(name) or 0)


CHECKS = (
    Check(
        "pgbouncer-silent",
        "PgBouncer does not answer",
        Severity.CRITICAL,
        "applications that come through this proxy cannot connect",
        "{kbpg} step 04 --limit {host}",
        silent,
        explained_by=CONTAINER_FAULT,
        part=PGBOUNCER,
    ),
    Check(
        "pgbouncer-paused",
        "PgBouncer is paused",
        Severity.CRITICAL,
        "every query waits, and fails after query_wait_timeout; somebody forgot RESUME",
        "{kbpg} diagnose --repair --host {host}",
        paused,
        explained_by=CONTAINER_FAULT,
        part=PGBOUNCER,
    ),
    Check(
        "pgbouncer-target",
        "PgBouncer leads past HAProxy",
        Severity.CRITICAL,
        "it does not follow a failover: its clients stay with a node that no longer leads",
        "{kbpg} step 04 --limit {host}",
        target,
        explained_by=CONTAINER_FAULT,
        part=PGBOUNCER,
    ),
    Check(
        "pgbouncer-auth-query",
        "PgBouncer cannot look users up",
        Severity.CRITICAL,
        "nobody but PgBouncer's own role can log in through it",
        "{kbpg} step 04",
        auth_query,
        explained_by=(*HOST_FAULT, *LEADERLESS, "role-missing", "role-password", "database-missing"),
    ),
    Check(
        "pgbouncer-unusable",
        "nothing comes back through PgBouncer",
        Severity.CRITICAL,
        "it answers, but has no way to the leader: no HAProxy that it knows takes it there",
        "{kbpg} diagnose --repair --host {host}",
        unusable,
        explained_by=(
            *DOWN,
            *LEADERLESS,
            *HAPROXY_FAULT,
            *POOLED_FAULT,
        ),
    ),
    Check(
        "vector-unusable",
        "vectors cannot be used",
        Severity.CRITICAL,
        "the application connects, but its vector queries fail",
        "{kbpg} step 05",
        vector,
        explained_by=("extension-missing", "extension-version", "extension-differs", *LEADERLESS),
    ),
    Check(
        "pgbouncer-waiting",
        "clients wait for PgBouncer",
        Severity.WARNING,
        "all server connections of the pool are in use: queries are slow before they begin",
        "raise pgbouncer.pool_size in the inventory, then {kbpg} apply-all",
        waiting,
        explained_by=(*DOWN, *LEADERLESS, *HAPROXY_FAULT, "pgbouncer-unusable", "pgbouncer-target"),
    ),
)
