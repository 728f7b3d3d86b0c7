"""Each finding, from a healthy cluster with one thing (or two) broken: exactly what is shown, nothing besides."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kbpg.credentials import generate
from kbpg.errors import AccessDenied, Exit
from kbpg.health import catalogue
from kbpg.health.check import Check, Seen
from kbpg.health.diagnose import judge
from kbpg.health.finding import Action, Finding, Severity
from kbpg.health.questions import LogsFact, Neighbour, NeighboursFact, Usage
from kbpg.layout import REPLICATION_USER
from kbpg.operations.pause_guard import note_fact
from kbpg.operations.raft_note import rebuild_note
from kbpg.patroni import LEADER_ROLES
from kbpg.pki import Names, issuing
from kbpg.pki.completing import HOST_USAGES
from kbpg.pki.names import names_of
from kbpg.pki.reading import CLIENT, Purpose
from kbpg.raft import RaftStatus
from kbpg.resources.datadir import DataDirectory, DataDirectoryFact
from kbpg.resources.docker import LABEL_SPEC, ImagesFact
from kbpg.resources.file import FileFact, FileState
from kbpg.resources.hardware import Hardware, HardwareFact
from kbpg.resources.preflight.clock import ClockFact, Offset
from kbpg.resources.preflight.data import data_fact, record_fact
from kbpg.resources.preflight.ports import Listener, PortsFact
from kbpg.resources.preflight.system import SystemFact
from kbpg.steps.s00_credentials import CredentialsFact
from kbpg.tuning import UNLISTED_CONNECTIONS

from .health_world import FOUND, GB, INVENTORY, SYSTEM_ID, World
from .pki_world import DAY, NOW

Break = Callable[[World], None]
BASE = "/opt/keybuzz"
PGDATA = "/opt/keybuzz/postgres/data/pgdata"
CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def shown(world: World) -> list[tuple[str, str]]:
    """Return host and id of what is found above a notice."""
    return [(f.host, f.id) for f in world.diagnose().findings if f.severity > Severity.NOTICE]


def only(world: World) -> Finding:
    """Return the one finding above a notice."""
    found = [f for f in world.diagnose().findings if f.severity > Severity.NOTICE]
    assert len(found) == 1, [(f.host, f.id, f.seen) for f in found]
    return found[0]


def test_a_healthy_cluster_has_two_notices() -> None:
    diagnosis = World().diagnose()
    assert [f.id for f in diagnosis.findings] == ["raft-deprecated", "pgvector-vulnerable"]
    assert diagnosis.healthy
    assert diagnosis.exit_code == Exit.OK
    assert diagnosis.passed == len(catalogue.ALL) - 2
    assert diagnosis.unknown == 0


# --- hosts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["db-1", "db-2", "proxy-1"])
def test_a_host_that_is_off_explains_all_its_parts(host: str) -> None:
    world = World()
    world.off(host)
    ids = [i for _, i in shown(world)]
    # Until another node is elected, a leader that is off leaves the cluster without one
    assert ids == ["host-unreachable", "no-leader"] if host == "db-1" else ids == ["host-unreachable"]


def test_two_db_hosts_off_are_two_findings() -> None:
    world = World()
    world.off("db-2")
    world.off("db-3")
    found = {f.id: f for f in world.diagnose().findings}
    assert set(found) >= {"host-unreachable", "synchronous-missing"}
    assert "raft-no-quorum" not in found
    unreachable = world.diagnose().of("host-unreachable")
    assert any("cluster: Raft has no quorum" in f.explains for f in unreachable)


def test_a_refused_key_is_not_an_unreachable_host() -> None:
    world = World()
    world.off("proxy-1")
    world.unreachable["proxy-1"] = AccessDenied("proxy-1", "root may not log in", hint="which key?")
    finding = only(world)
    assert (finding.id, finding.evidence) == ("ssh-refused", ("hint: which key?",))


def test_docker_down() -> None:
    world = World()
    world.deaf("db-2", "patroni")
    for fact in (world.containers("db-2"), LogsFact(("patroni",)), NeighboursFact(("patroni",))):
        world.silence("db-2", fact, "Docker does not answer")
    world.change("db-2", SystemFact(), docker="silent", docker_error="Cannot connect to the Docker daemon")
    finding = only(world)
    assert (finding.host, finding.id, finding.evidence) == (
        "db-2",
        "docker-down",
        ("Cannot connect to the Docker daemon",),
    )
    assert finding.repair is not None
    assert finding.repair.action is Action.START_DOCKER
    assert finding.remedy == "ssh root@192.0.2.2 'systemctl restart docker'"


def test_a_host_that_stops_answering_is_unreachable() -> None:
    world = World()
    for key in world.answers["proxy-2"]:
        world.silence("proxy-2", world.named["proxy-2"][key], "no answer within 5 s")
    assert only(world).id == "host-unreachable"


def skewed(world: World) -> None:
    world.say("db-3", ClockFact(), Offset(3.0, 0.01))


def disks(world: World, host: str, **free: int) -> None:
    """Let `host` have disks of 100 GB: of the data, of Docker, of a directory to mount."""
    paths = {"data": BASE, "docker": "/var/lib/docker", "mount": "/srv/backup"}
    usage = tuple(Usage(paths[name], 100 * GB, gigabytes * GB) for name, gigabytes in free.items())
    world.say(host, world.ask.usage_of(world.context, host), usage)


def nearly_full(world: World) -> None:
    disks(world, "db-2", data=5, docker=50)


def quite_full(world: World) -> None:
    disks(world, "db-2", data=1, docker=50)


def docker_full(world: World) -> None:
    disks(world, "proxy-1", data=50, docker=0)


def small_host(world: World) -> None:
    for name in world.context.db_names:
        world.say(name, HardwareFact(), Hardware(8 * GB, 4))
    settings = world.get("db-2", world.ask.views.settings)
    world.say(
        "db-2", world.ask.views.settings, (*settings, ("shared_buffers", str(6 * GB // 8192), "8kB", False))
    )


def taken(world: World) -> None:
    world.stop("proxy-1", "pgbouncer", "restarting")
    ports = next(f for f in world.named["proxy-1"].values() if isinstance(f, PortsFact))
    world.change("proxy-1", ports, listeners=(Listener("0.0.0.0", 6432, "nc", 4711),))


def few_files(world: World) -> None:
    world.change("proxy-1", SystemFact(), open_files=1024)


# --- containers ----------------------------------------------------------------------------------------


def missing(world: World) -> None:
    world.deaf("proxy-1", "haproxy")
    found = dict(world.get("proxy-1", world.containers("proxy-1")))
    del found["haproxy"]
    world.say("proxy-1", world.containers("proxy-1"), found)


def stopped(world: World) -> None:
    world.stop("db-2", "patroni")


def restarting(world: World) -> None:
    world.stop("proxy-2", "haproxy", "restarting")
    world.log(
        "proxy-2", "haproxy", "[NOTICE] starting", "[ALERT] Cannot raise FD limit to 20034, limit is 20000."
    )


def old(world: World) -> None:
    world.container("db-3", "patroni")["Config"]["Labels"][LABEL_SPEC] = "0123456789ab"


def by_hand(world: World) -> None:
    del world.container("db-3", "patroni")["Config"]["Labels"][LABEL_SPEC]


def no_image(world: World) -> None:
    world.say("db-2", ImagesFact(("patroni-pg16-raft:latest",)), {})


def stranger(world: World) -> None:
    neighbour = Neighbour("postgres", "postgres:16", ("/opt/keybuzz/postgres/data",))
    world.say("db-2", NeighboursFact(("patroni",)), (neighbour,))


def not_loaded(world: World) -> None:
    world.say("proxy-1", FileFact("/opt/keybuzz/kbpg/loaded/haproxy"), None)


# --- the data directory --------------------------------------------------------------------------------


def wrong_mode(world: World) -> None:
    world.lost("db-2")
    world.change("db-2", world.ask.node, state="start failed")
    world.say("db-2", DataDirectoryFact(PGDATA, 999), DataDirectory("999:999", 0o755, ""))
    world.log("db-2", "patroni", f'FATAL:  data directory "{PGDATA}" has invalid permissions')


def wrong_mode_still_running(world: World) -> None:
    world.say("db-2", DataDirectoryFact(PGDATA, 999), DataDirectory("999:999", 0o755, ""))


def damaged_control(world: World) -> None:
    """What dd of zeros over pg_control leaves, after a restart."""
    world.lost("db-2")
    world.change("db-2", world.ask.node, state="stopped")
    world.log("db-2", "patroni", "data dir for the cluster is not empty, but system ID is invalid")
    unreadable_control(world, "db-2")


def unreadable_control(world: World, host: str) -> None:
    world.change(host, data_fact(world.context.inventory), system_identifier="", readable=False)


def damaged_control_still_streaming(world: World) -> None:
    unreadable_control(world, "db-2")


def test_damaged_data_of_a_replica_says_whose_it_is_and_where_a_copy_is() -> None:
    world = World()
    damaged_control(world)
    finding = only(world)
    assert finding.seen == f"{PGDATA}/global/pg_control is damaged: PostgreSQL cannot start on this data"
    assert finding.remedy == "kbpg reinit db-2"
    assert finding.evidence[1:] == (
        f"{BASE}/kbpg/cluster.json says that it is this cluster's, system identifier {SYSTEM_ID}",
        f"db-1 leads {SYSTEM_ID}, takes writes and has a quorum",
        "data dir for the cluster is not empty, but system ID is invalid",
    )
    assert finding.repair is not None
    assert (finding.repair.host, finding.repair.parameters) == ("db-2", {"leader": "db-1"})
    assert "db-2: PostgreSQL does not run" in finding.explains


def record(**values: object) -> Break:
    def apply(world: World) -> None:
        fact = record_fact(world.context.inventory)
        text = json.dumps(json.loads(world.get("db-2", fact).text) | values)
        world.change("db-2", fact, text=text)

    return apply


def no_record(world: World) -> None:
    world.say("db-2", record_fact(world.context.inventory), None)


def read_only_leader(world: World) -> None:
    fact = world.ask.views.node
    world.say("db-1", fact, ((True, *world.get("db-1", fact)[0][1:]),))


def silent_leader(world: World) -> None:
    world.silence("db-1", world.ask.views.node)


def two_writers(world: World) -> None:
    fact = world.ask.views.node
    world.say("db-3", fact, ((False, *world.get("db-3", fact)[0][1:]),))


def leader_of_others(world: World) -> None:
    fact = world.ask.views.node
    row = world.get("db-1", fact)[0]
    world.say("db-1", fact, ((*row[:2], "7000000000000000001", *row[3:]),))


def other_version(world: World) -> None:
    world.change("db-2", data_fact(world.context.inventory), version="15")


def in_the_mount(world: World) -> None:
    world.change("db-2", data_fact(world.context.inventory), path=f"{BASE}/postgres/data")


def nobody_leads(world: World) -> None:
    world.change("db-1", world.ask.node, role="replica")


def leads_without_quorum(world: World) -> None:
    world.change("db-1", world.ask.raft, has_quorum=False)


def mute_raft(world: World) -> None:
    world.silence("db-1", world.ask.raft)


def being_cloned(world: World) -> None:
    world.change("db-2", world.ask.node, state="creating replica")


@pytest.mark.parametrize(
    "doubt",
    [
        no_record,
        record(system_identifier=""),
        record(system_identifier="7000000000000000001"),
        record(cluster="shop"),
        record(adopting=True),
        read_only_leader,
        silent_leader,
        two_writers,
        lambda world: world.change("db-3", world.ask.node, role="primary"),
        leader_of_others,
        leads_without_quorum,
        mute_raft,
        nobody_leads,
        other_version,
        in_the_mount,
        being_cloned,
    ],
)
def test_damaged_data_is_left_to_a_person_where_anything_is_in_doubt(doubt: Break) -> None:
    world = World()
    damaged_control(world)
    doubt(world)
    found = world.diagnose().findings
    assert [f for f in found if f.repair and f.repair.action is Action.REINITIALIZE] == []
    assert "data-unreadable" not in {f.id for f in found}
    told = [f for f in found if f.host == "db-2" and f.id == "data-foreign"]
    explained = [f for f in found if "db-2: data of another cluster" in f.explains]
    assert told or explained


def test_the_damaged_data_of_a_leader_is_left_to_a_person() -> None:
    world = World()
    unreadable_control(world, "db-1")
    finding = only(world)
    assert (finding.host, finding.id, finding.repair) == ("db-1", "data-foreign", None)


def test_damaged_data_that_another_container_has_too_is_not_cloned_over() -> None:
    world = World()
    damaged_control(world)
    stranger(world)
    finding = only(world)
    assert (finding.id, finding.repair) == ("data-shared", None)
    assert "db-2: the data of this replica is damaged" in finding.explains


def test_a_patroni_that_ends_on_damaged_data_is_explained_by_it() -> None:
    world = World()
    world.stop("db-2", "patroni", "restarting")
    unreadable_control(world, "db-2")
    finding = only(world)
    assert finding.id == "data-unreadable"
    assert "db-2: container restarts again and again" in finding.explains


# --- Patroni and replication ---------------------------------------------------------------------------


def mute_patroni(world: World) -> None:
    world.deaf("db-3", "patroni")


def two_leaders(world: World) -> None:
    world.change("db-3", world.ask.node, role="primary", receiving=False)


def stale(world: World) -> None:
    members = [
        dataclasses.replace(m, role="leader" if m.name == "db-3" else "replica")
        for m in world.get("db-2", world.ask.cluster)
    ]
    world.say("db-2", world.ask.cluster, tuple(members))


def paused(world: World) -> None:
    for name in world.context.db_names:
        world.change(name, world.ask.node, paused=True)
        world.say(name, world.ask.config, {**world.get(name, world.ask.config), "pause": True})


def pending(world: World) -> None:
    world.change("db-2", world.ask.node, pending_restart=True)


def broken(*lines: str) -> Break:
    """Return a replica that does not stream, and its log."""

    def apply(world: World) -> None:
        world.lost("db-2")
        world.log("db-2", "patroni", "an older line", *lines)

    return apply


def slot_gone(world: World) -> None:
    world.lost("db-2")
    world.log("db-2", "patroni")
    slots = world.get("db-1", world.ask.views.slots)
    world.say("db-1", world.ask.views.slots, tuple(s for s in slots if s[0] != "db_2"))


def wal_lost(world: World) -> None:
    world.lost("db-2")
    slots = (("db_2", "physical", False, "lost", None), ("db_3", "physical", True, "reserved", 0))
    world.say("db-1", world.ask.views.slots, slots)


def replication_password(world: World) -> None:
    """Somebody changed the role: the replicas' logs say so, and the role explains them."""
    world.role(REPLICATION_USER, verifier="SCRAM-SHA-256$4096:c2FsdA==$eA==:eA==")
    for host in ("db-2", "db-3"):
        world.lost(host)
        world.log(host, "patroni", f'FATAL:  password authentication failed for user "{REPLICATION_USER}"')


