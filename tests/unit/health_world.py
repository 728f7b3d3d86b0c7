"""A healthy cluster as facts, built from what the steps want, and ways to break it; shapes as a lab shows them."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

from kbpg import inventory, scram
from kbpg.context import Context
from kbpg.credentials import Found, generate
from kbpg.errors import HostError
from kbpg.facts import Facts, Knowledge, NotKnown, RestFact, SqlFact
from kbpg.firewall.fact import Rules, RulesFact
from kbpg.haproxy import Server
from kbpg.health.asking import Items, Questions, placed, wanted
from kbpg.health.diagnose import Diagnosis, judge
from kbpg.health.questions import LogsFact, NeighboursFact, Pooler, Usage
from kbpg.health.snapshot import Snapshot
from kbpg.layout import POOLER_USER, REPLICATION_USER, REWIND_USER
from kbpg.model import ABSENT, CLUSTER, CONTROLLER, Resource
from kbpg.patroni import Member, NodeStatus, Replica
from kbpg.pki import Stored
from kbpg.raft import RaftStatus
from kbpg.render import render
from kbpg.resources.birth import Removed
from kbpg.resources.container import Container, ContainerSpec
from kbpg.resources.datadir import DataDirectory, DataDirectoryFact
from kbpg.resources.directory import Directory, DirectoryFact, ListingFact
from kbpg.resources.docker import LABEL_INPUTS, LABEL_SPEC, ContainersFact, ImagesFact
from kbpg.resources.file import File, FileFact, FileState, digest
from kbpg.resources.firewall_unit import Unit, UnitFact
from kbpg.resources.foreign import DataFact, DataState
from kbpg.resources.hardware import DiskSizeFact, Hardware, HardwareFact
from kbpg.resources.identity import fixed_ports, record_path
from kbpg.resources.loaded import Loaded
from kbpg.resources.memory_limit import MemoryCgroupFact
from kbpg.resources.patroni import wanted_configuration
from kbpg.resources.preflight.clock import ClockFact, Offset
from kbpg.resources.preflight.disk import Disk, DiskFact
from kbpg.resources.preflight.ports import Ports, PortsFact
from kbpg.resources.preflight.system import System, SystemFact
from kbpg.resources.sql_facts import RowsFact
from kbpg.resources.sysctl import SysctlFact
from kbpg.secret import Secret
from kbpg.steps.authority import StoredFact
from kbpg.steps.images import patroni_image, proxy_images
from kbpg.steps.s00_credentials import CredentialsFact

from .certificates import placeholders

INVENTORY = """\
cluster: {name: test}
prepare: {sysctls: report, clock: report}
db:
  - {name: db-1, address: 192.0.2.1}
  - {name: db-2, address: 192.0.2.2}
  - {name: db-3, address: 192.0.2.3}
proxies:
  - {name: proxy-1, address: 192.0.2.11}
  - {name: proxy-2, address: 192.0.2.12}
