"""Whether a cluster that kbpg did not start is provably the one of the inventory and the credentials: pure.

Nothing is taken on trust from one side: the running leader names the system, every data directory must hold that
system, every member must have the inventory's name and address, and the passwords must be those in use.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kbpg import scram
from kbpg.context import Context
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.layout import OWNER, PATRONI, REPLICATION_USER, USER, layout
from kbpg.patroni import NodeFact, Replica, leader_of, streaming_of
from kbpg.raft import RaftFact
from kbpg.resources.datadir import DataDirectoryFact
from kbpg.resources.directory import ListingFact
from kbpg.resources.docker import ContainersFact
from kbpg.resources.foreign import DataFact
from kbpg.resources.sql_facts import RolesFact, RowsFact

PASSWORD_METHODS = frozenset({"scram-sha-256", "md5", "password", "trust"})
"""What pg_hba.conf may say for a SCRAM verifier to be accepted (PostgreSQL's documentation, auth-password)."""
_HBA = (
    "select type, database, user_name, address, netmask, auth_method from pg_catalog.pg_hba_file_rules"
    " where error is null order by line_number"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Proof:
    """What is known of a cluster, read for one purpose: is it ours to take over? Nothing is asked here."""

    context: Context
    facts: Facts

    # --- the questions -------------------------------------------------------------------------------

    @property
    def _node(self) -> NodeFact:
        return NodeFact(self.context.inventory.ports.patroni)

    @property
    def _raft(self) -> RaftFact:
        return RaftFact(self.context.inventory.ports.raft, self.context.credentials.raft_password)

    @property
    def _roles(self) -> RolesFact:
        return RolesFact(self.context.superuser())

    @property
    def _hba(self) -> RowsFact:
        return RowsFact(self.context.superuser(), "who may connect", _HBA)

    @property
    def _where(self) -> RowsFact:
        query = "select setting from pg_catalog.pg_settings where name = 'data_directory'"
        return RowsFact(self.context.superuser(), "data directory", query)

    @property
    def _raft_files(self) -> ListingFact:
        return ListingFact(layout(self.context).raft)

    @property
    def _owner(self) -> DataDirectoryFact:
        return DataDirectoryFact(self._pgdata, USER)

    @property
    def _mount(self) -> str:
        return layout(self.context).data

    @property
    def _pgdata(self) -> str:
        return layout(self.context).pgdata

    def questions(self) -> Sequence[Fact[object]]:
        """Return what every db host has to be asked."""
        return (
            self._node,
            self._raft,
            self._roles,
            self._hba,
            self._where,
            self._raft_files,
            self._owner,
            DataFact(self._mount),
            ContainersFact((PATRONI,)),
        )

    # --- the doubts ----------------------------------------------------------------------------------

    @property
    def led(self) -> bool:
        """Return whether some node leads."""
        return any(
            (node := self.facts.known(self._node, name)) and node.leads for name in self.context.db_names
        )

    def doubts(self, host: str) -> list[str]:
        """Return why this db host and its cluster are not taken over; nothing where all is proven.

        What was not asked is no doubt: only a run that adopts asks for everything.
        """
        try:
            leader = leader_of(self.facts, self._node, self.context.db_names)
        except NotKnown as reason:
            return [f"no node that can be asked leads it: {reason.reason}"]
        return [*self._of_host(host, leader), *self._of_cluster(leader)]

    def _known(self, fact: Fact[T], host: str) -> tuple[T | None, str]:
        """Return the answer, or why there is none; neither where nobody asked."""
        try:
            return self.facts.get(fact, host), ""
        except NotKnown as reason:
            return None, "" if reason.reason == "was not asked" else reason.reason

    def _of_host(self, host: str, leader: str) -> Iterator[str]:
        yield from self._of_data(host, leader)
        yield from self._of_container(host)
        node = self.facts.known(self._node, host)
        cluster = self.context.inventory.cluster.name
        if node is None:
            yield "Patroni does not answer here"
        elif node.scope != cluster:
            yield f"Patroni's scope is {node.scope or 'not told'}, and cluster.name is {cluster}"
        elif node.name != host:
            yield f"Patroni calls this node {node.name or 'nothing'}, and the inventory {host}"

    def _of_data(self, host: str, leader: str) -> Iterator[str]:
        data, why = self._known(DataFact(self._mount), host)
        mine = data.system_identifier if data else ""
        lead = self.facts.get(self._node, leader).system_identifier
        if why or (data and mine != lead):
            yield f"{leader} leads the system {lead}, and the data here is of {why or mine or 'no known one'}"
        owner, _ = self._known(self._owner, host)
        if owner and (owner.owner != OWNER or owner.stranger):
            yield (
                f"the data belongs to {owner.owner}: wanted {OWNER}, as in kbpg's image; "
                "change it with that node stopped"
            )

    def _of_container(self, host: str) -> Iterator[str]:
        found = (self.facts.known(ContainersFact((PATRONI,)), host) or {}).get(PATRONI)
        if found is None:
            yield f"no container is called {PATRONI}; `docker rename NAME {PATRONI}` restarts nothing"
            return
        if (status := found.get("State", {}).get("Status")) != "running":
            yield f"its container {PATRONI} is {status}"
        if (network := found.get("HostConfig", {}).get("NetworkMode")) != "host":
            yield f"its container {PATRONI} has the network `{network}`: wanted the host's"
        yield from self._of_mounts(host, found)

    def _of_mounts(self, host: str, container: Mapping[str, Any]) -> Iterator[str]:
        """Tell whether what runs is what lies here: an old copy has the same identifier."""
        if not any(covers(source, self._mount) for source in sources(container)):
            yield f"its container {PATRONI} does not mount {self._mount}"
            return
        rows, why = self._known(self._where, host)
        inside = str(rows[0][0]) if rows else ""
        if why or (rows and on_host(container, inside) != self._pgdata):
            yield f"its PostgreSQL runs on {why or on_host(container, inside) or inside}: wanted {self._pgdata}"
        files, raft = self.facts.known(self._raft_files, host), self._raft_files.path
        if files and not any(covers(source, raft) for source in sources(container)):
            yield f"there are files in {raft}, and its container does not use them: move them away"

    def _of_cluster(self, leader: str) -> Iterator[str]:
        streaming = streaming_of(self.facts, self._node, leader)
        for name in self.context.db_names:
            if name != leader and name not in streaming:
                yield f"{name} does not stream from {leader}, which leads"
        yield from self._of_roles(leader, streaming)
        for name in self.context.db_names:
            yield from self._of_raft(name)

    def _of_roles(self, leader: str, streaming: Mapping[str, Replica]) -> Iterator[str]:
        credentials = self.context.credentials
        roles, why = self._known(self._roles, leader)
        if roles is None:
            if why:
                yield f"{leader} does not let {credentials.superuser} in with the credentials file's password: {why}"
            return
        if not roles.get(credentials.superuser, {}).get("superuser"):
            yield f"{credentials.superuser} is no superuser"
        app = roles.get(credentials.app_user)
        if app and app["verifier"] and not scram.matches(app["verifier"], credentials.app_password):
            yield f"POSTGRES_APP_PASS of the credentials file is not {credentials.app_user}'s password"
        old = [n for n, r in roles.items() if r["login"] and str(r["verifier"] or "").startswith("md5")]
        if old:
            yield f"{', '.join(old)}: their passwords are stored as MD5, and kbpg's nodes take SCRAM-SHA-256 alone"
        yield from self._of_replication(leader, streaming)

    def _of_replication(self, leader: str, streaming: Mapping[str, Replica]) -> Iterator[str]:
        """Tell whether kbpg's own replication user, which the first new replica is, would be let in by the leader."""
        rules, _ = self._known(self._hba, leader)
        if rules is None or {each.user for each in streaming.values()} == {REPLICATION_USER}:
            return
        for host in self.context.inventory.db:
            if host.name != leader and not lets_in(rules, "replication", REPLICATION_USER, str(host.address)):
                line = f"host replication {REPLICATION_USER} {host.address}/32 scram-sha-256"
                yield f"pg_hba.conf of {leader} has no line such as `{line}`"

    def _of_raft(self, name: str) -> Iterator[str]:
        inventory = self.context.inventory
        status, why = self._known(self._raft, name)
        if status is None:
            if why:
                yield f"{name}: {why} (the credentials file's RAFT_PASS has to be the one in use)"
            return
        members = {f"{host.address}:{inventory.ports.raft}" for host in inventory.db}
        found = {status.address, *status.partners}
        if found != members:
            listed = " ".join(sorted(found))
            yield f"{name}: the members of Raft are {listed}: wanted {' '.join(sorted(members))}"
        elif not status.has_quorum or status.away:
            yield f"{name}: Raft is not whole: kbpg raft status"


def sources(container: Mapping[str, Any]) -> list[str]:
    """Return the host's directories that a container has, however they were mounted."""
    mounts = [str(mount.get("Source") or "") for mount in container.get("Mounts") or ()]
    binds = [str(bind).split(":")[0] for bind in (container.get("HostConfig") or {}).get("Binds") or ()]
    return [source for source in dict.fromkeys([*mounts, *binds]) if source]


def on_host(container: Mapping[str, Any], path: str) -> str:
    """Return where a path of the container is on the host, "" where it is in no mount."""
    pairs = [
        (str(each.get("Destination") or ""), str(each.get("Source") or ""))
        for each in container.get("Mounts") or ()
    ]
    binds = (container.get("HostConfig") or {}).get("Binds") or ()
    pairs += [(parts[1], parts[0]) for bind in binds if len(parts := str(bind).split(":")) > 1]
    inside = [(target, source) for target, source in pairs if target and covers(target, path)]
    if not inside:
        return ""
    target, source = max(inside, key=lambda pair: len(pair[0]))
    return source.rstrip("/") + path[len(target.rstrip("/")) :]


def covers(source: str, path: str) -> bool:
    """Return whether `path` is in the directory `source`."""
    return path == source or path.startswith(f"{source.rstrip('/')}/")


def lets_in(rules: Sequence[Sequence[Any]], database: str, user: str, address: str) -> bool:
    """Return whether the first rule of pg_hba.conf that fits takes a password; names of groups never fit.

    `rules` are rows of pg_hba_file_rules: type, databases, users, address, netmask, method.
    """
    for kind, databases, users, net, mask, method in rules:
        named = database in databases or (database != "replication" and "all" in databases)
        if (
            kind in ("host", "hostnossl")
            and named
            and ("all" in users or user in users)
            and _in(address, net, mask)
        ):
            return method in PASSWORD_METHODS
    return False


def _in(address: str, net: str | None, mask: str | None) -> bool:
    if net == "all":
        return True
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(f"{net}/{mask}", strict=False)
    except ValueError:
        return False  # a host's name, `samenet`: not followed