def lagging(world: World) -> None:
    rows = (("db-2", "streaming", "quorum", 40 << 20), ("db-3", "streaming", "quorum", 0))
    world.say("db-1", world.ask.views.streaming, rows)


def replay_paused(world: World) -> None:
    world.say("db-2", world.ask.views.node, ((True, 1, "1", "16.11", True),))


def asynchronous(world: World) -> None:
    node = world.get("db-1", world.ask.node)
    rest = tuple(dataclasses.replace(each, sync_state="async") for each in node.replicas)
    world.change("db-1", world.ask.node, replicas=rest)


# --- Raft ----------------------------------------------------------------------------------------------


def ghost(world: World) -> None:
    for name in world.context.db_names:
        status = world.get(name, world.ask.raft)
        world.change(name, world.ask.raft, partners={**status.partners, "192.0.2.99:7000": False})


def no_quorum(world: World) -> None:
    for name in world.context.db_names:
        partners = dict.fromkeys(world.get(name, world.ask.raft).partners, False)
        world.say(name, world.ask.raft, RaftStatus(None, False, 4, 99, 9, partners))
        world.change(name, world.ask.node, role="replica", replicas=())
    for proxy in world.context.proxy_names:
        world.deaf(proxy, "haproxy")
        servers = tuple(
            dataclasses.replace(s, status="DOWN")
            for s in World().get(proxy, world.ask.haproxy)
            if s.proxy == "primary"
        )
        world.say(proxy, world.ask.haproxy, servers)


