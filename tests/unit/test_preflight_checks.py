"""Every check of the preflight: what was read, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kbpg.context import Context
from kbpg.credentials import generate
from kbpg.engine.compare import compare
from kbpg.facts import Facts, Knowledge, NotKnown
from kbpg.inventory import Host, parse
from kbpg.model import Placed, Status
from kbpg.resources.file import FileState
from kbpg.resources.foreign import DataState, Ownership, damaged, judge, odd_one_out
from kbpg.resources.hardware import Hardware
from kbpg.resources.preflight.clock import Offset, skew
from kbpg.resources.preflight.disk import Disk
from kbpg.resources.preflight.ports import Listener, Needed, Ports, collisions
from kbpg.resources.preflight.resource import Preflight
from kbpg.resources.preflight.system import System, version
from kbpg.steps.s01_prepare import needs

from .certificates import placeholders

HOSTS = """
db:
  - {name: db-1, address: 10.0.0.120}
  - {name: db-2, address: 10.0.0.121}
  - {name: db-3, address: 10.0.0.122}
proxies:
  - {name: px-1, address: 10.0.0.11}
"""
GB = 1 << 30
DEBIAN = System("debian", "", "Debian 13", "x86_64", True, "26.1.5", "", "chronyd", 1_048_576)
ROCKY = replace(DEBIAN, id="rocky", like="rhel", name="Rocky Linux 9", apt=False)
ROOM = Disk("/opt", 50 * GB, 1_000_000, "ext2/ext3")
BASE = "/opt/keybuzz"
DATA = f"data:{BASE}/postgres/data"
DISK = f"disk:{BASE}/postgres/data"
RECORD = f"file:{BASE}/kbpg/cluster.json"
PGDATA = f"{BASE}/postgres/data/pgdata"
MINE = DataState(PGDATA, True, "16", "111", modified=1_795_439_318)
PG_PORTS = "ports:5432,7000,8008"
PROXY_PORTS = "ports:5432,5433,6432,8404"


def context(settings: str = "") -> Context:
    inventory = parse(f"cluster: {{name: kb}}\n{settings}{HOSTS}", "i.yaml")
    return Context(inventory, generate("kb_admin", "kb_app"), pki=placeholders(inventory))


def record(cluster: str = "kb", identifier: str = "111") -> FileState:
    text = f'{{"cluster": "{cluster}", "system_identifier": "{identifier}"}}\n'
    return FileState("0:0", 0o600, "", text)


def healthy(host: Host) -> dict[str, Any]:
    db = host.role == "db"
    own = Ports((), frozenset({"127.0.0.1", host.address}))
    return {
        "system": DEBIAN,
        "clock": Offset(0.001, 0.01),
        "hardware": Hardware(8 * GB, 4),
        f"disk:{BASE}": ROOM,
        DISK: ROOM,
        PG_PORTS if db else PROXY_PORTS: own,
        "containers:patroni" if db else "containers:haproxy,pgbouncer": {},
        DATA: DataState(PGDATA, present=False),
        RECORD: None,
    }


def lines(host: str, settings: str = "", **changed: dict[str, Any]) -> list[str]:
    """Return what the preflight of `host` says; `changed` are answers by host (`db_1`) and key."""
    ctx = context(settings)
    knowledge = Knowledge()
    for each in ctx.inventory.hosts:
        knowledge.put(each.name, healthy(each) | changed.get(each.name.replace("-", "_"), {}))
    resource = Preflight(ctx, ctx.inventory.host(host), needs(ctx, ctx.inventory.host(host)))
    found = compare(Placed(host, resource), Facts(knowledge, host))
    assert found.status in (Status.OK, Status.DIFFERS)
    return list(found.lines)


@pytest.mark.parametrize("host", ["db-1", "db-2", "px-1"])
def test_healthy_hosts_have_no_problems(host: str) -> None:
    assert lines(host) == []


def test_all_problems_are_told_at_once() -> None:
    said = lines(
        "db-1",
        db_1={
            "system": replace(DEBIAN, docker="silent", docker_error="permission denied"),
            "hardware": Hardware(200 << 20, 1),
            DISK: replace(ROOM, free=GB),
            DATA: MINE,
        },
    )
    names = [line.split(":")[0] for line in said if not line.startswith(" ")]
    assert names == ["docker", "memory", "disk", "data"]
    assert sum(line.startswith("  hint: ") for line in said) == len(names)


def test_a_host_that_tells_nothing_is_one_line() -> None:
    gone = NotKnown("db-1 is not connected")
    said = lines("db-1", db_1=dict.fromkeys(healthy(context().inventory.db[0]), gone))
    assert said[0] == "host: cannot be looked at: db-1 is not connected"
    assert len(said) == 2


def test_what_could_not_be_read_is_a_problem_and_not_fine() -> None:
    assert lines("db-1", db_1={"clock": NotKnown("no date")})[0] == "clock: cannot be judged: no date"


@pytest.mark.parametrize("other", [{"system": NotKnown("-"), "clock": NotKnown("-"), DATA: NotKnown("-")}])
def test_hosts_that_were_left_out_are_not_held_against_the_others(other: dict[str, Any]) -> None:
    assert lines("db-2", db_1=other) == []


def one(host: str, settings: str = "", **changed: dict[str, Any]) -> str:
    """Return the only problem."""
    said = [line for line in lines(host, settings, **changed) if not line.startswith(" ")]
    assert len(said) <= 1, said
    return said[0] if said else ""


@pytest.mark.parametrize(
    ("settings", "system", "said"),
    [
        ("", DEBIAN, ""),
        ("", replace(DEBIAN, docker="missing"), ""),
        ("", replace(ROCKY), ""),
        ("", replace(DEBIAN, docker="20.10.5+dfsg1"), ""),
        ("", replace(DEBIAN, docker="19.03.8"), "docker: version 19.03.8: wanted 20.10 or newer"),
        (
            "",
            replace(ROCKY, docker="missing"),
            "system: Rocky Linux 9, without Docker: wanted Debian or Ubuntu, or Docker installed",
        ),
        (
            "prepare: {install_docker: false}\n",
            replace(DEBIAN, docker="missing"),
            "docker: not installed: wanted Docker, and prepare.install_docker is false",
        ),
        (
            "",
            replace(ROCKY, time_service=""),
            "time service: none runs, and kbpg cannot install one on Rocky Linux 9: wanted chrony, ntpd or "
            "systemd-timesyncd",
        ),
        ("prepare: {clock: report}\n", replace(ROCKY, time_service=""), ""),
        ("", replace(DEBIAN, time_service=""), ""),
        ("", replace(DEBIAN, machine="armv7l"), "architecture: armv7l: wanted x86_64 or aarch64"),
        (
            "",
            replace(DEBIAN, machine="aarch64"),
            "architecture: aarch64, but db-1 is x86_64: wanted one architecture everywhere",
        ),
    ],
)
def test_system_and_docker(settings: str, system: System, said: str) -> None:
    assert one("db-2", settings, db_2={"system": system}) == said


@pytest.mark.parametrize(
    ("text", "parts"), [("26.1.5+dfsg1", (26, 1)), ("20.10.24", (20, 10)), ("dev", (0, 0)), ("", (0, 0))]
)
def test_versions_of_docker(text: str, parts: tuple[int, int]) -> None:
    assert version(text) == parts


@pytest.mark.parametrize(
    ("settings", "memory", "said"),
    [
        ("", 470 << 20, ""),
        ("", 400 << 20, "memory: 400MB: wanted at least 512 MB"),
        ("postgresql: {memory: 8GB}\n", int(7.7 * GB), ""),
        ("postgresql: {memory: 8GB}\n", 7 * GB, "memory: 7GB: wanted 8GB, as postgresql.memory says"),
    ],
)
def test_memory(settings: str, memory: int, said: str) -> None:
    assert one("db-1", settings, db_1={"hardware": Hardware(memory, 2)}) == said


def test_proxies_need_no_memory_for_postgresql() -> None:
    assert one("px-1", "postgresql: {memory: 8GB}\n", px_1={"hardware": Hardware(GB, 1)}) == ""


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (replace(ROOM, free=5 * GB), ""),
        (replace(ROOM, inodes=None), ""),
        (replace(ROOM, free=5 * GB - 1), "disk: 5.0 GB free at /opt: wanted 5GB"),
        (replace(ROOM, free=0), "disk: 0 bytes free at /opt: wanted 5GB"),
        (replace(ROOM, inodes=10), "disk: 10 inodes free at /opt: wanted 20000"),
        (replace(ROOM, read_only=True), "disk: /opt is mounted read-only"),
        (
            replace(ROOM, kind="tmpfs"),
            "disk: /opt is a tmpfs: wanted a file system that is still there after a reboot",
        ),
        (
            Disk("/opt", broken="/opt"),
            f"disk: /opt is no directory, nor a link to one: wanted a directory for {BASE}/postgres/data",
        ),
    ],
)
def test_disk(disk: Disk, said: str) -> None:
    assert one("db-1", db_1={DISK: disk}) == said


def test_directories_to_mount_must_be_there() -> None:
    """Docker would make them: root's, on the host's own disk, where a file server's was meant."""
    settings = "postgresql: {mounts: [/srv/wal, /srv/backup]}\n"
    wal, backup = "directory:/srv/wal", "directory:/srv/backup"
    there = ("999:999", 0o700)
    assert one("db-1", settings, db_1={wal: there, backup: there}) == ""
    assert one("db-1", settings, db_1={wal: there, backup: None}) == (
        "mounts: /srv/backup is not there: wanted it, for postgresql.mounts"
    )
    assert one("px-1", settings) == ""


