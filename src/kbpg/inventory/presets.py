"""Failover presets: timers of Patroni, HAProxy and PgBouncer that belong together.

A preset is the default of the keys it names, each of which may still be given by itself. The less a preset waits,
the more often a short disturbance (a paused virtual machine, a switch that restarts) costs a failover that was not
needed. Patroni wants `loop_wait + 2 * retry_timeout <= ttl`, the watchdog beside it `2 * (loop_wait + 4) <= ttl`, and
PgBouncer must let clients wait longer than a failover takes (`prediction.py`); tests/unit/test_presets.py keeps all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULT: Final = "fast"

PRESETS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "fast": {
        "timers": {"ttl": 20, "loop_wait": 2, "retry_timeout": 5, "primary_start_timeout": 0},
        "haproxy": {"check_interval": 500, "check_fast_interval": 250, "check_fall": 2, "check_rise": 2},
        "pgbouncer": {"query_wait_timeout": 60},
    },
    "balanced": {
        "timers": {"ttl": 30, "loop_wait": 5, "retry_timeout": 10, "primary_start_timeout": 0},
        "haproxy": {"check_interval": 1000, "check_fast_interval": 500, "check_fall": 3, "check_rise": 2},
        "pgbouncer": {"query_wait_timeout": 90},
    },
    "tolerant": {
        "timers": {"ttl": 60, "loop_wait": 10, "retry_timeout": 20, "primary_start_timeout": 60},
        "haproxy": {"check_interval": 2000, "check_fast_interval": 1000, "check_fall": 3, "check_rise": 2},
        "pgbouncer": {"query_wait_timeout": 180},
    },
}
"""Name → section → key → value, in the units of the keys: seconds, and milliseconds for HAProxy's intervals."""


def with_preset(value: Any) -> Any:
    """Return the raw inventory with the keys of its preset filled in where it does not give them itself.

    What is no mapping, or names no preset, is returned as it is: the models say what is wrong with it.
    """
    if not isinstance(value, Mapping):
        return value
    name = value.get("failover", DEFAULT)
    preset = PRESETS.get(name) if isinstance(name, str) else None
    filled = dict(value)
    for section, keys in (preset or {}).items():
        given = filled.get(section)
        if given is None or isinstance(given, Mapping):
            filled[section] = {**keys, **(given or {})}
    return filled
