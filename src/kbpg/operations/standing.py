"""Reading what the guards judge, from the hosts, at the moment it is asked for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.facts import Fact, Facts, NotKnown, ShellFact
from kbpg.hosts.port import Output
from kbpg.layout import layout
from kbpg.operations.guards import Standing
from kbpg.patroni import NodeFact
from kbpg.raft import RaftStatus
from kbpg.raft_admin import member_fact
from kbpg.resources.file import FileFact
from kbpg.resources.foreign import DataFact, Ownership, judge
from kbpg.resources.identity import record_path
from kbpg.resources.sql_facts import RowsFact

_SELF = "select pg_is_in_recovery(), (pg_control_system()).system_identifier::text"


@dataclass(frozen=True)
class RoomFact(ShellFact[tuple[int, int]]):
    """Bytes that the directory `path` takes (0 where there is none), and bytes free at `mount`."""

    mount: str
    path: str
    live = True

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"room:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment; files that PostgreSQL removes meanwhile are no error."""
        path, mount = shlex.quote(self.path), shlex.quote(self.mount)
        return (
            f"if [ -d {path} ]; then du -sk {path} 2>/dev/null | cut -f1; else echo 0; fi; "
            f"df -Pk {mount} | awk 'END {{ print $4 }}'"
        )

    def parse(self, output: Output) -> tuple[int, int]:
        """Read the answer."""
        words = output.stdout.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            raise NotKnown(f"the size of {self.path} cannot be read: {output.stderr.strip()}")
        return int(words[0]) << 10, int(words[1]) << 10


def in_recovery(context: Context) -> RowsFact:
    """Return the question to a node's own PostgreSQL: whether it is a replica, and its system identifier."""
    return RowsFact(context.superuser(), "who leads", _SELF, live=True)


class Watch:
    """The questions about one replica, asked together."""

    def __init__(self, context: Context, host: str) -> None:
        paths, ports = layout(context), context.inventory.ports
        self._context, self._host = context, host
        self.node = NodeFact(ports.patroni)
        self.raft = member_fact(context)
        self._data = DataFact(paths.data)
        self._record = FileFact(record_path(context.inventory.cluster.base_dir))
        self._room = RoomFact(paths.data, paths.pgdata)
        self._self = in_recovery(context)

    def look(self, site: Site) -> Standing:
        """Return what is so now."""
        names, host = self._context.db_names, self._host
        everywhere: tuple[Fact[object], ...] = (self.node, self.raft, self._self, self._room)
        wanted: dict[str, tuple[Fact[object], ...]] = dict.fromkeys(names, everywhere)
        facts = site.look({**wanted, host: (*everywhere, self._data, self._record)})
        nodes = {name: facts.known(self.node, name) for name in names}
        leaders = tuple(name for name, node in nodes.items() if node and node.leads)
        mine, room = facts.known(self._self, host), facts.known(self._room, host) or (0, 0)
        seen = Standing(host, leaders, leads=bool(mine and mine[0][0] is False), size=room[0], free=room[1])
        return self._judged(facts, self._of_leader(site, seen))

    def _of_leader(self, site: Site, seen: Standing) -> Standing:
        """Add what is known of the leader, where there is exactly one."""
        facts, leader = site.facts, seen.leader
        if not leader:
            return seen
        its, raft = facts.known(self._self, leader), facts.known(self.raft, leader)
        return replace(
            seen,
            writable=bool(its and its[0][0] is False),
            quorum=bool(raft and raft.has_quorum),
            leader_identifier=str(its[0][1]) if its else "",
            reaches_leader=self._reaches(site, leader),
            leader_size=(facts.known(self._room, leader) or (0, 0))[0],
        )

    def _judged(self, facts: Facts, seen: Standing) -> Standing:
        """Add whose data lies here; data without a readable identifier is judged by the host's record alone."""
        data, record = facts.get(self._data, self._host), facts.get(self._record, self._host)
        owner, inventory = Ownership.of(record.text if record else None), self._context.inventory
        foreign = judge(data, owner, inventory.cluster.name, inventory.versions.postgresql)
        return replace(
            seen,
            identifier=data.system_identifier,
            recorded=owner.system_identifier,
            foreign=foreign if data.readable else None,
        )

    def statuses(self, site: Site) -> dict[str, RaftStatus]:
        """Return what the members of Raft that answer said at the last look."""
        found = {name: site.facts.known(self.raft, name) for name in self._context.db_names}
        return {name: status for name, status in found.items() if status}

    def _reaches(self, site: Site, leader: str) -> bool:
        address = str(self._context.inventory.host(leader).address)
        try:
            site.hosts[self._host].dial(self._context.inventory.ports.postgresql, address=address).close()
        except (ConnectionError, TimeoutError):
            return False
        return True
