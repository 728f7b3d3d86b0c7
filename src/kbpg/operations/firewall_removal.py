"""The firewall's rules and what loads them at boot are removed from a host whose cluster goes."""

from __future__ import annotations

from kbpg.firewall.fact import GUARD
from kbpg.firewall.policy import UNIT
from kbpg.hosts.port import Writer
from kbpg.resources.firewall_unit import PATH

# Whatever the inventory says now: rules of an earlier `managed` would close the ports to whoever comes after.
_SCRIPT = r"""
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
unit=$1 name=$2 guard=$3
if [ -e "$unit" ]; then
  [ ! -d /run/systemd/system ] || systemctl disable --now "$name" 2>/dev/null
  rm -f "$unit" || exit 1
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
  echo unit
fi
rm -f "$guard".*
command -v nft >/dev/null || exit 0
if nft list tables inet 2>/dev/null | grep -qx 'table inet kbpg'; then
  nft delete table inet kbpg || exit 1
  echo table
fi
"""


def remove_firewall(host: Writer, *, unit: str = PATH, guard: str = GUARD) -> bool:
    """Remove the rules and their unit from `host`; return whether there was anything. Raises `HostError`.

    The rules' file is among the files below base_dir. May be done twice.
    """
    return bool(host.run(["sh", "-c", _SCRIPT, "kbpg-firewall", unit, UNIT, guard]).stdout.strip())
