"""The proxies: HAProxy's port, route and health checks; PgBouncer's port, authentication and pools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kbpg.health.validation.acceptance import Acceptance, Verdict, judged
from kbpg.layout import HAPROXY, PGBOUNCER

if TYPE_CHECKING:
    from kbpg.haproxy import Server
    from kbpg.health.validation.subject import Subject

Look = Callable[[str], tuple[list[str], str]]
"""From a proxy to what is wrong there and the lines of evidence."""


def _everywhere(subject: Subject, summary: str, look: Look) -> Verdict:
    """Judge every proxy alike."""
    problems, evidence = [], []
    lost = subject.snapshot.unreachable
    for name in subject.context.proxy_names:
        if name in lost:
            problems.append(f"{name}: {lost[name].reason}")
            continue
        wrong, line = look(name)
        problems += [f"{name}: {text}" for text in wrong]
        evidence += [f"{name}: {part}" for part in line.splitlines()]
    return judged(problems, summary, evidence)


def _container(subject: Subject, name: str, container: str) -> tuple[list[str], str]:
    state = subject.snapshot.state(name, container)
    found = (subject.snapshot.containers(name) or {}).get(container)
    if state != "running" or found is None:
        return [f"container {container} is {state or 'unknown: Docker does not answer'}"], ""
    return [], f"running since {str(found['State']['StartedAt'])[:19]}Z, {found['RestartCount']} restarts"


def haproxy_active(subject: Subject) -> Verdict:
    """Judge whether HAProxy runs on every proxy."""
    summary = f"running on {len(subject.context.proxy_names)} proxies"
    return _everywhere(subject, summary, lambda name: _container(subject, name, HAPROXY))


def listening(subject: Subject) -> Verdict:
    """Judge whether a query comes through HAProxy's port to the leader."""
    port = subject.context.inventory.ports.primary

    def look(name: str) -> tuple[list[str], str]:
        rows, reason = subject.known(subject.snapshot.ask.views.primary, name)
        return ([reason], "") if not rows else ([], f"a query through port {port} answers")

    return _everywhere(subject, f"port {port} answers a query on every proxy", look)


def routing(subject: Subject) -> Verdict:
    """Judge whether HAProxy's port leads to the leader, and to no other."""
    snapshot = subject.snapshot

    def look(name: str) -> tuple[list[str], str]:
        rows, reason = subject.known(snapshot.ask.views.primary, name)
        if not rows:
            return [reason], ""
        replica, address = rows[0]
        host = snapshot.by_address.get(str(address), str(address))
        wrong = [f"leads to {host}, which is a replica"] if replica else []
        if snapshot.leader and host != snapshot.leader:
            wrong.append(f"leads to {host}, but {snapshot.leader} leads")
        return wrong, f"leads to {host} ({address}), which takes writes" if not replica else ""

    return _everywhere(subject, f"every proxy routes to {snapshot.leader}", look)


def health_checks(subject: Subject) -> Verdict:
    """Judge whether HAProxy checks every node, and finds just the leader fit for writes."""
    snapshot, names = subject.snapshot, subject.context.db_names

    def look(name: str) -> tuple[list[str], str]:
        servers, reason = subject.known(snapshot.ask.haproxy, name)
        if servers is None:
            return [reason], ""
        wrong = [
            f"{s.name} of {s.proxy} is not checked" for s in servers if not s.check or "no check" in s.status
        ]
        for proxy in ("primary", "replicas"):
            mine = {s.name for s in servers if s.proxy == proxy}
            wrong += [
                f"{missing} is not among the servers of {proxy}" for missing in names if missing not in mine
            ]
        up = [s.name for s in servers if s.proxy == "primary" and s.up]
        if up != [snapshot.leader]:
            wrong.append(f"up for writes: {', '.join(up) or 'none'}")
        return wrong, "\n".join(_shown(servers, proxy) for proxy in ("primary", "replicas"))

    return _everywhere(subject, f"{len(names)} nodes checked by every proxy, one up for writes", look)