def quorum_of_followers(world: World) -> None:
    """Two that lost their log take for a quorum what their leader, which counts ghosts, knows is none."""
    no_quorum(world)
    for name in ("db-2", "db-3"):
        world.change(name, world.ask.raft, has_quorum=True, leader="192.0.2.1:7000")


EMPTY_LOG = (
    '  File "/usr/local/lib/python3.12/site-packages/pysyncobj/journal.py", line 109, in __init__',
    "    self.__mm = mmap.mmap(self.__f.fileno(), 0)",
    "                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    "ValueError: cannot mmap an empty file",
)
ZEROS_IN_LOG = (
    '  File "/usr/local/lib/python3.12/site-packages/pysyncobj/journal.py", line 201, in __init__',
    "    idx, term = struct.unpack('<QQ', nextRecordData[:16])",
    "                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    "struct.error: unpack requires a buffer of 16 bytes",
)


def raft_log(*lines: str, host: str = "db-2", status: str = "restarting") -> Break:
    """Return the fault that Patroni ends at its start with these lines."""

    def apply(world: World) -> None:
        world.stop(host, "patroni", status)
        world.log(host, "patroni", "INFO: no action. I am (db-2), a secondary", "Traceback", *lines)

    apply.__name__ = "raft_log"
    return apply


def test_a_damaged_raft_log_is_mended_where_the_others_have_a_quorum() -> None:
    world = World()
    raft_log(*EMPTY_LOG)(world)
    finding = only(world)
    assert finding.seen.endswith("cannot be read (ValueError: cannot mmap an empty file)")
    assert finding.evidence == EMPTY_LOG
    assert finding.remedy == "kbpg diagnose --repair --host db-2"
    assert finding.repair is not None
    assert finding.repair.will.endswith("the data stays as it is")
    assert "db-2: container restarts again and again" in finding.explains


def test_a_damaged_raft_log_is_seen_between_two_starts_too() -> None:
    world = World()
    raft_log(*ZEROS_IN_LOG, status="running")(world)
    finding = only(world)
    assert finding.id == "raft-log-damaged"
    assert "db-2: Patroni does not answer" in finding.explains


@pytest.mark.parametrize(
    "lines",
    [
        (*EMPTY_LOG, "INFO: Lock owner: db-1; I am db-2"),
        ('  File "/app/other.py", line 1', *EMPTY_LOG[1:]),
        (*EMPTY_LOG[:3], "PermissionError: [Errno 13] Permission denied"),
    ],
    ids=["it went well since", "another file", "another error"],
)
def test_another_end_of_patroni_is_no_damaged_raft_log(lines: tuple[str, ...]) -> None:
    world = World()
    raft_log(*lines)(world)
    assert only(world).id == "container-restarting"


def test_a_member_that_answers_has_a_log_that_can_be_read() -> None:
    world = World()
    world.log("db-2", "patroni", *EMPTY_LOG)
    world.lost("db-2")
    assert not world.diagnose().of("raft-log-damaged")


def test_two_damaged_raft_logs_are_left_to_the_rebuild() -> None:
    world = World()
    for host in ("db-2", "db-3"):
        raft_log(*EMPTY_LOG, host=host)(world)
    world.change("db-1", world.ask.node, role="replica", replicas=())
    found = world.diagnose().of("raft-log-damaged")
    assert [(f.host, f.remedy, f.repair) for f in found] == [
        (host, "kbpg raft rebuild", None) for host in ("db-2", "db-3")
    ]


def test_a_damaged_raft_log_beside_a_host_that_is_away_is_no_reason_to_rebuild() -> None:
    world = World()
    world.off("db-3")
    raft_log(*EMPTY_LOG)(world)
    world.change("db-1", world.ask.node, role="replica", replicas=())
    (found,) = world.diagnose().of("raft-log-damaged")
    assert (found.remedy, found.repair) == ("kbpg raft status", None)


def archive_fails(world: World) -> None:
    segment = "0000000100000000000000A7"
    world.say("db-1", world.ask.views.archiver, (("on", True, segment, None, 3),))
    # A replica archives nothing, whatever it says of before
    world.say("db-2", world.ask.views.archiver, (("on", True, segment, None, 9),))


def raft_password(world: World) -> None:
    world.silence("db-2", world.ask.raft, "Raft on port 7000 speaks with another password")
    world.lonely("db-2")


def isolated(world: World) -> None:
    partners = dict.fromkeys(world.get("db-3", world.ask.raft).partners, False)
    world.change("db-3", world.ask.raft, has_quorum=False, partners=partners)
    for name in ("db-1", "db-2"):
        status = world.get(name, world.ask.raft)
        world.change(name, world.ask.raft, partners={**status.partners, "192.0.2.3:7000": False})
    stale_view = tuple(
        dataclasses.replace(m, role="leader" if m.name == "db-2" else "replica")
        for m in world.get("db-3", world.ask.cluster)
    )
    world.say("db-3", world.ask.cluster, stale_view)


# --- PostgreSQL ----------------------------------------------------------------------------------------


def no_database(world: World) -> None:
    fact = next(f for f in world.named["db-1"].values() if getattr(f, "name", "") == "databases")
    for name in world.context.db_names:
        world.say(name, fact, (("postgres", "UTF8", True, ["public"]),))
        for key, each in world.named[name].items():
            if getattr(getattr(each, "login", None), "database", "") == "keybuzz":
                world.silence(name, each, 'port 5432: database "keybuzz" does not exist')
                assert key
    for proxy in world.context.proxy_names:
        for each in (world.ask.views.pooled, world.ask.views.vector):
            world.silence(proxy, each, 'port 6432: FATAL:  database "keybuzz" does not exist')


def no_extension(world: World) -> None:
    for name in world.context.db_names:
        world.say(name, world.ask.extensions, (("plpgsql", "1.0"),))
    for proxy in world.context.proxy_names:
        world.silence(proxy, world.ask.views.vector, 'port 6432: type "vector" does not exist')


def old_on_disk(world: World) -> None:
    world.say("db-2", world.ask.views.available, (("vector", "0.8.0", False),))


def newer_on_disk(world: World) -> None:
    world.say("db-3", world.ask.views.available, (("vector", "0.8.1", True), ("vector", "0.8.5", False)))


