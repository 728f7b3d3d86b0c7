"""A host is cut off from all others of the cluster: their packets are dropped, in silence, as by a cut cable.

SSH stays, so that the drill can end it. Should kbpg be killed, a timer on the host ends it.
"""

from __future__ import annotations

import secrets

from kbpg.hosts.port import Writer

CHAIN = "KBPG-DRILL"
"""Chains of a drill begin with this; iptables takes 28 characters."""
LONGEST = 180
"""Seconds after which the host itself ends the cut."""

_CUT = r"""
set -e
chain=$1 longest=$2; shift 2
iptables -w -N "$chain"
for port in $(sshd -T 2>/dev/null | awk '$1 == "port" { print $2 }' || true) 22; do
  iptables -w -A "$chain" -p tcp --dport "$port" -j RETURN
  iptables -w -A "$chain" -p tcp --sport "$port" -j RETURN
done
for peer; do
  iptables -w -A "$chain" -s "$peer" -j DROP
  iptables -w -A "$chain" -d "$peer" -j DROP
done
setsid sh -c '
  sleep "$1"
  for hook in INPUT OUTPUT; do iptables -w -D $hook -j "$0" 2>/dev/null; done
  iptables -w -F "$0" 2>/dev/null && iptables -w -X "$0"
' "$chain" "$longest" >/dev/null 2>&1 </dev/null &
iptables -w -I OUTPUT -j "$chain"
iptables -w -I INPUT -j "$chain"
"""
_REJOIN = r"""
iptables -w -S | awk -v prefix="$1" '$1 == "-N" && index($2, prefix) == 1 { print $2 }' | while read -r chain; do
  for hook in INPUT OUTPUT; do
    while iptables -w -D $hook -j "$chain" 2>/dev/null; do :; done
  done
  iptables -w -F "$chain" && iptables -w -X "$chain" || exit 1
done
"""


def cut(host: Writer, peers: list[str]) -> None:
    """Drop what comes from and goes to `peers` (addresses). Raises `HostError`."""
    chain = f"{CHAIN}-{secrets.token_hex(3)}"
    host.run(["sh", "-c", _CUT, "kbpg-drill", chain, str(LONGEST), *peers])


def rejoin(host: Writer) -> None:
    """Take every cut of a drill back. Raises `HostError`."""
    host.run(["sh", "-c", _REJOIN, "kbpg-drill", CHAIN])
