"""Which nodes HAProxy has: clients would not find a leader whose address it has not got yet.

Step 03 comes after step 02, so while hosts are added, or move to another address, there are nodes that stream and
could lead, and that no proxy leads to.
"""

from __future__ import annotations

from dataclasses import dataclass

from kbpg.context import Context
from kbpg.facts import Facts, NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.layout import HAPROXY

STATES = 'echo "show servers state primary" | socat -t 2 - /run/haproxy/admin.sock'
"""In HAProxy's container: what it knows of the servers for writes (management.txt, "show servers state")."""


@dataclass(frozen=True)
class ServersFact(ShellFact[frozenset[str]]):
    """The addresses that the running HAProxy may send writes to (management.txt, "show servers state")."""

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return "haproxy:servers"

    @property
    def script(self) -> str:
        """Return the fragment."""
        return f"docker exec {HAPROXY} sh -c '{STATES}'"

    def parse(self, output: Output) -> frozenset[str]:
        """Read the answer: a version, a line of names after `#`, and a line for each server."""
        lines = [line.split() for line in output.stdout.splitlines()]
        names = next((words[1:] for words in lines if words[:1] == ["#"]), [])
        if not output.ok or "srv_addr" not in names:
            raise NotKnown("HAProxy does not tell its servers")
        column = names.index("srv_addr")
        found = frozenset(words[column] for words in lines if len(words) > column and words[0] != "#")
        if not found:
            raise NotKnown("HAProxy has no servers")
        return found


SERVERS = ServersFact()


def why_unknown(context: Context, facts: Facts, host: str) -> str:
    """Return which proxies that tell do not have the address of `host`, or ""."""
    address = str(context.inventory.host(host).address)
    blind = [
        name
        for name in context.proxy_names
        if (servers := facts.known(SERVERS, name)) and address not in servers
    ]
    return f"HAProxy on {' and '.join(blind)} does not have its address yet (kbpg step 03)" if blind else ""