def test_the_inventorys_own_minimum_counts() -> None:
    assert one("px-1", "prepare: {minimum_disk: 100GB}\n") == "disk: 50GB free at /opt: wanted 100GB"


@pytest.mark.parametrize(
    ("host", "disk", "free", "born", "said"),
    [
        ("db-1", DISK, 300 << 20, ("db_1", "db_2"), ""),
        ("db-1", DISK, 255 << 20, ("db_1", "db_2"), "disk: 255MB free at /opt: wanted 256MB"),
        ("px-1", f"disk:{BASE}", 300 << 20, ("db_2", "db_3"), ""),
        # new in a cluster that is born
        ("db-1", DISK, 300 << 20, ("db_2", "db_3"), "disk: 300MB free at /opt: wanted 5GB"),
    ],
)
def test_the_disk_of_a_cluster_that_is_born_may_be_full(
    host: str, disk: str, free: int, born: tuple[str, ...], said: str
) -> None:
    changed: dict[str, dict[str, Any]] = {name: {RECORD: record(), DATA: MINE} for name in born}
    changed.setdefault(host.replace("-", "_"), {})[disk] = replace(ROOM, free=free)
    assert one(host, **changed) == said


def test_a_claim_is_no_birth() -> None:
    claimed = {RECORD: record(identifier=""), DISK: replace(ROOM, free=GB)}
    assert one("db-1", db_1=claimed) == "disk: 1GB free at /opt: wanted 5GB"