def role_missing(world: World) -> None:
    world.role("kb_app")
    for proxy in world.context.proxy_names:
        for each in (world.ask.views.pooled, world.ask.views.vector):
            world.silence(proxy, each, "port 6432: FATAL:  SASL authentication failed")


def md5(world: World) -> None:
    world.role("kb_app", verifier="md5" + "0" * 32)


def more_parallel(world: World) -> None:
    world.say("db-1", world.ask.views.settings, (("max_parallel_maintenance_workers", "2", None, False),))


def trusting(world: World) -> None:
    world.say("db-2", world.ask.views.rules, (("host", "all", "all", "0.0.0.0", "trust", ""),))


def fsync_off(world: World) -> None:
    world.say("db-1", world.ask.views.settings, (("fsync", "off", None, False),))


def overridden(world: World) -> None:
    world.say("db-2", world.ask.views.overridden, (("work_mem", "64MB", "user"),))


def strange_slot(world: World) -> None:
    slots = world.get("db-1", world.ask.views.slots)
    world.say("db-1", world.ask.views.slots, (*slots, ("other", "physical", False, "extended", 5 * GB)))


def other_patroni(world: World) -> None:
    world.change("db-3", world.ask.node, version="3.3.11")


REJECTED = (
    'port 5432: pg_hba.conf rejects connection for host "192.0.2.2", user "kb_admin", database "postgres"'
)


def rejected(world: World) -> None:
    world.mute("db-2", REJECTED)


def crowded(world: World) -> None:
    world.say("db-1", world.ask.views.connections, ((190,),))


def unreached(world: World) -> None:
    status = world.get("db-2", world.ask.raft)
    world.change("db-2", world.ask.raft, partners={**status.partners, "192.0.2.3:7000": False})


def cut_apart(world: World) -> None:
    """Both followers miss each other; both reach the leader."""
    unreached(world)
    status = world.get("db-3", world.ask.raft)
    world.change("db-3", world.ask.raft, partners={**status.partners, "192.0.2.2:7000": False})


def unknown_member(world: World) -> None:
    world.change("db-2", world.ask.raft, partners={"192.0.2.1:7000": True})


# --- the proxies ---------------------------------------------------------------------------------------


def wrong_node(world: World) -> None:
    world.say("proxy-1", world.ask.views.primary, ((True, "192.0.2.3"),))


def all_down(world: World) -> None:
    servers = world.get("proxy-1", world.ask.haproxy)
    down = tuple(
        dataclasses.replace(s, status="DOWN", check="L4TOUT") if s.proxy == "primary" else s for s in servers
    )
    world.say("proxy-1", world.ask.haproxy, down)
    world.silence("proxy-1", world.ask.views.primary, "port 5432: server closed the connection unexpectedly")


def readers_refused(world: World) -> None:
    world.silence("proxy-1", world.ask.views.reads, "port 6432: no such database: keybuzz_ro")


def mute_pooler(world: World) -> None:
    world.deaf("proxy-2", "pgbouncer")


def no_vectors(world: World) -> None:
    world.silence("proxy-1", world.ask.views.vector, "port 6432: operator does not exist: vector <-> vector")


def forgotten_pause(world: World) -> None:
    pooler = world.get("proxy-1", world.ask.pooler)
    databases = tuple({**row, "paused": 1} if row["name"] == "keybuzz" else row for row in pooler.databases)
    pools = tuple({**row, "cl_waiting": 7, "maxwait": 30} for row in pooler.pools)
    world.change("proxy-1", world.ask.pooler, databases=databases, pools=pools)
    for each in (world.ask.views.pooled, world.ask.views.vector):
        world.silence("proxy-1", each, "no answer within 5 s")


def unfinished_pause(world: World) -> None:
    text = (
        "2026-11-23T16:00:00Z switchover from db-1 to db-2: clients of pgbouncer are made to wait\n"
        "2026-11-23T16:00:01Z kbpg was heard no more: the guard let the clients of pgbouncer go on\n"
    )
    world.say("proxy-1", note_fact(world.context), FileState("0:0", 0o600, "", text))


def waiting(world: World) -> None:
    pooler = world.get("proxy-1", world.ask.pooler)
    pools = tuple({**row, "cl_waiting": 7, "maxwait": 3, "sv_active": 50} for row in pooler.pools)
    world.change("proxy-1", world.ask.pooler, pools=pools)


def past_haproxy(world: World) -> None:
    pooler = world.get("proxy-1", world.ask.pooler)
    databases = tuple(
        {**row, "host": "192.0.2.1"} if row["name"] == "keybuzz" else row for row in pooler.databases
    )
    world.change("proxy-1", world.ask.pooler, databases=databases)


def no_function(world: World) -> None:
    fact = next(f for f in world.named["db-1"].values() if getattr(f, "name", "") == "auth query")
    world.say("db-1", fact, ())
    for proxy in world.context.proxy_names:
        for each in (world.ask.views.pooled, world.ask.views.vector):
            world.silence(proxy, each, "port 6432: FATAL:  bouncer config error")


def no_way(world: World) -> None:
    for each in (world.ask.views.pooled, world.ask.views.vector):
        world.silence("proxy-1", each, "port 6432: FATAL:  query_wait_timeout")


# --- not finished, not begun ---------------------------------------------------------------------------


def rebuild_left(world: World) -> None:
    note = FileState("0:0", 0o600, "", '{"id": "20261123T154501Z", "doing": "kbpg raft rebuild"}\n')
    for name in ("db-2", "db-3"):
        world.say(name, rebuild_note(world.context), note)
        world.stop(name, "patroni")


def damaged_amid_rebuild(world: World) -> None:
    """To give the data back to its owner would start Patroni, with the consensus that it remembers."""
    wrong_mode(world)
    rebuild_left(world)


def hand_made(world: World) -> None:
    """Its own containers and configuration; the data is the same, and no record tells of kbpg."""
    world.nobodys()
    edited(world)
    patched(world)


def half_adopted(world: World) -> None:
    fact = FileFact("/opt/keybuzz/kbpg/cluster.json")
    for name in world.context.db_names:
        text = json.dumps(json.loads(world.get(name, fact).text) | {"adopting": True})
        world.change(name, fact, text=text)
    world.container("db-1", "patroni")["Config"]["Labels"] = {}


# --- files ---------------------------------------------------------------------------------------------


def open_file(world: World) -> None:
    fact = FileFact("/opt/keybuzz/pgbouncer/userlist.txt", secret=True)
    world.change("proxy-1", fact, mode=0o644)


def shows(world: World, host: str, ends: datetime) -> None:
    """Let a host show a certificate that is valid until then, at noon of the first of June 2026."""
    world.taken = NOW.timestamp()
    key = issuing.new_key()
    issuer = issuing.authority(key, "test", NOW)
    purpose = Purpose(Names.of([host]), HOST_USAGES)
    made = issuing.leaf(key, host, purpose, issuer, key, ends + issuing.BACKDATED - issuing.LEAF_LIFE)
    text = issuing.certificate_pem(made)
    leaf = dataclasses.replace(world.context.pki.hosts[host], certificate=text)
    known = dataclasses.replace(world.context.pki, hosts={**world.context.pki.hosts, host: leaf})
    world.settle(dataclasses.replace(world.context, pki=known))


def expiring(world: World) -> None:
    shows(world, "db-2", NOW + 10 * DAY)


def expired(world: World) -> None:
    shows(world, "proxy-1", NOW)


def test_a_certificate_says_when_it_ends() -> None:
    world = World()
    expiring(world)
    finding = only(world)
    assert finding.seen == f"{BASE}/patroni/tls/server.crt expires on 2026-06-11, in 10 days"
    assert finding.remedy == "kbpg credentials renew-tls"
    expired(world)
    seen = {f.host: f.seen for f in world.diagnose().of("certificate-expires")}
    assert seen["proxy-1"] == f"{BASE}/pgbouncer/tls/server.crt expired on 2026-06-01"