"""
SYSTEM_ID = "7711359422993199136"
IDS = {name: f"{number}" * 64 for number, name in enumerate(("patroni", "haproxy", "pgbouncer"), 1)}
GB = 1 << 30


def context(text: str = INVENTORY) -> Context:
    """Return inventory and credentials of a cluster that is nowhere."""
    parsed = inventory.parse(text, Path("inventory.yaml"))
    return Context(parsed, CREDENTIALS, pki=placeholders(parsed))


CREDENTIALS = generate("kb_admin", "kb_app")
FOUND = Found(Path("postgres.env"), Secret(""), CREDENTIALS.values(), {}, {}, 0o600)
_VERIFIERS = {
    name: scram.verifier(password)
    for name, password in (
        ("kb_admin", CREDENTIALS.superuser_password),
        ("kb_app", CREDENTIALS.app_password),
        (REPLICATION_USER, CREDENTIALS.replication_password),
        (REWIND_USER, CREDENTIALS.rewind_password),
        (POOLER_USER, CREDENTIALS.pgbouncer_password),
    )
}


class World:
    """A healthy cluster: db-1 leads. `answers` is what each host says, by the fact's key; change it to break it."""

    def __init__(self, text: str = INVENTORY) -> None:
        self.context = context(text)
        self._placed: tuple[Context, Items] | None = None
        self.ask = Questions.of(self.context)
        self.unreachable: dict[str, HostError] = {}
        self.taken: float | None = None
        self.answers: dict[str, dict[str, Any]] = {}
        self.named: dict[str, dict[str, Any]] = {}
        for host, facts in wanted(self.context, self._items).items():
            logs = [LogsFact(self.containers(host).names)] if host != CONTROLLER else []
            for fact in (*facts, *logs):
                self.named.setdefault(host, {})[fact.key] = fact
                self.answers.setdefault(host, {})[fact.key] = self._answer(host, fact)
        self.settle(self.context)

    def settle(self, wanted: Context) -> None:
        """Let every host have what the steps want by this context."""
        self.context = wanted
        for fact in self.named[CONTROLLER].values():
            if isinstance(fact, StoredFact):
                self.say(CONTROLLER, fact, self._answer(CONTROLLER, fact))
        for _, item in self._items:
            self._as_wanted(item.place, item.resource)

    # --- breaking it ---------------------------------------------------------------------------------

    def get(self, host: str, fact: Any) -> Any:
        """Return what a host says."""
        return self.answers[host][fact.key]

    def say(self, host: str, fact: Any, answer: Any) -> None:
        """Let a host say something else."""
        assert fact.key in self.answers[host], f"{host} is never asked {fact.key}"
        self.answers[host][fact.key] = answer

    def change(self, host: str, fact: Any, **values: Any) -> None:
        """Let a host say something else in some fields of an answer."""
        self.say(host, fact, dataclasses.replace(self.get(host, fact), **values))

    def silence(self, host: str, fact: Any, why: str = "no answer") -> None:
        """Let a host not answer."""
        self.say(host, fact, NotKnown(why))

    def containers(self, host: str) -> ContainersFact:
        """Return the question for the host's own containers."""
        return self.snapshot().containers_fact(host)

    def container(self, host: str, name: str) -> dict[str, Any]:
        """Return one container, to be changed."""
        found = copy.deepcopy(dict(self.get(host, self.containers(host))))
        self.say(host, self.containers(host), found)
        return dict.__getitem__(found, name)

    def stop(self, host: str, name: str, status: str = "exited") -> None:
        """Stop a container; what it serves no longer answers."""
        self.container(host, name)["State"].update(Status=status, ExitCode=137)
        self.deaf(host, name)

    def deaf(self, host: str, name: str) -> None:
        """Let nothing of a container answer, and all who depend on it see that."""
        for key, fact in self.named[host].items():
            if _serves(fact, name, self.context):
                self.answers[host][key] = NotKnown("nothing answers there")
        if name == "patroni":
            self.lonely(host)

    def mute(self, host: str, why: str = "port 5432: connection refused") -> None:
        """Let PostgreSQL on a db host answer none of kbpg's queries; what others see of it is as it was."""
        for fact in self.named[host].values():
            if isinstance(fact, SqlFact):
                self.silence(host, fact, why)

    def lonely(self, host: str) -> None:
        """Let the others see that this node of the cluster is away."""
        address = self.context.inventory.host(host).address
        for other in self.context.db_names:
            status = self.get(other, self.ask.raft)
            if other != host and isinstance(status, RaftStatus):
                partners = {**status.partners, f"{address}:7000": False}
                alone = not any(partners.values())
                self.change(other, self.ask.raft, partners=partners, has_quorum=not alone)
            node = self.get(other, self.ask.node)
            if isinstance(node, NodeStatus):
                rest = tuple(each for each in node.replicas if each.name != host)
                self.change(other, self.ask.node, replicas=rest)
        for proxy in self.context.proxy_names:
            servers = self.get(proxy, self.ask.haproxy)
            if not isinstance(servers, NotKnown):
                self.say(proxy, self.ask.haproxy, tuple(_down(each, host) for each in servers))

    def off(self, host: str) -> None:
        """Power a host off."""
        self.unreachable[host] = HostError(
            host, f"no answer from {host}:22 within 5 s", hint="is the host up?"
        )
        for key in self.answers[host]:
            self.answers[host][key] = NotKnown(f"{host} is not connected")
        if host in self.context.db_names:
            self.lonely(host)
        for name in self.context.db_names[1:] if host == self.context.db_names[0] else ():
            if name not in self.unreachable:
                self.change(name, self.ask.node, receiving=False)

    def lost(self, host: str) -> None:
        """Let a replica run, and no longer stream."""
        self.change(host, self.ask.node, receiving=False)
        leader = self.get("db-1", self.ask.node)
        rest = tuple(each for each in leader.replicas if each.name != host)
        self.change("db-1", self.ask.node, replicas=rest)

    def log(self, host: str, name: str, *lines: str) -> None:
        """Let a container's log end so."""
        fact = LogsFact(self.containers(host).names)
        self.say(host, fact, {**self.get(host, fact), name: lines})

    def role(self, name: str, **values: Any) -> None:
        """Let a role be otherwise, or be missing."""
        roles = copy.deepcopy(self.get("db-1", self.ask.roles))
        if values:
            roles[name].update(values)
        else:
            del roles[name]
        self.say("db-1", self.ask.roles, roles)

    def nobodys(self) -> None:
        """Let it be a cluster that kbpg did not start: no record, no label on a db host's container."""
        for host in self.context.inventory.db:
            self.say(host.name, FileFact(record_path(self.context.inventory.cluster.base_dir)), None)
            self.container(host.name, "patroni")["Config"]["Labels"] = {}

    # --- looking -------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return it as a diagnosis sees it."""
        return Snapshot(self.context, self._facts(), self._items, self.unreachable, self.taken)

    def diagnose(self) -> Diagnosis:
        """Return what is found."""
        return judge(self.snapshot())

    def _facts(self, place: str = CLUSTER) -> Facts:
        knowledge = Knowledge()
        for host, answers in self.answers.items():
            knowledge.put(host, answers)
        return Facts(knowledge, place)

    @property
    def _items(self) -> Items:
        """Return what the steps want by the context of now: rendered once for each, it is most of a test's time."""
        if self._placed is None or self._placed[0] is not self.context:
            self._placed = (self.context, placed(self.context))
        return self._placed[1]

    # --- a healthy one -------------------------------------------------------------------------------

    def _answer(self, host: str, fact: Any) -> Any:
        simple: dict[type, Any] = {
            SystemFact: System("debian", "", "Debian 13", "x86_64", True, "26.1.5", "", "chronyd", 1048576),
            HardwareFact: Hardware(8 * GB, 4),
            ClockFact: Offset(0.0, 0.01),
            NeighboursFact: (),
            PortsFact: Ports(addresses=frozenset({"127.0.0.1", *self._address(host)})),
            DirectoryFact: ("0:0", 0o755),
            ListingFact: frozenset({"raft.journal"}),
            DataDirectoryFact: DataDirectory("999:999", 0o700, ""),
            DataFact: DataState("/opt/keybuzz/postgres/data/pgdata", True, "16", SYSTEM_ID, True, 1795440897),
            FileFact: None,
            MemoryCgroupFact: True,
            SysctlFact: {},
            ContainersFact: {},
            CredentialsFact: FOUND,
            RulesFact: Rules(),
            UnitFact: Unit(systemd=False),
            StoredFact: Stored(self.context.inventory.pki_path, self.context.pki.files()),
        }
        if isinstance(fact, ImagesFact):
            return self._images()
        if isinstance(fact, DiskFact):
            return Disk(fact.path, 80 * GB, 1_000_000, "ext2/ext3")
        if isinstance(fact, LogsFact):
            return dict.fromkeys(fact.names, ("it works",))
        for kind, answer in simple.items():
            if isinstance(fact, kind):
                return answer
        if isinstance(fact, RowsFact):
            return self._rows(host, fact)
        return self._service(host, fact)

    def _address(self, host: str) -> set[str]:
        return set() if host == CONTROLLER else {str(self.context.inventory.host(host).address)}

    def _images(self) -> dict[str, str]:
        specs = (patroni_image(self.context), *proxy_images(self.context))
        return {spec.name: spec.inputs for spec in specs}

    def _service(self, host: str, fact: Any) -> Any:
        names = self.context.db_names
        others = [name for name in names if name != host]
        addresses = {name: self.context.inventory.host(name).address for name in names}
        leads = host == names[0]
        replicas = tuple(Replica(name, "streaming", "quorum", REPLICATION_USER) for name in names[1:])
        members = tuple(
            Member(n, "replica" if i else "leader", "streaming", addresses[n], 1, 0, False)
            for i, n in enumerate(names)
        )
        role = "primary" if leads else "replica"
        node = NodeStatus(
            "running",
            role,
            1,
            "4.1.5",
            SYSTEM_ID,
            False,
            False,
            not leads,
            replicas if leads else (),
            "test",
            host,
        )
        own = f"{addresses.get(host)}:7000"
        raft = RaftStatus(
            f"{addresses[names[0]]}:7000", True, 3, 99, 9, {f"{addresses[n]}:7000": True for n in others}, own
        )
        checked = [(proxy, name) for proxy in ("primary", "replicas") for name in names]
        servers = tuple(_server(p, n, up=(p == "primary") is (n == names[0])) for p, n in checked)
        known = {
            self.ask.node.key: node,
            self.ask.cluster.key: members,
            self.ask.raft.key: raft,
            self.ask.haproxy.key: servers,
            self.ask.pooler.key: _pooler(),
            self.ask.roles.key: _roles(),
            self.ask.usage.key: (Usage(self.context.inventory.cluster.base_dir, 100 * GB, 80 * GB),),
            self.ask.usage_on_db.key: (Usage(self.context.inventory.cluster.base_dir, 100 * GB, 80 * GB),),
            self.ask.config.key: {},
            DiskSizeFact(self.context.inventory.cluster.base_dir).key: 100 * GB,
        }
        return known[fact.key]

    def _rows(self, host: str, fact: RowsFact) -> Any:
        leads, views = host == self.context.db_names[0], self.ask.views
        slots = tuple(
            (name.replace("-", "_"), "physical", True, "reserved", 0) for name in self.context.db_names[1:]
        )
        address = self.context.inventory.db[0].address
        known: dict[str, Any] = {
            views.node.key: ((not leads, 1, SYSTEM_ID, "16.11", None if leads else False),),
            views.streaming.key: tuple((n, "streaming", "quorum", 0) for n in self.context.db_names[1:])
            if leads
            else (),
            views.slots.key: slots if leads else (),
            views.settings.key: SETTINGS,
            views.overridden.key: (),
            views.rules.key: (("host", "all", "all", "192.0.2.11", "scram-sha-256", ""),),
            views.available.key: (("vector", "0.8.1", False),),
            views.connections.key: ((9,),),
            views.archiver.key: (("off", False, None, None, 0),),
            views.primary.key: ((False, address),),
            views.replicas.key: ((True, "192.0.2.2"),),
            views.pooled.key: ((False, address),),
            views.reads.key: ((True, "192.0.2.2"),),
            views.vector.key: (("1",),),
            views.lookup.key: ((1,),),
            self.ask.extensions.key: (("plpgsql", "1.0"), ("vector", "0.8.1")),
        }
        by_name: dict[str, Any] = {
            "postmaster settings": (("max_connections", "100"),),
            "databases": (("postgres", "UTF8", True, ["public"]), ("keybuzz", "UTF8", True, ["kb_app"])),
            "schemas": (("kb_app", "kb_app"),),
            "rights of everybody": ((False, False),),
            "rewind rights": ((True,) * 4,),
            "role settings": (("kb_app", "idle_in_transaction_session_timeout=600s"),),
            "auth query": (self._function(),),
            "configuration load": (("then", False),),
            "route": ((True,),),
            "answers": ((1,),),
            "vector": (("1",),),
            "who may connect": (("host", ["replication"], ["replicator"], "all", None, "scram-sha-256"),),
            "data directory": (("/var/lib/postgresql/data/pgdata",),),
        }
        return known.get(fact.key, by_name.get(fact.name))

    def _function(self) -> tuple[Any, ...]:
        body = render("sql/pgbouncer_user_lookup.body.sql.j2", inventory=self.context.inventory)
        owner = self.context.inventory.cluster.superuser
        return (body, True, "search_path=pg_catalog, pg_temp", owner, POOLER_USER, POOLER_USER)

    def _as_wanted(self, place: str, resource: Resource) -> None:
        """Let a place have what a resource wants there."""
        seen = self._facts(place)
        if isinstance(resource, File) and resource.want(seen) is ABSENT:
            self.say(place, FileFact(resource.path, resource.secret), None)
        elif isinstance(resource, File):
            content = resource.content(seen)
            found = digest(content, secret=resource.secret)
            text = None if resource.secret else content.decode()
            state = FileState(resource.owner, resource.mode, found, text)
            self.say(place, FileFact(resource.path, resource.secret), state)
        elif isinstance(resource, Removed):
            self.say(place, resource.facts[0], None)
        elif isinstance(resource, Directory):
            self.say(place, DirectoryFact(resource.path), (resource.owner, resource.mode))
        elif isinstance(resource, Container):
            fact = self.containers(place)
            self.say(place, fact, {**self.get(place, fact), resource.spec.name: inspected(resource.spec)})
        elif isinstance(resource, Loaded):
            text = resource.config.text(IDS[resource.config.container]).decode()
            self.say(place, FileFact(resource.config.marker), FileState("0:0", 0o600, "", text))
        elif resource.id == "patroni:config":
            for name in self.context.db_names:
                self.say(name, self.ask.config, wanted_configuration(self.context, seen))
        elif resource.id == "identity:claimed":
            ports = fixed_ports(self.context.inventory)
            record = json.dumps({"cluster": "test", "system_identifier": SYSTEM_ID, "ports": ports})
            path = record_path(self.context.inventory.cluster.base_dir)
            self.say(place, FileFact(path), FileState("0:0", 0o600, "", record))


