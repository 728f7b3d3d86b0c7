"""What a diagnosis asks PostgreSQL, on every node and through every proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbpg.context import Context
from kbpg.inventory import read_name
from kbpg.layout import POOLER_USER
from kbpg.resources.sql_facts import RowsFact

_NODE = """
select pg_is_in_recovery(), (pg_control_checkpoint()).timeline_id, (pg_control_system()).system_identifier::text,
       current_setting('server_version'), case when pg_is_in_recovery() then pg_is_wal_replay_paused() end
"""
_REPLICAS = """
select application_name, state, sync_state,
       case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint end
  from pg_catalog.pg_stat_replication
"""
_SLOTS = """
select slot_name, slot_type, active, wal_status,
       case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint end
  from pg_catalog.pg_replication_slots
"""
_SETTINGS = """
select name, setting, unit, pending_restart from pg_catalog.pg_settings
 where name in ('fsync', 'full_page_writes', 'password_encryption', 'max_parallel_maintenance_workers',
                'max_connections', 'max_replication_slots', 'shared_buffers', 'effective_cache_size', 'work_mem',
                'maintenance_work_mem', 'synchronous_standby_names', 'synchronous_commit') or pending_restart
"""
_RULES = """
select type, array_to_string(database, ','), array_to_string(user_name, ','), coalesce(address, ''), auth_method,
       coalesce(error, '') from pg_catalog.pg_hba_file_rules
"""
_AVAILABLE = (
    "select name, version, installed from pg_catalog.pg_available_extension_versions where name = 'vector'"
)
_OVERRIDDEN = """
select f.name, f.setting, s.context from pg_catalog.pg_file_settings f join pg_catalog.pg_settings s using (name)
 where f.sourcefile like '%/postgresql.auto.conf'
"""
_ARCHIVER = """
select current_setting('archive_mode'), coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),
       last_failed_wal, last_archived_wal,
       (select count(*) from pg_catalog.pg_ls_archive_statusdir() where name like '%.ready')
  from pg_catalog.pg_stat_archiver
"""
_CONNECTIONS = "select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend'"
_ROUTE = "select pg_is_in_recovery(), host(inet_server_addr())"
_VECTOR = "select ('[1,2,3]'::vector <-> '[1,2,4]'::vector)::text"


@dataclass(frozen=True)
class Views:
    """What is asked of PostgreSQL, on the db hosts and through the proxies."""

    node: RowsFact
    streaming: RowsFact
    slots: RowsFact
    settings: RowsFact
    overridden: RowsFact
    rules: RowsFact
    available: RowsFact
    connections: RowsFact
    archiver: RowsFact
    primary: RowsFact
    replicas: RowsFact
    pooled: RowsFact
    reads: RowsFact
    vector: RowsFact
    lookup: RowsFact

    def on_db(self) -> Sequence[RowsFact]:
        """Return those for db hosts."""
        return (
            self.node,
            self.streaming,
            self.slots,
            self.settings,
            self.overridden,
            self.rules,
            self.available,
            self.connections,
            self.archiver,
        )

    def on_proxy(self) -> Sequence[RowsFact]:
        """Return those for proxies."""
        return self.primary, self.replicas, self.pooled, self.reads, self.vector, self.lookup


def views(context: Context) -> Views:
    """Return the questions; `lookup` is answered by PgBouncer's own role, whose password it has in a file."""
    own, ports = context.superuser(), context.inventory.ports
    app = context.application(ports.pgbouncer)
    reader = replace(app, database=read_name(app.database))

    def local(name: str, query: str) -> RowsFact:
        return RowsFact(own, f"health {name}", query, live=True)

    def through(port: int) -> RowsFact:
        login = context.login(own.user, "superuser_password", "postgres", port)
        return RowsFact(login, "health route", _ROUTE, live=True)

    lookup = context.login(POOLER_USER, "pgbouncer_password", "postgres", ports.pgbouncer)
    return Views(
        node=local("node", _NODE),
        streaming=local("streaming", _REPLICAS),
        slots=local("slots", _SLOTS),
        settings=local("settings", _SETTINGS),
        overridden=local("overridden", _OVERRIDDEN),
        rules=local("rules", _RULES),
        available=local("available", _AVAILABLE),
        connections=local("connections", _CONNECTIONS),
        archiver=local("archiver", _ARCHIVER),
        primary=through(ports.primary),
        replicas=through(ports.replicas),
        pooled=RowsFact(app, "health route", _ROUTE, pooled=True, live=True),
        reads=RowsFact(reader, "health route", _ROUTE, pooled=True, live=True),
        vector=RowsFact(app, "health vector", _VECTOR, pooled=True, live=True),
        lookup=RowsFact(lookup, "health lookup", "select 1", pooled=True, live=True),
    )
