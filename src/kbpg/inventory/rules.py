"""What must hold between the fields of an inventory.

A rule names the paths it reads; it is left out when one of them is wrong by itself, so that one mistake gives
one problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from kbpg.inventory import database_rules, firewall_rules, host_rules, memory_rules
from kbpg.inventory.checks import overlap, version_tuple
from kbpg.inventory.document import Loc
from kbpg.inventory.host_rules import DB_PORTS, PROXY_PORTS, Found
from kbpg.inventory.models import Inventory
from kbpg.inventory.reserved import RESERVED_DATABASES, RESERVED_ROLES
from kbpg.inventory.show import shown

Rule = Callable[[Inventory], Iterator[Found]]

SUPPORTED_POSTGRESQL = (16,)
OLDEST_PATRONI = "3.3.6"
"""The mission's version. 3.3.6 and 4.x are what the templates are written for and tested with."""

PATRONI_MINIMUMS = {
    "max_wal_senders": 3,
    "max_replication_slots": 4,
    "max_worker_processes": 2,
    "max_locks_per_transaction": 32,
    "max_prepared_transactions": 0,
}
"""`CMDLINE_OPTIONS` of patroni/postgresql/config.py; less is replaced by Patroni's default."""

WAL_LEVELS = ("replica", "logical")
"""What the same options leave of PostgreSQL's words for `wal_level`: anything else becomes Patroni's default."""

INSIDE = ("/var/lib/postgresql", "/var/lib/raft", "/var/run")
"""What Patroni's container has in places where a host's directory may be mounted (steps/patroni_node.py)."""

WATCHDOG_MARGIN = 4
"""Seconds: `MARGIN` of templates/patroni/watchdog.py, what a round of a healthy leader may be seen late by."""

FIXED_HNSW = (0, 8, 2)
"""pgvector 0.6.0 to 0.8.1 overflow a buffer in parallel HNSW builds (CVE-2026-3172), fixed in 0.8.2."""


def timers(inventory: Inventory) -> Iterator[Found]:
    t = inventory.timers
    needed = t.loop_wait + 2 * t.retry_timeout
    if needed > t.ttl:
        yield (
            ("timers", "ttl"),
            f"Patroni wants loop_wait + 2 * retry_timeout <= ttl, got {t.loop_wait} + 2 * {t.retry_timeout} "
            f"= {needed} > {t.ttl}",
        )
        return
    # The watchdog waits max(ttl / 2, ttl - loop_wait - margin) seconds, and sees a sign of life once per loop_wait:
    # either of the two is loop_wait + margin or more exactly where this holds (tests/unit/test_watchdog_timers.py)
    needed = 2 * (t.loop_wait + WATCHDOG_MARGIN)
    if needed > t.ttl:
        yield (
            ("timers", "ttl"),
            f"wanted 2 * (loop_wait + {WATCHDOG_MARGIN}) or more, got {t.ttl} with loop_wait {t.loop_wait}: the "
            f"watchdog beside Patroni would end leaders that are well; ttl {needed}, or loop_wait "
            f"{t.ttl // 2 - WATCHDOG_MARGIN}, is enough",
        )


def role_names(inventory: Inventory) -> Iterator[Found]:
    c = inventory.cluster
    for key, value in (("superuser", c.superuser), ("app_user", c.app_user)):
        if value in RESERVED_ROLES:
            yield ("cluster", key), f'"{value}" is reserved: {RESERVED_ROLES[value]}'
    if c.app_user == "postgres":
        yield ("cluster", "app_user"), '"postgres" is reserved: by tradition a superuser, not an application'


def two_roles(inventory: Inventory) -> Iterator[Found]:
    if inventory.cluster.superuser == inventory.cluster.app_user:
        yield ("cluster", "app_user"), "is the superuser as well: the application must not be one"


def database_name(inventory: Inventory) -> Iterator[Found]:
    name = inventory.cluster.database
    if name in RESERVED_DATABASES:
        yield ("cluster", "database"), f'"{name}" is reserved: {RESERVED_DATABASES[name]}'
    elif long := database_rules.too_long(name):
        yield ("cluster", "database"), long


def postgresql_version(inventory: Inventory) -> Iterator[Found]:
    version = inventory.versions.postgresql
    if version not in SUPPORTED_POSTGRESQL:
        yield ("versions", "postgresql"), f"wanted 16, got {version}: only 16 is supported now"


def patroni_version(inventory: Inventory) -> Iterator[Found]:
    text = inventory.versions.patroni
    if version_tuple(text) < version_tuple(OLDEST_PATRONI):
        yield ("versions", "patroni"), f"wanted {OLDEST_PATRONI} or newer, got {text}"
    elif version_tuple(text)[0] > 4:
        yield (
            ("versions", "patroni"),
            f"wanted 3.3 or 4.x, got {text}: kbpg was not made for it, Raft may be gone",
        )


def _distinct(first: str, second: str, where: str) -> tuple[tuple[Loc, ...], Rule]:
    """Return the rule that two ports on the same hosts differ, with what it needs."""

    def rule(inventory: Inventory) -> Iterator[Found]:
        port = getattr(inventory.ports, second)
        if port == getattr(inventory.ports, first):
            yield ("ports", second), f"{port} is also ports.{first}, both are on {where}"

    return _paths("ports", (first, second)), rule


def haproxy_intervals(inventory: Inventory) -> Iterator[Found]:
    h = inventory.haproxy
    if h.check_fast_interval > h.check_interval:
        yield (
            ("haproxy", "check_fast_interval"),
            f"wanted no more than check_interval ({h.check_interval}), got {h.check_fast_interval}",
        )