def test_a_certificate_of_the_users_own_authority_is_replaced_by_the_user() -> None:
    world = World(INVENTORY + "tls: {certificates: own}\n")
    expiring(world)
    finding = only(world)
    assert finding.remedy == "kbpg apply-all"
    assert "own first" in finding.evidence[0]


def on_controller(world: World, *, ca: datetime | None = None, client: datetime | None = None) -> None:
    """Let the files on the controller be valid until then, at noon of the first of June 2026."""
    world.taken = NOW.timestamp()
    far = NOW + 1000 * DAY
    key, authority = issuing.new_key(), (ca or far) + issuing.BACKDATED - issuing.CA_LIFE
    issuer = issuing.authority(key, "test", authority)
    made = (client or ca or far) + issuing.BACKDATED - issuing.LEAF_LIFE
    leaf = issuing.leaf(key, "kbpg", Purpose(Names((), ()), (CLIENT,)), issuer, key, made)
    pki = world.context.pki
    client_leaf = dataclasses.replace(pki.client, certificate=issuing.certificate_pem(leaf))
    world.settle(
        dataclasses.replace(
            world.context,
            pki=dataclasses.replace(pki, ca=issuing.certificate_pem(issuer), client=client_leaf),
        )
    )


def own_expires(world: World) -> None:
    on_controller(world, client=NOW + 10 * DAY)


def own_expired(world: World) -> None:
    on_controller(world, client=NOW)


def authority_expires(world: World) -> None:
    on_controller(world, ca=NOW + 10 * DAY)


def authority_expired(world: World) -> None:
    on_controller(world, ca=NOW - DAY)


def test_kbpgs_own_certificate_is_renewed_with_the_others() -> None:
    world = World()
    own_expires(world)
    finding = only(world)
    path = world.context.inventory.pki_path / "kbpg.crt"
    assert finding.seen == f"{path} expires on 2026-06-11, in 10 days"
    assert finding.remedy == "kbpg credentials renew-tls"
    assert "no switchover" in finding.why


def test_an_authority_that_ends_is_told_once_and_not_renewed() -> None:
    """kbpg.crt, which it issued, ends with it."""
    world = World()
    authority_expires(world)
    finding = only(world)
    path = world.context.inventory.pki_path / "ca.crt"
    assert finding.seen == f"{path}, the authority's certificate, expires on 2026-06-11, in 10 days"
    assert finding.remedy.startswith("set tls: off in the inventory, then kbpg apply-all; docs/tls.md")


def test_the_users_own_are_replaced_by_the_user() -> None:
    world = World(INVENTORY + "tls: {certificates: own}\n")
    own_expires(world)
    directory = world.context.inventory.own_certificates_path
    assert only(world).remedy == f"put a new kbpg.crt and its key into {directory}"
    authority_expires(world)
    assert only(world).remedy.startswith(
        "put a ca.crt with the new authority and certificates that it issued"
    )


def test_an_authority_of_the_users_that_issued_nothing_in_use_may_end() -> None:
    """The old one stays beside its successor, for clients that know no other."""
    world = World(INVENTORY + "tls: {certificates: own}\n")
    on_controller(world)
    old = issuing.authority(issuing.new_key(), "old", NOW + 5 * DAY + issuing.BACKDATED - issuing.CA_LIFE)
    pki = world.context.pki
    both = issuing.certificate_pem(old) + pki.ca
    world.settle(dataclasses.replace(world.context, pki=dataclasses.replace(pki, ca=both)))
    assert shown(world) == []


def test_what_was_made_in_memory_does_not_expire() -> None:
    world = World()
    on_controller(world, ca=NOW + 10 * DAY)
    pki = dataclasses.replace(world.context.pki, fresh=frozenset({"ca.crt", "kbpg.crt"}))
    world.context = dataclasses.replace(world.context, pki=pki)
    assert "certificate-expires" not in {id_ for _, id_ in shown(world)}


def test_nothing_stops_without_tls() -> None:
    world = World(INVENTORY + "tls: off\n")
    authority_expired(world)
    assert only(world).severity is WARNING


@pytest.mark.parametrize("text", ["", "no certificate\n", None])
def test_no_certificate_expires_where_there_is_none(text: str | None) -> None:
    world = World()
    expiring(world)
    state = None if text is None else FileState("999:999", 0o600, "", text)
    world.say("db-2", FileFact(f"{BASE}/patroni/tls/server.crt"), state)
    assert {id_ for _, id_ in shown(world)} <= {"drift"}
    shows(world, "db-2", NOW + 30 * DAY)
    assert shown(world) == []


def open_credentials(world: World) -> None:
    fact = CredentialsFact(world.context.inventory.credentials_path)
    world.say("controller", fact, dataclasses.replace(FOUND, mode=0o644))


def open_keys(world: World) -> None:
    pki = Path("credentials/pki")
    exposed = {pki: 0o755, pki / "ca.key": 0o640}
    world.context = dataclasses.replace(
        world.context, pki=dataclasses.replace(world.context.pki, exposed=exposed)
    )


def test_keys_on_the_controller_that_others_may_read_are_told_with_the_command() -> None:
    world = World()
    open_keys(world)
    finding = only(world)
    assert finding.seen == "credentials/pki: mode 0755: wanted 0700, and 1 more"
    assert finding.evidence[0] == "credentials/pki/ca.key: mode 0640: wanted 0600"
    assert "--repair too, is refused" in finding.evidence[1]
    assert finding.remedy == "chmod go= credentials/pki credentials/pki/ca.key"


def edited(world: World) -> None:
    fact = FileFact("/opt/keybuzz/haproxy/haproxy.cfg")
    state = world.get("proxy-2", fact)
    world.say("proxy-2", fact, dataclasses.replace(state, digest="0" * 64, text=f"{state.text}# by hand\n"))


def patched(world: World) -> None:
    for name in world.context.db_names:
        config = copy.deepcopy(world.get(name, world.ask.config))
        config["ttl"] = 60
        world.say(name, world.ask.config, config)


def other_memory(world: World) -> None:
    world.container("proxy-1", "haproxy")["HostConfig"].update(Memory=0, MemorySwap=0)


def limited_patroni(world: World) -> None:
    world.container("db-3", "patroni")["HostConfig"].update(Memory=GB, MemorySwap=GB)