def test_a_proxy_and_data_that_are_there_may_be_in_memory() -> None:
    tmpfs = replace(ROOM, kind="tmpfs")
    assert one("px-1", px_1={f"disk:{BASE}": tmpfs}) == ""
    mine = {DATA: MINE, RECORD: record()}
    assert one("db-1", db_1={DISK: tmpfs, **mine}, db_2=mine) == ""


def test_open_files() -> None:
    few = {"system": replace(DEBIAN, open_files=10_000)}
    assert one("px-1", px_1=few) == "open files: a container gets 10000 at most: wanted 10200 for HAProxy"
    assert one("px-1", "haproxy: {max_connections: 1000}\n", px_1=few) == ""
    assert one("db-1", db_1=few) == ""


def test_an_address_that_the_host_does_not_have() -> None:
    said = one("db-1", db_1={PG_PORTS: Ports((), frozenset({"127.0.0.1", "192.168.1.5"}))})
    assert said == (
        "address: 10.0.0.120 is not on any interface: wanted one of the host's own addresses (192.168.1.5)"
    )


# --- ports -------------------------------------------------------------------------------------------

NEEDED = Needed(5432, "PostgreSQL", "patroni", ("10.0.0.120", "127.0.0.1"))
ID = "ab" * 32


def taken(listener: Listener, containers: dict[str, Any] | None = None) -> list[str]:
    return collisions([NEEDED], Ports((listener,)), containers or {})


