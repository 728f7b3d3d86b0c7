"""Signals to Patroni itself, past the container's first process: shell scripts to run inside the container."""

from __future__ import annotations

# Patroni is the one child of the container's first process, tini; PostgreSQL is not, it is Patroni's.
_PATRONI = r"""
for status in /proc/[0-9]*/status; do
  awk '/^Name:/ { name = $2 } /^Pid:/ { pid = $2 } /^PPid:/ { parent = $2 }
       END { if (parent == 1 && name ~ /^patroni/) print pid }' "$status" 2>/dev/null
done
"""
FREEZE = f"kill -STOP $({_PATRONI.strip()})"
CONTINUE = f'pids=$({_PATRONI.strip()}); [ -z "$pids" ] || kill -CONT $pids'
CRASH = f"kill -KILL $({_PATRONI.strip()})"