def _shown(servers: Iterable[Server], proxy: str) -> str:
    mine = (
        f"{server.name} {server.status} ({server.check.removeprefix('* ')})"
        for server in servers
        if server.proxy == proxy
    )
    return f"{proxy}: {', '.join(mine)}"


def pgbouncer_active(subject: Subject) -> Verdict:
    """Judge whether PgBouncer runs and answers a query of the application's on every proxy."""
    port = subject.context.inventory.ports.pgbouncer

    def look(name: str) -> tuple[list[str], str]:
        wrong, line = _container(subject, name, PGBOUNCER)
        rows, reason = subject.known(subject.snapshot.ask.views.pooled, name)
        if rows:
            return wrong, f"{line or PGBOUNCER}, a query through port {port} answers"
        return [*wrong, reason], line

    proxies = len(subject.context.proxy_names)
    return _everywhere(subject, f"running on {proxies} proxies, port {port} answers a query", look)


def scram(subject: Subject) -> Verdict:
    """Judge whether PgBouncer lets clients in by SCRAM alone."""

    def look(name: str, config: Any) -> tuple[list[str], str]:
        kind = config.get("auth_type")
        return [] if kind == "scram-sha-256" else [f"auth_type is {kind}"], f"auth_type = {kind}"

    return _configured(subject, "auth_type is scram-sha-256", look)


def pool(subject: Subject) -> Verdict:
    """Judge whether the pools are as large as the inventory says."""
    wanted = subject.context.inventory.pgbouncer
    sizes = {
        "default_pool_size": wanted.pool_size,
        "reserve_pool_size": wanted.reserve_pool_size,
        "max_client_conn": wanted.max_client_connections,
        "max_prepared_statements": wanted.max_prepared_statements,
    }

    def look(name: str, config: Any) -> tuple[list[str], str]:
        wrong = [f"{k} is {config.get(k)}, wanted {v}" for k, v in sizes.items() if config.get(k) != str(v)]
        return wrong, ", ".join(f"{key} = {config.get(key)}" for key in sizes)

    summary = f"{wanted.pool_size} server connections a pool, {wanted.max_client_connections} clients"
    return _configured(subject, summary, look)


def transaction_mode(subject: Subject) -> Verdict:
    """Judge whether connections are pooled by transaction, in every pool."""

    def look(name: str, config: Any) -> tuple[list[str], str]:
        mode = config.get("pool_mode")
        console, _ = subject.known(subject.snapshot.ask.pooler, name)
        pools = {
            f"{row['database']}/{row['user']}": row.get("pool_mode")
            for row in (console.pools if console else ())
            if row["database"] != "pgbouncer"
        }
        wrong = [] if mode == "transaction" else [f"pool_mode is {mode}"]
        wrong += [f"pool {each} is in {how} mode" for each, how in pools.items() if how != "transaction"]
        return wrong, f"pool_mode = {mode}; pools {', '.join(pools) or 'none yet'}"

    return _configured(subject, "every pool is in transaction mode", look)


def _configured(subject: Subject, summary: str, look: Callable[[str, Any], tuple[list[str], str]]) -> Verdict:
    def configured(name: str) -> tuple[list[str], str]:
        config, reason = subject.known(subject.pooler_config, name)
        return ([reason], "") if config is None else look(name, config)

    return _everywhere(subject, summary, configured)


CHECKS = (
    Acceptance("haproxy", "{proxies} HAProxy active", "HAProxy", haproxy_active),
    Acceptance("haproxy-port", "{ports.primary} listening", "HAProxy", listening),
    Acceptance("haproxy-route", "routing to the primary", "HAProxy", routing, ("leader",)),
    Acceptance("haproxy-checks", "health checks active", "HAProxy", health_checks, ("leader",)),
    Acceptance("pgbouncer", "{proxies} PgBouncer active on {ports.pgbouncer}", "PgBouncer", pgbouncer_active),
    Acceptance("pgbouncer-scram", "SCRAM", "PgBouncer", scram),
    Acceptance("pgbouncer-pool", "pool configured", "PgBouncer", pool),
    Acceptance("pgbouncer-mode", "transaction mode", "PgBouncer", transaction_mode),
)