def parallel_hnsw(inventory: Inventory) -> Iterator[Found]:
    workers = inventory.postgresql.parameters.get("max_parallel_maintenance_workers")
    version = inventory.versions.pgvector
    if workers is not None and str(workers) != "0" and (0, 6) <= version_tuple(version) < FIXED_HNSW:
        yield (
            ("postgresql", "parameters", "max_parallel_maintenance_workers"),
            f"must stay 0 with pgvector {version}: before 0.8.2 parallel HNSW builds overflow a buffer "
            "(CVE-2026-3172)",
        )


def durable_commits(inventory: Inventory) -> Iterator[Found]:
    value = str(inventory.postgresql.parameters.get("synchronous_commit", "on")).lower()
    if value in {"off", "local", "false", "0", "no"} and inventory.cluster.synchronous != "off":
        yield (
            ("postgresql", "parameters", "synchronous_commit"),
            f'"{value}" would lose acknowledged commits in a failover: if that is meant, '
            "set cluster.synchronous to off",
        )


def wal_level(inventory: Inventory) -> Iterator[Found]:
    value = inventory.postgresql.parameters.get("wal_level")
    if value is None or value in WAL_LEVELS:
        return
    why = ": replicas could not follow" if value == "minimal" else ""
    yield ("postgresql", "parameters", "wal_level"), f"wanted replica or logical, got {shown(value)}{why}"


def parameter_minimums(inventory: Inventory) -> Iterator[Found]:
    for name, minimum in PATRONI_MINIMUMS.items():
        value = inventory.postgresql.parameters.get(name)
        if value is None:
            continue
        where: Loc = ("postgresql", "parameters", name)
        if isinstance(value, bool) or not str(value).isdecimal():
            yield where, f"wanted a whole number, got {shown(value)}"
        elif int(value) < minimum:
            yield where, f"wanted {minimum} or more, got {value}: Patroni ignores less"


def mounts(inventory: Inventory) -> Iterator[Found]:
    own, seen = inventory.cluster.base_dir, set[str]()
    for number, path in enumerate(inventory.postgresql.mounts):
        where: Loc = ("postgresql", "mounts", number)
        hidden = next((each for each in INSIDE if overlap(path, each)), None)
        if path in seen:
            yield where, f"{path} is there twice"
        elif overlap(path, own):
            yield where, f"wanted a directory apart from cluster.base_dir ({own}), got {path}"
        elif hidden:
            yield where, f"{path} would hide the container's own {hidden}: wanted a place such as /srv/backup"
        seen.add(path)


def _paths(section: str, keys: Iterable[str]) -> tuple[Loc, ...]:
    return tuple((section, key) for key in keys)


_PARAMETERS: Loc = ("postgresql", "parameters")

ALL: tuple[tuple[tuple[Loc, ...], Rule], ...] = (
    ((("db",),), host_rules.db_count),
    ((("proxies",),), host_rules.proxy_count),
    ((), host_rules.unique_hosts),
    ((), host_rules.names_of_files),
    ((("ssh",),), host_rules.unique_ssh),
    ((("cluster", "load_balancer"),), host_rules.load_balancer_is_no_host),
    (_paths("timers", ("ttl", "loop_wait", "retry_timeout")), timers),
    ((), role_names),
    (_paths("cluster", ("superuser", "app_user")), two_roles),
    ((), database_name),
    ((("databases",), ("cluster", "database")), database_rules.database_names),
    ((("databases",), ("roles",)), database_rules.database_lists),
    ((("roles",), ("proxies",)), database_rules.role_list),
    ((("roles",),), database_rules.memberships),
    ((("roles",), ("databases",)), database_rules.grants),
    ((), postgresql_version),
    ((), patroni_version),
    *(_distinct(*pair, "the db hosts") for pair in combinations(DB_PORTS, 2)),
    *(_distinct(*pair, "the proxies") for pair in combinations(PROXY_PORTS, 2)),
    ((("ssh", "port"),), host_rules.ssh_ports),
    ((("ssh", "port"), ("prepare", "firewall")), firewall_rules.ssh_is_no_port),
    ((("prepare", "allowed_clients"),), firewall_rules.not_everyone),
    ((("roles",),), firewall_rules.not_all_direct),
    ((("prepare", "allowed_clients"), ("prepare", "firewall")), firewall_rules.clients_without_firewall),
    (_paths("haproxy", ("check_interval", "check_fast_interval")), haproxy_intervals),
    (_paths("haproxy", ("max_connections", "memory_limit")), memory_rules.haproxy),
    ((*_paths("pgbouncer", memory_rules.POOLS), ("databases",)), memory_rules.pgbouncer),
    ((("versions", "pgvector"), (*_PARAMETERS, "max_parallel_maintenance_workers")), parallel_hnsw),
    ((("cluster", "synchronous"), (*_PARAMETERS, "synchronous_commit")), durable_commits),
    (((*_PARAMETERS, "wal_level"),), wal_level),
    (((*_PARAMETERS,),), parameter_minimums),
    ((("cluster", "base_dir"), ("postgresql", "mounts")), mounts),
    ((("ssh",),), host_rules.no_jump_to_itself),
)
"""Every rule with the paths it needs to be right by themselves."""


def broken_rules(inventory: Inventory, wrong: Iterable[Loc] = ()) -> Iterator[Found]:
    """Yield path and sentence of every broken rule, but for rules that need a path in `wrong`."""
    bad = set(wrong)
    for needs, rule in ALL:
        if not any(need[: len(loc)] == loc for need in needs for loc in bad if loc):
            yield from rule(inventory)
