"""Taking a proven cluster over: what is so before its containers are replaced, and how that is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbpg.context import Context
from kbpg.dynamic import synchronous_mode
from kbpg.engine.site import Site
from kbpg.errors import NotConverged, Refused
from kbpg.facts import Fact, Facts, NotKnown
from kbpg.inventory import version_tuple
from kbpg.layout import layout
from kbpg.model import ABSENT, Change, Impact, Resource, Want
from kbpg.operations.patroni_change import change_by_rest
from kbpg.patroni import ConfigFact, NodeFact, leader_of, streaming_of
from kbpg.resources.directory import ListingFact
from kbpg.resources.docker import LABEL_SPEC, ContainersFact
from kbpg.resources.foreign import DataFact
from kbpg.resources.identity import NOT_RECORDED, Claimed, adopting
from kbpg.resources.rolling import OneNodeAtATime
from kbpg.resources.sql_facts import RowsFact

OWN = frozenset({"patroni.yml", "secrets.yml", "bootstrap.yml"})
"""What kbpg writes for Patroni; it reads every *.yml of its directory."""
SYNCHRONOUS_DEADLINE = 60.0
"""Seconds until a replica is synchronous: one of Patroni's loops, 10 s by default, and its reload."""
_COLLATIONS = (
    "select coalesce(string_agg(datname, ', ' order by datname), '') from pg_catalog.pg_database where datallowconn"
    " and datcollversion is distinct from pg_catalog.pg_database_collation_actual_version(oid)"
)