SETTINGS = (
    ("fsync", "on", None, False),
    ("full_page_writes", "on", None, False),
    ("max_connections", "200", None, False),
    ("max_parallel_maintenance_workers", "0", None, False),
    ("password_encryption", "scram-sha-256", None, False),
    ("shared_buffers", "262144", "8kB", False),
    ("synchronous_standby_names", 'ANY 1 ("db-2","db-3")', None, False),
)


def inspected(spec: ContainerSpec) -> dict[str, Any]:
    """Return a container as `docker inspect` shows it."""
    labels = {LABEL_INPUTS: spec.inputs, LABEL_SPEC: spec.digest()}
    tmpfs = {path.partition(":")[0]: path.partition(":")[2] for path in spec.tmpfs}
    return {
        "Id": IDS[spec.name],
        "Name": f"/{spec.name}",
        "RestartCount": 0,
        "State": {
            "Status": "running",
            "StartedAt": "2026-11-23T13:33:55.476424581Z",
            "ExitCode": 0,
            "OOMKilled": False,
            "FinishedAt": "2026-11-23T13:33:52.5Z",
        },
        "Config": {
            "Labels": labels,
            "Cmd": list(spec.command),
            "StopTimeout": spec.stop_timeout,
            "User": spec.user,
            "Healthcheck": {
                "Test": ["CMD-SHELL", spec.health.command if spec.health else ""],
                "Interval": 30_000_000_000,
                "Timeout": 5_000_000_000,
                "StartPeriod": 60_000_000_000,
                "Retries": 3,
            },
        },
        "HostConfig": {
            "RestartPolicy": {"Name": "unless-stopped"},
            "NetworkMode": "host",
            "Binds": list(spec.mounts),
            "Tmpfs": tmpfs,
            "Ulimits": [],
            "ShmSize": spec.shm_size,
            "Privileged": False,
            "Memory": spec.memory,
            "MemorySwap": spec.memory,
            "ReadonlyRootfs": spec.read_only,
            "CapAdd": None,
            "CapDrop": list(spec.cap_drop),
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": spec.pids_limit,
        },
    }