# fmt: off
CASES: tuple[tuple[Break, list[tuple[str, str]], Severity, Action | None], ...] = (
    (skewed, [("db-3", "clock-skew")], CRITICAL, None),
    (nearly_full, [("db-2", "disk-full")], WARNING, None),
    (quite_full, [("db-2", "disk-full")], CRITICAL, None),
    (docker_full, [("proxy-1", "disk-full")], WARNING, None),
    (small_host, [("db-2", "memory-parameters")], WARNING, None),
    (taken, [("proxy-1", "port-taken")], CRITICAL, None),
    (few_files, [("proxy-1", "nofile-low")], CRITICAL, None),
    (missing, [("proxy-1", "container-missing")], CRITICAL, Action.APPLY_STEP),
    (stopped, [("db-2", "container-stopped")], CRITICAL, Action.START_CONTAINER),
    (restarting, [("proxy-2", "container-restarting")], CRITICAL, Action.APPLY_STEP),
    (old, [("db-3", "container-old")], WARNING, Action.APPLY_STEP),
    (rebuild_left, [("cluster", "raft-rebuild-unfinished")], CRITICAL, None),
    (damaged_amid_rebuild, [("cluster", "raft-rebuild-unfinished")], CRITICAL, None),
    (hand_made, [("cluster", "cluster-unmanaged")], WARNING, None),
    (half_adopted, [("cluster", "cluster-unmanaged")], WARNING, None),
    (by_hand, [("db-3", "container-unmanaged")], WARNING, Action.APPLY_STEP),
    (no_image, [("db-2", "image-missing")], WARNING, Action.APPLY_STEP),
    (stranger, [("db-2", "data-shared")], CRITICAL, None),
    (not_loaded, [("proxy-1", "configuration-not-loaded")], WARNING, Action.APPLY_STEP),
    (wrong_mode, [("db-2", "data-permissions")], CRITICAL, Action.OWN_DATA),
    (wrong_mode_still_running, [("db-2", "data-permissions")], WARNING, Action.OWN_DATA),
    (raft_log(*EMPTY_LOG), [("db-2", "raft-log-damaged")], CRITICAL, Action.RENEW_RAFT_LOG),
    (raft_log(*ZEROS_IN_LOG), [("db-2", "raft-log-damaged")], CRITICAL, Action.RENEW_RAFT_LOG),
    (damaged_control, [("db-2", "data-unreadable")], CRITICAL, Action.REINITIALIZE),
    (damaged_control_still_streaming, [("db-2", "data-unreadable")], WARNING, None),
    (mute_patroni, [("db-3", "patroni-silent")], CRITICAL, None),
    (two_leaders, [("cluster", "two-leaders")], CRITICAL, None),
    (stale, [("db-2", "leader-disagreement")], WARNING, Action.RESTART_PATRONI),
    (paused, [("cluster", "patroni-paused")], WARNING, Action.RESUME_PATRONI),
    (pending, [("db-2", "pending-restart")], WARNING, Action.RESTART_POSTGRESQL),
    (broken("PANIC:  could not locate a valid checkpoint record"),
     [("db-2", "replica-no-checkpoint")], CRITICAL, Action.REINITIALIZE),
    (broken("FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000003"
            " has already been removed"), [("db-2", "replica-wal-removed")], CRITICAL, Action.REINITIALIZE),
    (wal_lost, [("db-2", "replica-wal-removed")], CRITICAL, Action.REINITIALIZE),
    (broken("FATAL:  requested timeline 2 is not a child of this server's history"),
     [("db-2", "replica-diverged")], CRITICAL, Action.REINITIALIZE),
    (broken("LOG:  record with incorrect prev-link B612682F/EC15A028 at 0/162141F8",
            "LOG:  waiting for WAL to become available at 0/16002000",
            "LOG:  record with incorrect prev-link B612682F/EC15A028 at 0/162141F8"),
     [("db-2", "replica-diverged")], CRITICAL, Action.REINITIALIZE),
    (broken("LOG:  record with incorrect prev-link B612682F/EC15A028 at 0/162141F8",
            "FATAL:  could not connect to the primary server: connection refused",
            "LOG:  record with incorrect prev-link B612682F/EC15A028 at 0/162141F8"),
     [("db-2", "replica-not-streaming")], CRITICAL, Action.RESTART_PATRONI),
    (broken('FATAL:  could not start WAL streaming: ERROR:  replication slot "db_2" does not exist'),
     [("db-2", "replica-slot-missing")], CRITICAL, Action.CREATE_SLOT),
    (slot_gone, [("db-2", "replica-slot-missing")], CRITICAL, Action.CREATE_SLOT),
    (broken("FATAL:  database system identifier differs between the primary and standby"),
     [("db-2", "replica-foreign")], CRITICAL, None),
    (broken('FATAL:  password authentication failed for user "replicator"'),
     [("db-2", "replica-password")], CRITICAL, Action.APPLY_STEP),
    (broken("LOG:  nothing that tells why"), [("db-2", "replica-not-streaming")], CRITICAL, Action.RESTART_PATRONI),
    (lagging, [("db-2", "replica-lag")], WARNING, None),
    (replay_paused, [("db-2", "replica-replay-paused")], WARNING, Action.RESUME_REPLAY),
    (asynchronous, [("cluster", "synchronous-missing")], CRITICAL, None),
    (ghost, [("cluster", "raft-ghost")], WARNING, Action.REMOVE_RAFT_MEMBER),
    (no_quorum, [("cluster", "raft-no-quorum")], CRITICAL, None),
    (quorum_of_followers, [("cluster", "raft-no-quorum")], CRITICAL, None),
    (raft_password, [("db-2", "raft-password")], CRITICAL, Action.RESTART_PATRONI),
    (isolated, [("db-3", "raft-isolated")], CRITICAL, None),
    (no_database, [("cluster", "database-missing")], CRITICAL, Action.APPLY_STEP),
    (no_extension, [("cluster", "extension-missing")], CRITICAL, Action.APPLY_STEP),
    (old_on_disk, [("db-2", "extension-version")], CRITICAL, None),
    (newer_on_disk, [("cluster", "extension-differs")], CRITICAL, None),
    (role_missing, [("cluster", "role-missing")], CRITICAL, Action.APPLY_STEP),
    (trusting, [("db-2", "scram-missing")], CRITICAL, None),
    (fsync_off, [("db-1", "unsafe-setting")], CRITICAL, None),
    (overridden, [("db-2", "setting-overridden")], WARNING, Action.RESET_PARAMETER),
    (archive_fails, [("db-1", "archive-failing")], WARNING, None),
    (strange_slot, [("db-1", "slot-unused")], WARNING, None),
    (other_patroni, [("cluster", "versions-differ")], WARNING, None),
    (crowded, [("db-1", "connections-full")], WARNING, None),
    (rejected, [("db-2", "postgres-silent")], CRITICAL, None),
    (unreached, [("db-3", "raft-unreachable")], WARNING, None),
    (cut_apart, [("db-2", "raft-unreachable")], WARNING, None),
    (unknown_member, [("db-2", "raft-member-missing")], WARNING, None),
    (more_parallel, [("cluster", "pgvector-vulnerable")], WARNING, Action.APPLY_STEP),
    (wrong_node, [("proxy-1", "haproxy-route-wrong")], CRITICAL, None),
    (all_down, [("proxy-1", "haproxy-no-leader")], CRITICAL, None),
    (readers_refused, [("proxy-1", "reads-unusable")], CRITICAL, None),
    (mute_pooler, [("proxy-2", "pgbouncer-silent")], CRITICAL, Action.APPLY_STEP),
    (unfinished_pause, [("proxy-1", "pause-unfinished")], WARNING, Action.APPLY_STEP),
    (forgotten_pause, [("proxy-1", "pgbouncer-paused")], CRITICAL, Action.RESUME_POOLER),
    (waiting, [("proxy-1", "pgbouncer-waiting")], WARNING, None),
    (past_haproxy, [("proxy-1", "pgbouncer-target")], CRITICAL, Action.APPLY_STEP),
    (no_function, [("cluster", "pgbouncer-auth-query")], CRITICAL, Action.APPLY_STEP),
    (no_vectors, [("proxy-1", "vector-unusable")], CRITICAL, None),
    (no_way, [("proxy-1", "pgbouncer-unusable")], CRITICAL, Action.RECONNECT_POOLER),
    (expiring, [("db-2", "certificate-expires")], WARNING, None),
    (expired, [("proxy-1", "certificate-expires")], CRITICAL, None),
    (own_expires, [("controller", "certificate-expires")], WARNING, None),
    (own_expired, [("controller", "certificate-expires")], CRITICAL, None),
    (authority_expires, [("controller", "certificate-expires")], WARNING, None),
    (authority_expired, [("controller", "certificate-expires")], CRITICAL, None),
    (open_file, [("proxy-1", "secrets-readable")], WARNING, Action.APPLY_STEP),
    (open_credentials, [("controller", "secrets-readable")], WARNING, Action.APPLY_STEP),
    (open_keys, [("controller", "secrets-readable")], WARNING, None),
    (edited, [("proxy-2", "drift")], WARNING, Action.APPLY_STEP),
    (patched, [("cluster", "drift")], WARNING, Action.APPLY_STEP),
    (other_memory, [("proxy-1", "drift")], WARNING, Action.APPLY_STEP),
    (limited_patroni, [("db-3", "drift")], WARNING, Action.APPLY_STEP),
)
# fmt: on