@pytest.mark.parametrize(
    ("address", "collides"),
    [
        ("0.0.0.0", True),
        ("*", True),
        ("10.0.0.120", True),
        ("127.0.0.1", True),
        ("[::]", False),
        ("10.0.0.121", False),
        ("127.0.0.53", False),
    ],
)
def test_only_our_addresses_collide(address: str, collides: bool) -> None:
    assert bool(taken(Listener(address, 5432, "postgres", 5))) is collides


def test_who_holds_a_port_is_named() -> None:
    assert taken(Listener("*", 5432, "postgres", 814)) == [
        "5432 (PostgreSQL) is held on * by postgres (pid 814)"
    ]
    inside = Listener("*", 5432, "postgres", 814, ("cd" * 32,))
    assert taken(inside)[0].endswith("by postgres (pid 814) in container cdcdcdcdcdcd")


def test_our_own_container_may_hold_it_and_nobody_else() -> None:
    own = {"patroni": {"Id": ID, "State": {"Status": "running"}}}
    listener = Listener("10.0.0.120", 5432, "postgres", 814, (ID,))
    assert taken(listener, own) == []
    assert taken(listener, {"other": own["patroni"]}) != []
    assert taken(replace(listener, containers=("cd" * 32,)), own) != []
    assert taken(replace(listener, containers=()), own) != []


def test_without_a_process_name_our_running_container_gets_the_benefit_of_the_doubt() -> None:
    nobody = Listener("10.0.0.120", 5432)
    own = {"patroni": {"Id": ID, "State": {"Status": "running"}}}
    assert taken(nobody, own) == []
    own["patroni"]["State"] = {"Status": "exited"}
    assert taken(nobody, own) == ["5432 (PostgreSQL) is held on 10.0.0.120 by a process that cannot be named"]


def test_several_ports_are_all_listed() -> None:
    found = Ports(
        (Listener("*", 5432, "postgres", 5), Listener("*", 6432, "pgbouncer", 6)), frozenset({"10.0.0.11"})
    )
    assert lines("px-1", px_1={PROXY_PORTS: found})[:3] == [
        "ports: 2 are taken: wanted them free",
        "  5432 (HAProxy to the leader) is held on * by postgres (pid 5)",
        "  6432 (PgBouncer) is held on * by pgbouncer (pid 6)",
    ]


# --- clock -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "limit", "away"),
    [
        ([0.0, 0.0, 0.0], 0.5, {}),
        ([100.0, 100.1, 99.9], 0.5, {}),  # the controller's own clock does not matter
        ([0.0, 0.0, 2.0], 0.5, {2: 2.0}),
        ([0.0, 0.0, -3.0, 0.1, 2.0], 0.5, {2: -3.0, 4: 2.0}),
        ([-0.4, 0.0, 0.4], 0.5, {0: -0.4, 2: 0.4}),
        ([0.0, 0.51], 0.5, {}),  # within what the readings may be wrong
        ([0.0, 0.6], 0.5, {0: -0.3, 1: 0.3}),
        ([0.0], 0.5, {}),
    ],
)
def test_skew_is_told_where_the_clock_is_away_from_the_others(
    offsets: list[float], limit: float, away: dict[int, float]
) -> None:
    hosts = {str(i): Offset(seconds, 0.01) for i, seconds in enumerate(offsets)}
    found = {i: skew(str(i), hosts, limit) for i in range(len(offsets))}
    assert {i: pytest.approx(each) for i, each in found.items() if each is not None} == away


def test_an_uncertain_reading_accuses_nobody() -> None:
    hosts = {"a": Offset(0.0, 0.01), "b": Offset(0.0, 0.01), "c": Offset(0.9, 0.5)}
    assert skew("c", hosts, 0.5) is None


def test_the_message_about_a_clock() -> None:
    said = one("db-2", db_2={"clock": Offset(-1.5, 0.01)})
    assert said == "clock: 1.501 s behind the other hosts: wanted at most 0.5 s"
    assert one("px-1", db_2={"clock": Offset(-1.5, 0.01)}) == ""


# --- data --------------------------------------------------------------------------------------------

KB = Ownership("kb", "111")


