"""What must hold between the fields of an inventory.

A rule names the paths it reads; it is left out when one of them is wrong by itself, so that one mistake gives
one problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from kbpg.inventory.document import Loc
from kbpg.inventory.models import Inventory
from kbpg.inventory.types import split_jump, version_tuple

Found = tuple[Loc, str]
Rule = Callable[[Inventory], Iterator[Found]]

SUPPORTED_POSTGRESQL = (16,)
OLDEST_PATRONI = "3.3.6"
"""The mission's version. 3.3.6 and 4.x are what the templates are written for and tested with."""

RESERVED_ROLES = {
    "replicator": "kbpg's replication role",
    "rewind_user": "kbpg's pg_rewind role",
    "pgbouncer_auth": "kbpg's role for PgBouncer's auth_query",
    "pgbouncer": "PgBouncer's own name for its console",
    "public": "SQL's word for all roles",
    "none": "SQL's word for no role",
    "all": "pg_hba.conf's word for all",
    "replication": "pg_hba.conf's word for replication connections",
    "sameuser": "a word of pg_hba.conf",
    "samerole": "a word of pg_hba.conf",
    "samegroup": "a word of pg_hba.conf",
    "current_user": "a word of SQL",
    "session_user": "a word of SQL",
    "current_role": "a word of SQL",
    "user": "a word of SQL",
}
RESERVED_DATABASES = {
    "postgres": "the maintenance database",
    "template0": "PostgreSQL's template",
    "template1": "PostgreSQL's template",
    "pgbouncer": "PgBouncer's console",
    "all": "pg_hba.conf's word for all",
    "replication": "pg_hba.conf's word for replication connections",
    "sameuser": "a word of pg_hba.conf",
    "samerole": "a word of pg_hba.conf",
    "samegroup": "a word of pg_hba.conf",
}

DB_PORTS = ("postgresql", "patroni", "raft")
PROXY_PORTS = ("primary", "replicas", "stats", "pgbouncer")

FIXED_HNSW = (0, 8, 2)
"""pgvector 0.6.0 to 0.8.1 overflow a buffer in parallel HNSW builds (CVE-2026-3172), fixed in 0.8.2."""


def db_count(inventory: Inventory) -> Iterator[Found]:
    count = len(inventory.db)
    if count < 3:
        yield (
            ("db",),
            f"wanted at least three hosts, got {count}: a quorum that survives one host needs three",
        )
    elif count % 2 == 0:
        yield (
            ("db",),
            f"wanted an odd number of hosts, got {count}: {count} survive no more failures than {count - 1}",
        )


def proxy_count(inventory: Inventory) -> Iterator[Found]:
    if not inventory.proxies:
        yield ("proxies",), "wanted at least one host"


def _placed(inventory: Inventory) -> list[tuple[Loc, str, str]]:
    lists = (("db", inventory.db), ("proxies", inventory.proxies))
    return [((name, i), host.name, host.address) for name, hosts in lists for i, host in enumerate(hosts)]


def unique_hosts(inventory: Inventory) -> Iterator[Found]:
    names: dict[str, Loc] = {}
    addresses: dict[str, Loc] = {}
    for loc, name, address in _placed(inventory):
        for seen, key, value in ((names, "name", name), (addresses, "address", address)):
            first = seen.setdefault(value, loc)
            if first != loc:
                yield (*loc, key), f'"{value}" is also the {key} of {first[0]}[{first[1]}]'


def unique_ssh(inventory: Inventory) -> Iterator[Found]:
    seen: dict[tuple[str, int, str | None], str] = {}
    for (loc, name, _), host in zip(_placed(inventory), inventory.hosts, strict=True):
        ssh = inventory.ssh_for(host)
        first = seen.setdefault((ssh.host, ssh.port, ssh.jump), name)
        if first != name and host.ssh.host:
            yield (*loc, "ssh", "host"), f"{ssh.host} port {ssh.port} is already how {first} is reached"