@pytest.mark.parametrize(
    ("apply", "expected", "severity", "action"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_one_fault_is_one_finding(
    apply: Break, expected: list[tuple[str, str]], severity: Severity, action: Action | None
) -> None:
    world = World()
    apply(world)
    assert shown(world) == expected
    finding = only(world)
    assert finding.severity is severity
    assert (finding.repair.action if finding.repair else None) is action
    assert finding.seen
    assert "{" not in finding.remedy


def test_a_limit_of_memory_is_mended_without_a_risk() -> None:
    world = World()
    limited_patroni(world)
    finding = only(world)
    assert finding.seen == "memory:patroni: limit: 1GB → none"
    assert finding.repair is not None
    assert finding.repair.risk == "none"


def test_every_kind_of_finding_is_tried() -> None:
    tried = {id_ for _, expected, _, _ in CASES for _, id_ in expected}
    here = {
        "host-unreachable",
        "ssh-refused",
        "docker-down",
        "no-leader",
        "role-password",
        "raft-silent",
    }
    left = {
        "address-missing", "memory-promised", "data-foreign", "identity-differs",  # the preflight's, tested there
        "postgres-down", "raft-deprecated", "haproxy-silent", "haproxy-unusable", "haproxy-replica-down",
        "reads-on-leader", "unmanaged",
    }  # fmt: skip
    assert {check.id for check in catalogue.ALL} == tried | here | left


def test_a_postgresql_that_tells_kbpg_nothing_says_why_and_passes_no_check() -> None:
    """What only it could answer is not in order: it is not known."""
    world = World()
    for host in world.context.db_names:
        world.mute(host, REJECTED)
    diagnosis = world.diagnose()
    assert [f.host for f in diagnosis.of("postgres-silent")] == ["db-1", "db-2", "db-3"]
    assert diagnosis.exit_code == Exit.FAILED
    assert REJECTED in diagnosis.of("postgres-silent")[0].seen
    assert diagnosis.unknown > 10
    # Two checks find a notice, and this one three
    assert diagnosis.passed + diagnosis.unknown == len(catalogue.ALL) - 3
    assert diagnosis.document()["unknown"] == diagnosis.unknown


def one_query_fails(world: World) -> None:
    world.silence("db-2", world.ask.views.node, 'could not open file "global/pg_control"')


def refused_superuser(world: World) -> None:
    for host in world.context.db_names:
        world.mute(host, 'port 5432: password authentication failed for user "kb_admin"')


def stopped_node(world: World) -> None:
    world.stop("db-2", "patroni")


def starting_node(world: World) -> None:
    world.mute("db-2", "port 5432: the database system is starting up")
    world.change("db-2", world.ask.node, state="starting")


@pytest.mark.parametrize(
    ("apply", "expected"),
    [
        (one_query_fails, []),
        (refused_superuser, [("cluster", "role-password")]),
        (stopped_node, [("db-2", "container-stopped")]),
        (starting_node, [("db-2", "postgres-down")]),
        (lambda world: world.off("db-2"), [("db-2", "host-unreachable")]),
    ],
)
def test_a_postgresql_whose_silence_has_a_name_is_not_called_silent(
    apply: Break, expected: list[tuple[str, str]]
) -> None:
    world = World()
    apply(world)
    assert shown(world)[:1] == expected
    assert not world.diagnose().of("postgres-silent")


def test_a_password_that_another_role_has_changed_does_not_explain_the_silence_of_a_node() -> None:
    world = World()
    rejected(world)
    world.role("kb_app", verifier=world.get("db-1", world.ask.roles)[REPLICATION_USER]["verifier"])
    assert {id_ for _, id_ in shown(world)} >= {"postgres-silent", "role-password"}


def test_a_changed_replication_password_explains_the_replicas() -> None:
    world = World()
    replication_password(world)
    ids = {f.id for f in world.diagnose().findings if f.severity > Severity.NOTICE}
    assert ids == {"role-password", "synchronous-missing"}
    (finding,) = world.diagnose().of("role-password")
    assert finding.subject == REPLICATION_USER
    assert finding.explains == ("db-2: wrong replication password", "db-3: wrong replication password")


def test_a_password_stored_as_md5_differs_and_is_not_scram() -> None:
    world = World()
    md5(world)
    assert {id_ for _, id_ in shown(world)} == {"role-password", "scram-missing"}


def test_who_has_no_password_of_kbpg_s_gets_a_new_one_from_the_superuser() -> None:
    """An application may not change another role's; where the credentials file has it, a step sets its verifier."""
    world = World()
    md5(world)
    roles = world.get("db-1", world.ask.roles)
    old = {**next(iter(roles.values())), "login": True, "verifier": "md5" + "0" * 32}
    world.say("db-1", world.ask.roles, {**roles, "old_app": old})
    found = {each.subject: each.remedy for each in world.diagnose().of("scram-missing")}
    assert found.pop("old_app") == 'kbpg psql -c "\\password old_app"'
    (ours,) = found
    assert found[ours] == next(f.remedy for f in world.diagnose().of("role-password") if f.subject == ours)


def test_each_full_disk_is_named_and_only_the_data_s_explains_more() -> None:
    world = World(INVENTORY + "postgresql: {mounts: [/srv/backup]}\n")
    broken("FATAL:  the database system is starting up")(world)
    before = shown(world)
    disks(world, "db-2", data=50, docker=2, mount=9)
    seen = {f.seen.rpartition(" at ")[2]: f for f in world.diagnose().of("disk-full")}
    assert list(seen) == ["/var/lib/docker", "/srv/backup"]
    assert all(path in f.remedy and f.subject == path for path, f in seen.items())
    assert "no container can be replaced" in seen["/var/lib/docker"].why
    assert "archived" in seen["/srv/backup"].why
    assert set(before) <= set(shown(world))


def test_two_faults_at_once_are_two_findings() -> None:
    world = World()
    wrong_mode(world)
    world.stop("proxy-2", "haproxy")
    assert shown(world) == [("proxy-2", "container-stopped"), ("db-2", "data-permissions")]


def test_a_stopped_container_does_not_hide_its_neighbour() -> None:
    world = World()
    world.stop("proxy-1", "haproxy")
    forgotten_pause(world)
    assert shown(world) == [("proxy-1", "container-stopped"), ("proxy-1", "pgbouncer-paused")]


@pytest.mark.parametrize(
    ("tls", "between", "asked"),
    [
        ("require", False, "--cacert /srv/kb/haproxy/tls/ca.crt https"),
        ("off", False, "http"),
        # until every HAProxy checks both ways, Patroni speaks what it spoke before
        ("require", True, "http"),
        ("off", True, "--cacert /srv/kb/haproxy/tls/ca.crt https"),
    ],
)
def test_a_proxy_asks_patroni_in_the_way_that_patroni_speaks(tls: str, between: bool, asked: str) -> None:
    text = INVENTORY.replace(
        "cluster: {name: test}", f"cluster: {{name: test, base_dir: /srv/kb}}\ntls: {tls}"
    )
    world = World(text)
    world.context = dataclasses.replace(world.context, between=between)
    all_down(world)
    (no_leader,) = world.diagnose().of("haproxy-no-leader")
    assert no_leader.remedy.endswith(f" 'curl -sSI -m 3 {asked}://192.0.2.1:8008/primary'")

    world = World(text)
    world.context = dataclasses.replace(world.context, between=between)
    servers = world.get("proxy-1", world.ask.haproxy)
    down = [dataclasses.replace(s, status="DOWN", check="L4TOUT") if s.name == "db-2" else s for s in servers]
    world.say("proxy-1", world.ask.haproxy, tuple(down))
    (replica,) = world.diagnose().of("haproxy-replica-down")
    assert replica.remedy.endswith(f" 'curl -sSI -m 3 {asked}://192.0.2.2:8008/replica'")


def test_a_db_host_shows_any_proxy_a_certificate_for_its_address() -> None:
    inventory = World().context.inventory
    names = names_of(inventory)
    assert all(host.address in names[host.name].texts() for host in inventory.db)


@pytest.mark.parametrize(
    ("database", "size", "remedy"),
    [
        ("keybuzz", 50, "raise pgbouncer.pool_size in the inventory"),
        ("byhand", UNLISTED_CONNECTIONS, "list the database in the inventory (databases) with a pool_size"),
    ],
)
def test_clients_of_a_database_that_the_inventory_does_not_name_wait_for_a_pool_of_its_own(
    database: str, size: int, remedy: str
) -> None:
    world = World()
    waiting(world)
    pooler = world.get("proxy-1", world.ask.pooler)
    pools = tuple({**row, "database": database} for row in pooler.pools)
    world.change("proxy-1", world.ask.pooler, pools=pools)
    finding = only(world)
    assert finding.id == "pgbouncer-waiting"
    assert finding.evidence == (f"50 server connections are active, pool size {size}",)
    assert finding.remedy == f"{remedy}, then kbpg apply-all"


def test_data_is_not_removed_without_a_leader_of_the_same_cluster() -> None:
    world = World()
    broken("PANIC:  could not locate a valid checkpoint record")(world)
    world.change("db-2", world.ask.node, system_identifier="1")
    assert only(world).repair is None


def test_a_leader_that_kbpg_cannot_reach_still_leads() -> None:
    world = World()
    world.off("db-1")
    for name in ("db-2", "db-3"):
        world.change(name, world.ask.node, receiving=True)
        others = {"192.0.2.1:7000": True, "192.0.2.2:7000": True, "192.0.2.3:7000": True}
        world.change(
            name,
            world.ask.raft,
            partners={k: v for k, v in others.items() if k != f"192.0.2.{name[-1]}:7000"},
        )
    for proxy in world.context.proxy_names:
        world.say(proxy, world.ask.haproxy, World().get(proxy, world.ask.haproxy))
    assert [id_ for _, id_ in shown(world)] == ["host-unreachable"]


def test_no_secret_is_in_a_finding() -> None:
    world = World()
    password = world.context.credentials.app_password.reveal()
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$b25l:dHdv"
    world.stop("db-2", "patroni", "restarting")
    world.log(
        "db-2", "patroni", f"ERROR: ALTER ROLE kb_app PASSWORD '{password}'", f"STATEMENT: '{verifier}'"
    )
    text = str([f.document() for f in world.diagnose().findings])
    assert password not in text
    assert "c2FsdA==" not in text
    assert "ALTER ROLE kb_app PASSWORD '***'" in text


def test_in_an_unfinished_rotation_the_password_of_before_is_in_no_finding_either() -> None:
    """It may be the one in force."""
    world, former = World(), generate("kb_admin", "kb_app")
    world.context = dataclasses.replace(world.context, former=former)
    world.stop("db-2", "patroni", "restarting")
    world.log("db-2", "patroni", f"ERROR: ALTER ROLE kb_app PASSWORD '{former.app_password.reveal()}'")
    text = str([f.document() for f in world.diagnose().findings])
    assert former.app_password.reveal() not in text
    assert "ALTER ROLE kb_app PASSWORD '***'" in text


def test_the_remedy_names_the_inventory_where_it_is_another() -> None:
    world = World()
    stopped(world)
    (finding,) = world.diagnose().of("container-stopped")
    assert finding.remedy == "kbpg step 02 --limit db-2"


def test_patroni_3_calls_its_leader_master() -> None:
    assert {"master", "primary"} <= LEADER_ROLES
    world = World()
    world.change("db-1", world.ask.node, role="master")
    assert shown(world) == []


def test_strict_says_that_writes_wait() -> None:
    world = World(INVENTORY.replace("{name: test}", "{name: test, synchronous: strict}"))
    asynchronous(world)
    assert "writes wait" in world.diagnose().of("synchronous-missing")[0].seen


def test_causes_that_go_round_are_all_shown() -> None:
    def seen(host: str) -> Callable[[object], list[Seen]]:
        return lambda _: [Seen(host, "it")]

    one = Check("one", "one", CRITICAL, "because", "do", seen("db-1"), explained_by=("two",))
    two = Check("two", "two", CRITICAL, "because", "do", seen("db-1"), explained_by=("one",))
    diagnosis = judge(World().snapshot(), (one, two))
    assert [f.id for f in diagnosis.findings] == ["one", "two"]


def test_worst_comes_first_and_decides_the_exit_code() -> None:
    world = World()
    edited(world)
    assert world.diagnose().exit_code == Exit.DIFFERS
    mute_pooler(world)
    assert [f.severity for f in world.diagnose().findings][:2] == [CRITICAL, WARNING]
    assert world.diagnose().exit_code == Exit.FAILED
    assert [f.host for f in world.diagnose().limited(["db-1"]).findings] == ["cluster", "cluster"]


STARTED = datetime(2026, 11, 23, 13, 33, 55, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("seconds", "severity"), [(5, WARNING), (60, CRITICAL)])
def test_a_node_that_just_starts_is_no_emergency(seconds: float, severity: Severity) -> None:
    world = World()
    mute_patroni(world)
    world.taken = STARTED + seconds
    assert only(world).severity is severity


@pytest.mark.parametrize(("seconds", "id_"), [(5, "raft-silent"), (60, "raft-password")])
def test_a_member_that_closes_connections_has_another_password_unless_it_just_starts(
    seconds: float, id_: str
) -> None:
    world = World()
    world.silence("db-2", world.ask.raft, "Raft on port 7000: closed the connection: another password?")
    world.lonely("db-2")
    world.taken = STARTED + seconds
    assert id_ in {finding.id for finding in world.diagnose().findings}


def test_a_broken_configuration_is_named_by_its_line_not_by_the_sum() -> None:
    """The last line is what a lab host's HAProxy 3.0 said; it names nothing."""
    world = World()
    world.stop("proxy-2", "haproxy", "restarting")
    line = "[ALERT]    (1) : config : parsing [/etc/haproxy/haproxy.cfg:68]: unknown keyword 'nonsense'"
    world.log(
        "proxy-2",
        "haproxy",
        line,
        "[ALERT]    (1) : config : Error(s) found in configuration file : /etc/haproxy/haproxy.cfg",
        "[ALERT]    (1) : config : Fatal errors found in configuration.",
    )
    assert world.diagnose().findings[0].seen.endswith(line)


def test_a_pause_does_not_hide_that_nobody_leads() -> None:
    world = World()
    paused(world)
    world.change("db-1", world.ask.node, role="replica", replicas=())
    found = world.diagnose()
    assert [f.id for f in found.findings if f.severity is CRITICAL][:1] == ["no-leader"]
    assert ("cluster", "patroni-paused") in shown(world)
    assert found.exit_code == 1
