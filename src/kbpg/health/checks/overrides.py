"""Parameters set with ALTER SYSTEM: they win over what kbpg and Patroni set, on one node, unseen."""

from __future__ import annotations

import re
from typing import Any

from kbpg.health.checks.replication import psql
from kbpg.health.finding import Action, Repair
from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI
from kbpg.render import sql_identifier

COMMAND_LINE = frozenset(
    {
        "cluster_name",
        "hot_standby",
        "listen_addresses",
        "max_connections",
        "max_locks_per_transaction",
        "max_prepared_transactions",
        "max_replication_slots",
        "max_wal_senders",
        "max_worker_processes",
        "port",
        "track_commit_timestamp",
        "wal_level",
        "wal_log_hints",
    }
)
"""What Patroni gives PostgreSQL on its command line, which wins over any file (CMDLINE_OPTIONS of
patroni/postgresql/config.py)."""


def overridden(snapshot: Snapshot, host: str) -> dict[str, tuple[str, bool]]:
    """Return what postgresql.auto.conf of the node sets in fact: value, and whether only a restart changes it."""
    rows = snapshot.facts.known(snapshot.ask.views.overridden, host) or ()
    return {
        str(name): (str(value), context == "postmaster")
        for name, value, context in rows
        if name not in COMMAND_LINE
    }


def reset(snapshot: Snapshot, host: str, name: str) -> dict[str, Any]:
    """Return remedy and repair that give a parameter of the node back to Patroni."""
    _, restart = overridden(snapshot, host)[name]
    again = ", and restart PostgreSQL there through Patroni" if restart else ""
    leads = "a switchover: clients of the leader reconnect" if host == snapshot.leader else ""
    return {
        "remedy": psql(snapshot, host, f"alter system reset {_parameter(name)}", "select pg_reload_conf()")
        + (f", then {_restart(snapshot, host)}" if restart else ""),
        "repair": Repair(
            Action.RESET_PARAMETER,
            host,
            f"take {name} on {host} back to what Patroni sets{again}",
            (leads or "this replica is away for some seconds") if restart else "none",
            {"name": name, "restart": "yes"} if restart else {"name": name},
        ),
    }


def _parameter(name: str) -> str:
    """Return a parameter's name as SQL has it: as it is where it means the same without quotes."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?", name) else sql_identifier(name)


def _restart(snapshot: Snapshot, host: str) -> str:
    name = snapshot.inventory.cluster.name
    return snapshot.on_host(host, f"docker exec {PATRONI} patronictl restart {name} {host} --force")
