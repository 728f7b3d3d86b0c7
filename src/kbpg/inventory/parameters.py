"""PostgreSQL settings under `postgresql.parameters`: which are taken, and which somebody else owns.

Owned by Patroni: `CMDLINE_OPTIONS` and the recovery parameters of patroni/postgresql/config.py, and what
https://patroni.readthedocs.io/en/latest/patroni_configuration.html calls controlled by Patroni. Owned by
kbpg: what the inventory says elsewhere, and what acknowledged commits depend on.
"""

from __future__ import annotations

import math
import re
from typing import Any

from kbpg.inventory.checks import printable
from kbpg.inventory.document import Word
from kbpg.inventory.show import shown

Parameter = str | int | float | bool

_RECOVERY = "Patroni writes the recovery settings of every node itself"
_FILES = "kbpg decides where files are"

OWNED: dict[str, str] = {
    "listen_addresses": "Patroni sets it from the host's address",
    "port": "set ports.postgresql",
    "cluster_name": "Patroni sets it to cluster.name",
    "max_connections": "set postgresql.max_connections",
    "synchronous_standby_names": "Patroni sets it from the replicas that are there: set cluster.synchronous",
    "password_encryption": "kbpg wants SCRAM-SHA-256 everywhere",
    "hot_standby": "Patroni sets it",
    "wal_log_hints": "Patroni keeps it on, pg_rewind needs it",
    "full_page_writes": "it stays on, pg_rewind needs it",
    "fsync": "it stays on: without it a power cut destroys the data",
    "data_directory": _FILES,
    "hba_file": _FILES,
    "ident_file": _FILES,
    "config_file": _FILES,
    "external_pid_file": _FILES,
    "unix_socket_directories": _FILES,
    "include": _FILES,
    "include_dir": _FILES,
    "include_if_exists": _FILES,
    "default_transaction_read_only": "whether a node takes writes is what Patroni decides",
    **dict.fromkeys(
        (
            "primary_conninfo",
            "primary_slot_name",
            "promote_trigger_file",
            "trigger_file",
            "restore_command",
            "archive_cleanup_command",
            "recovery_end_command",
            "recovery_min_apply_delay",
            "recovery_target",
            "recovery_target_action",
            "recovery_target_inclusive",
            "recovery_target_lsn",
            "recovery_target_name",
            "recovery_target_time",
            "recovery_target_timeline",
            "recovery_target_xid",
            "standby_mode",
        ),
        _RECOVERY,
    ),
}
"""Settings that cannot be set under `postgresql.parameters`, and why."""

_NAME = re.compile(r"[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?")


def check_name(value: str) -> str:
    """Return the setting's name; raises ValueError for an owned one, and for upper case."""
    name = value.lower()
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a PostgreSQL setting: {shown(value)}")
    if name in OWNED:
        raise ValueError(f"cannot be set here: {OWNED[name]}")
    if name != value:
        raise ValueError(f"write it in lower case: {name}")
    return value


def check_value(value: Any) -> Parameter:
    """Return a setting's value: one line of text, a number or a boolean; raises ValueError for all else."""
    if value is None:
        raise ValueError("has no value: remove the key to get back what kbpg computes")
    if isinstance(value, (list, dict)):
        raise ValueError(f"wanted text, a number, true or false, got {shown(value)}")  # noqa: TRY004
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("wanted a finite number")
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (int, float)):
        return value
    raise ValueError(f"wanted text, a number, true or false, got {shown(value)}")