class Adopted(Claimed):
    """The host's record names the cluster and the system that the leader leads, and the data here is of it."""

    id = "identity:adopted"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._node, self._hosts = NodeFact(context.inventory.ports.patroni), context.db_names
        self._data = DataFact(layout(context).data)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask for the record and the data here, and every node for itself."""
        yield place, self._fact
        yield place, self._data
        yield from ((host, self._node) for host in self._hosts)

    def want(self, facts: Facts) -> Want:
        """Return the cluster's name and the leader's system identifier. Raises `NotKnown` without a leader."""
        leader = leader_of(facts, self._node, self._hosts)
        identifier = facts.get(self._node, leader).system_identifier
        if not identifier:
            raise NotKnown(f"{leader} does not tell its system identifier")
        return {"cluster": self._name, "system_identifier": identifier}

    def have(self, facts: Facts) -> Want:
        """Return what is recorded."""
        record = self._read(facts)
        if "cluster" not in record:
            return ABSENT
        identifier = str(record.get("system_identifier") or NOT_RECORDED)
        return {"cluster": str(record["cluster"]), "system_identifier": identifier}

    def fix(self, site: Site, change: Change) -> None:
        """Write the record. Raises `Refused` where another one stands, or the data here is of another system."""
        if change.have is not ABSENT and set(change.names()) != {"system_identifier"}:
            raise Refused(f"this host belongs to another cluster: {'; '.join(change.lines())}")
        if isinstance(change.have, Mapping) and change.have["system_identifier"] != NOT_RECORDED:
            raise Refused(f"this host belongs to another system: {'; '.join(change.lines())}")
        asked: dict[str, tuple[Fact[object], ...]] = dict.fromkeys(self._hosts, (self._node,))
        facts = site.look(asked | {site.place: (self._data, self._node)})
        wanted = self.want(facts)
        assert isinstance(wanted, Mapping)  # noqa: S101 (`want` above)
        here, identifier = facts.get(self._data), str(wanted["system_identifier"])
        if here.present and here.system_identifier != identifier:
            raise Refused(f"the data here is of the system {here.system_identifier}, and not of {identifier}")
        self._write(site, identifier, adopting=True)


class AdoptionDone(Claimed):
    """The record no longer says that this cluster is being taken over: all of its nodes are."""

    id = "identity:adoption done"

    def want(self, facts: Facts) -> Want:
        """Return that it is over."""
        return {"being adopted": False}

    def have(self, facts: Facts) -> Want:
        """Return what the record says."""
        return {"being adopted": adopting(self._read(facts))}

    def fix(self, site: Site, change: Change) -> None:
        """Write the record without it."""
        self._write(site, str(self._read(site.facts)["system_identifier"]))


class KeptAside(Resource):
    """What a container was started with is kept, and Patroni's directory holds no file but kbpg's.

    Kept are `docker inspect` of the container and a copy of the directory, in `kbpg/before-adoption`: with them the
    old container can be started again.
    """

    id = "adoption:kept aside"

    def __init__(self, context: Context, container: str, directory: str) -> None:
        base = f"{context.inventory.cluster.base_dir}/kbpg"
        self._kept, self._container, self._directory = f"{base}/before-adoption", container, directory
        self._last = f"{container}.json"  # written last: without it a copy may have been cut off
        self._containers, self._there, self._files = (
            ContainersFact((container,)),
            ListingFact(self._kept),
            ListingFact(directory),
        )
        self.facts = (self._containers, self._there, self._files)

    def _own(self, facts: Facts) -> bool:
        found = facts.get(self._containers).get(self._container)
        return found is None or LABEL_SPEC in (found["Config"].get("Labels") or {})

    def want(self, facts: Facts) -> Want:
        """Return that there is nothing to keep, or that it is kept."""
        return {"kept": True, "files of others": "none"}

    def have(self, facts: Facts) -> Want:
        """Return what is left to be done."""
        if self._own(facts):
            return self.want(facts)
        others = {name for name in facts.get(self._files) if name.endswith((".yml", ".yaml"))} - OWN
        return {
            "kept": self._last in facts.get(self._there),
            "files of others": ", ".join(sorted(others)) or "none",
        }

    def fix(self, site: Site, change: Change) -> None:
        """Copy, then take the files of others away. Raises `HostError`, and then nothing was taken away."""
        host = site.host
        if "kept" in change.names():
            host.run(["install", "-d", "-m", "0700", self._kept])
            shown = host.run(["docker", "inspect", self._container]).stdout
            if site.facts.get(self._files):
                host.run(["cp", "-a", self._directory, f"{self._kept}/"])
            host.write(f"{self._kept}/{self._last}", shown.encode(), owner="0:0", mode=0o600)
            site.say(f"{site.place}: what {self._container} was started with is kept in {self._kept}")
        others = {n for n in site.facts.get(self._files) if n.endswith((".yml", ".yaml"))} - OWN
        if others:
            host.run(["rm", "-f", *(f"{self._directory}/{name}" for name in sorted(others))])


class HandoverFirst(Resource):
    """What a handover needs is so before any node is replaced: a synchronous standby, and Patroni's timers.

    Patroni acts in its loop, by default every 10 s; with a loop of 2 s writes through HAProxy stopped for 4.3 s
    (measured, on a cluster made by hand). Nothing else of the old dynamic configuration is changed yet.
    """

    id = "adoption:handover"

    def __init__(self, context: Context) -> None:
        ports, timers = context.inventory.ports, context.inventory.timers
        self._context = context
        self._node, self._config = NodeFact(ports.patroni), ConfigFact(ports.patroni)
        self._timers = {key: getattr(timers, key) for key in ("loop_wait", "retry_timeout", "ttl")}
        self._synchronous = context.inventory.cluster.synchronous != "off"
        self.facts = (self._node, self._config)

    def want(self, facts: Facts) -> Want:
        """Return the timers, and that some mode is on where the inventory wants one."""
        return {**self._timers, **({"synchronous": True} if self._synchronous else {})}

    def have(self, facts: Facts) -> Want:
        """Return what the leader says."""
        config = facts.get(self._config, leader_of(facts, self._node, self._context.db_names))
        found: dict[str, int | bool] = {key: int(config.get(key, 0)) for key in self._timers}
        mode = str(config.get("synchronous_mode", False)).lower()
        return {**found, **({"synchronous": mode in ("true", "on", "quorum")} if self._synchronous else {})}

    def fix(self, site: Site, change: Change) -> None:
        """Change it, as the version of the leader that runs knows it, and wait for a replica to be synchronous."""
        leader = leader_of(site.facts, self._node, self._context.db_names)
        body: dict[str, object] = dict(self._timers)
        if "synchronous" in change.names():
            old = version_tuple(site.facts.get(self._node, leader).version) < (4, 0, 0)
            body["synchronous_mode"] = True if old else synchronous_mode(self._context.inventory)
        change_by_rest(self._context, site.hosts[leader], "PATCH", "/config", body)
        if not self._synchronous:
            return
        for _ in site.looks(SYNCHRONOUS_DEADLINE, each=[leader]):
            if self._acknowledged(site, leader):
                return
        raise NotConverged(f"no replica of {leader} is synchronous after {SYNCHRONOUS_DEADLINE:g} s")

    def _acknowledged(self, site: Site, leader: str) -> bool:
        """Return whether commits wait for a replica."""
        found = streaming_of(site.look({leader: (self._node,)}), self._node, leader)
        return any(each.sync_state in ("sync", "quorum") for each in found.values())


class AdoptionOrder(OneNodeAtATime):
    """One node at a time, the leader last; after each, kbpg's image must read the data as the old one did."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._collations = RowsFact(context.superuser(), "collations", _COLLATIONS)
        self._known = context.inventory.versions.postgresql >= 15  # datcollversion is new in 15

    def after(self, site: Site, impact: Impact) -> None:
        """After the cluster is whole again: its text indexes are sorted as the C library of the image sorts.

        Raises `NotConverged` where they are not: the leader, which would write to them, is not replaced then.
        """
        super().after(site, impact)
        if impact < Impact.RESTART or not self._known:
            return
        ((databases,),) = site.look({site.place: (self._collations,)}).get(self._collations, site.place)
        if databases:
            raise NotConverged(
                f"text of {databases} was sorted by another version of the C library than {site.place} has now: "
                "its indexes may miss rows",
                detail=("no other node is replaced; this replica streams, and serves no writes",),
                hint="docs/adopting.md, section `Collations`",
            )