def load_balancer_is_no_host(inventory: Inventory) -> Iterator[Found]:
    for _, name, address in _placed(inventory):
        if inventory.cluster.load_balancer == address:
            yield (
                ("cluster", "load_balancer"),
                f'"{address}" is the address of {name}: wanted one outside the cluster, or null',
            )


def timers(inventory: Inventory) -> Iterator[Found]:
    t = inventory.timers
    needed = t.loop_wait + 2 * t.retry_timeout
    if needed > t.ttl:
        yield (
            ("timers", "ttl"),
            f"Patroni wants loop_wait + 2 * retry_timeout <= ttl, got {t.loop_wait} + 2 * {t.retry_timeout} "
            f"= {needed} > {t.ttl}",
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


def _colliding(inventory: Inventory, keys: Iterable[str], where: str) -> Iterator[Found]:
    by_port: dict[int, list[str]] = defaultdict(list)
    for key in keys:
        by_port[getattr(inventory.ports, key)].append(key)
    for port, users in by_port.items():
        for later in users[1:]:
            yield ("ports", later), f"{port} is also ports.{users[0]}, both are on {where}"


def db_ports(inventory: Inventory) -> Iterator[Found]:
    yield from _colliding(inventory, DB_PORTS, "the db hosts")


def proxy_ports(inventory: Inventory) -> Iterator[Found]:
    yield from _colliding(inventory, PROXY_PORTS, "the proxies")


def ssh_ports(inventory: Inventory) -> Iterator[Found]:
    for hosts, keys in ((inventory.db, DB_PORTS), (inventory.proxies, PROXY_PORTS)):
        for key in keys:
            port = getattr(inventory.ports, key)
            for host in hosts:
                ssh = inventory.ssh_for(host)
                if ssh.host == host.address and ssh.port == port:
                    yield ("ports", key), f"{port} is also the SSH port of {host.name}"
                    break


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


def jump_is_no_host(inventory: Inventory) -> Iterator[Found]:
    for list_name, hosts in (("db", inventory.db), ("proxies", inventory.proxies)):
        for i, host in enumerate(hosts):
            if host.ssh.jump and split_jump(host.ssh.jump)[1] == (host.ssh.host or host.address):
                yield (list_name, i, "ssh", "jump"), f"{host.name} cannot be reached through itself"


def _paths(section: str, keys: Iterable[str]) -> tuple[Loc, ...]:
    return tuple((section, key) for key in keys)


_PARAMETERS: Loc = ("postgresql", "parameters")

ALL: tuple[tuple[tuple[Loc, ...], Rule], ...] = (
    ((("db",),), db_count),
    ((("proxies",),), proxy_count),
    ((), unique_hosts),
    ((("ssh",),), unique_ssh),
    ((("cluster", "load_balancer"),), load_balancer_is_no_host),
    (_paths("timers", ("ttl", "loop_wait", "retry_timeout")), timers),
    ((), role_names),
    (_paths("cluster", ("superuser", "app_user")), two_roles),
    ((), database_name),
    ((), postgresql_version),
    ((), patroni_version),
    (_paths("ports", DB_PORTS), db_ports),
    (_paths("ports", PROXY_PORTS), proxy_ports),
    ((("ssh", "port"),), ssh_ports),
    (_paths("haproxy", ("check_interval", "check_fast_interval")), haproxy_intervals),
    ((("versions", "pgvector"), (*_PARAMETERS, "max_parallel_maintenance_workers")), parallel_hnsw),
    ((("cluster", "synchronous"), (*_PARAMETERS, "synchronous_commit")), durable_commits),
    ((), jump_is_no_host),
)
"""Every rule with the paths it needs to be right by themselves."""


def broken_rules(inventory: Inventory, wrong: Iterable[Loc] = ()) -> Iterator[Found]:
    """Yield path and sentence of every broken rule, but for rules that need a path in `wrong`."""
    bad = set(wrong)
    for needs, rule in ALL:
        if not any(need[: len(loc)] == loc for need in needs for loc in bad if loc):
            yield from rule(inventory)