def _server(proxy: str, name: str, *, up: bool) -> Server:
    status, check = ("UP", "L7OK") if up else ("DOWN", "L7STS Service Unavailable")
    return Server(proxy, name, status, check, 0)


def _down(server: Server, host: str) -> Server:
    return dataclasses.replace(server, status="DOWN", check="L4TOUT") if server.name == host else server


def _roles() -> dict[str, dict[str, Any]]:
    own = {"kb_admin": ("superuser", "replication"), REPLICATION_USER: ("replication",)}
    return {
        name: {
            "login": True,
            "superuser": "superuser" in own.get(name, ()),
            "replication": "replication" in own.get(name, ()),
            "verifier": verifier,
            "valid": True,
        }
        for name, verifier in _VERIFIERS.items()
    }


def _pooler() -> Pooler:
    pool = {
        "database": "keybuzz",
        "user": "kb_app",
        "cl_active": 1,
        "cl_waiting": 0,
        "sv_active": 1,
        "maxwait": 0,
    }
    row = {"name": "keybuzz", "host": "127.0.0.1,192.0.2.12", "port": 5432, "paused": 0, "disabled": 0}
    console = {"name": "pgbouncer", "host": None, "port": 6432, "paused": 0, "disabled": 0}
    return Pooler((pool,), (row, console), state={"paused": "no"}, version="PgBouncer 1.24.1")


def _serves(fact: Any, name: str, context: Context) -> bool:
    ports = context.inventory.ports
    mine = {
        "patroni": (ports.postgresql, ports.patroni, ports.raft),
        "haproxy": (ports.primary, ports.replicas, ports.stats),
        "pgbouncer": (ports.pgbouncer,),
    }[name]
    if isinstance(fact, RestFact):
        return fact.port in mine
    login: Any = getattr(fact, "login", None)
    port = login.port if login else getattr(fact, "port", None)
    return port in mine