@pytest.mark.parametrize(
    ("data", "owner", "why"),
    [
        (DataState(PGDATA, False), Ownership(), None),
        (DataState(PGDATA, False), KB, None),
        (MINE, KB, None),
        (MINE, Ownership("kb", ""), None),  # claimed, then born
        (replace(MINE, system_identifier=""), KB, None),  # a clone in progress
        (MINE, Ownership(), "no record of kbpg's explains it"),
        (MINE, Ownership("kb", "222"), "this host's record names the identifier 222"),
        (MINE, Ownership("shop", "111"), "belongs to the cluster shop, not to kb"),
        (DataState(PGDATA, False), Ownership("shop", ""), "belongs to the cluster shop, not to kb"),
        (replace(MINE, system_identifier="", readable=False), KB, "global/pg_control cannot be read"),
        (replace(MINE, version="15"), KB, "the inventory wants PostgreSQL 16"),
        (replace(MINE, path=f"{BASE}/postgres/data"), KB, "where kbpg never puts any"),
        (DataState(PGDATA, True), Ownership(), "files without a PG_VERSION"),
    ],
)
def test_whose_data_it_is(data: DataState, owner: Ownership, why: str | None) -> None:
    found = judge(data, owner, "kb", 16)
    assert (found is None) == (why is None)
    assert (why or "") in (found or "")


BROKEN = replace(MINE, system_identifier="", readable=False)


@pytest.mark.parametrize(
    ("data", "owner", "is_damaged"),
    [
        (BROKEN, KB, True),
        (MINE, KB, False),
        (replace(MINE, system_identifier=""), KB, False),  # a clone in progress
        (BROKEN, Ownership(), False),
        (BROKEN, Ownership("kb", ""), False),  # claimed: nobody knows whose data appeared
        (BROKEN, Ownership("shop", "111"), False),
        (replace(BROKEN, present=False), KB, False),
        (replace(BROKEN, version="15"), KB, False),
        (replace(BROKEN, path=f"{BASE}/postgres/data"), KB, False),
    ],
)
def test_data_is_damaged_where_the_record_alone_explains_it(
    data: DataState, owner: Ownership, is_damaged: bool
) -> None:
    assert damaged(data, owner, "kb", 16) is is_damaged


def test_foreign_data_is_described_with_the_commands_to_look_at_it() -> None:
    assert lines("db-1", db_1={DATA: MINE}) == [
        f"data: PostgreSQL 16 data in {PGDATA} (system identifier 111, last written 2026-11-23 13:08 UTC), "
        "and no record of kbpg's explains it",
        "  look at it on the host, nothing is changed by:",
        f"    sudo ls -la {PGDATA}",
        f"    sudo docker run --rm --network none --user 0 -v {PGDATA}:/data:ro --entrypoint pg_controldata "
        "pgvector/pgvector:0.8.1-pg16-trixie /data",
        "  hint: kbpg does not touch it: move it away, or choose another cluster.base_dir",
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cluster": null}'])
def test_a_record_that_says_nothing_explains_nothing(text: str) -> None:
    assert Ownership.of(text) == Ownership()


def ids(*each: str) -> dict[str, frozenset[str]]:
    return {f"db-{i}": frozenset(filter(None, text.split())) for i, text in enumerate(each, 1)}


@pytest.mark.parametrize(
    ("identifiers", "odd"),
    [
        (ids("", "", ""), []),
        (ids("1", "", ""), []),
        (ids("1", "1", "1"), []),
        (ids("1", "1", "2"), ["db-3"]),
        (ids("1", "2", ""), ["db-1", "db-2"]),
        (ids("1", "2", "3"), ["db-1", "db-2", "db-3"]),
        (ids("1", "1", "1 2"), ["db-3"]),
        (ids("1 2", "", ""), []),  # `data` tells: the record and the data of one host
    ],
)
def test_all_db_hosts_hold_one_cluster(identifiers: dict[str, frozenset[str]], odd: list[str]) -> None:
    assert [name for name in identifiers if odd_one_out(name, identifiers)] == odd


def test_the_odd_one_out_is_told_what_the_others_have() -> None:
    mine: dict[str, Any] = {DATA: MINE, RECORD: record()}
    other = replace(MINE, system_identifier="222")
    odd: dict[str, Any] = {DATA: other, RECORD: record(identifier="222")}
    said = one("db-3", db_1=mine, db_2=mine, db_3=odd)
    assert said == (
        "identity: system identifier 222 here, 111 on db-1, 111 on db-2: wanted one cluster's data everywhere"
    )
    assert one("db-1", db_1=mine, db_2=mine, db_3=odd) == ""
