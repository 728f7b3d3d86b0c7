"""PostgreSQL's parameters and Patroni's dynamic configuration, from hardware and inventory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbpg import dynamic, tuning
from kbpg.drills.workload import Crowd
from kbpg.inventory import Inventory, load
from kbpg.inventory.databases import OwnDatabase
from kbpg.render import render
from kbpg.tls import Transport
from kbpg.tuning import GB, MB

ROOT = Path(__file__).parents[2]
DEFAULT = load(ROOT / "inventory.yaml")
CANONICAL = re.compile(r"[1-9]\d*(kB|MB|GB|TB)")


def changed(**sections: dict[str, Any]) -> Inventory:
    """Return the shipped inventory with some fields of some sections replaced."""
    update = {name: getattr(DEFAULT, name).model_copy(update=fields) for name, fields in sections.items()}
    return DEFAULT.model_copy(update=update)


@pytest.mark.parametrize(
    ("memory", "cores", "expected"),
    [
        (
            512 * MB,
            1,
            {"shared_buffers": "128MB", "work_mem": "4MB", "max_wal_size": "1GB", "max_worker_processes": 8},
        ),
        (
            8 * GB,
            4,
            {
                "shared_buffers": "2GB",
                "effective_cache_size": "6GB",
                "work_mem": "6MB",
                "maintenance_work_mem": "512MB",
                "max_wal_size": "4GB",
                "max_parallel_workers": 4,
                "max_parallel_workers_per_gather": 2,
            },
        ),
        (
            256 * GB,
            64,
            {
                "shared_buffers": "32GB",
                "effective_cache_size": "192GB",
                "work_mem": "231MB",
                "maintenance_work_mem": "2GB",
                "max_wal_size": "8GB",
                "max_worker_processes": 64,
                "max_parallel_workers_per_gather": 4,
            },
        ),
    ],
)
def test_parameters_follow_the_hardware(memory: int, cores: int, expected: dict[str, object]) -> None:
    found = tuning.parameters(memory, cores, DEFAULT)
    assert {name: found[name] for name in expected} == expected


@given(st.integers(1, 4096 * GB), st.integers(1, 1024))
def test_parameters_are_sound_on_any_host(memory: int, cores: int) -> None:
    found = tuning.parameters(memory, cores, DEFAULT)
    assert list(found) == sorted(found)
    assert json.loads(json.dumps(found)) == found, "Patroni keeps them as JSON"
    for name in (
        "shared_buffers",
        "effective_cache_size",
        "work_mem",
        "max_wal_size",
        "max_slot_wal_keep_size",
    ):
        value = str(found[name])
        assert CANONICAL.fullmatch(value)
        assert not re.fullmatch(r"\d+MB", value) or int(value[:-2]) % 1024, f"{name} is shown in GB: {value}"
    workers = [
        found[f"max_{name}"]
        for name in ("parallel_workers_per_gather", "parallel_workers", "worker_processes")
    ]
    assert workers == sorted(workers, key=int)


def megabytes(value: object) -> int:
    number, unit = int(str(value)[:-2]), str(value)[-2:]
    return number * {"MB": 1, "GB": 1024}[unit]


@pytest.mark.parametrize(
    ("disk", "sizes"),
    [
        (None, ("8GB", "2GB", "2GB", "32GB")),
        (1000 * GB, ("8GB", "2GB", "2GB", "32GB")),
        (100 * GB, ("8GB", "2GB", "2GB", "24GB")),
        (20 * GB, ("2GB", "512MB", "1GB", "5GB")),
        (5 * GB, ("512MB", "128MB", "256MB", "1280MB")),
        (1, ("256MB", "64MB", "256MB", "256MB")),
    ],
)
def test_wal_leaves_room_on_the_disk(disk: int | None, sizes: tuple[str, ...]) -> None:
    found = tuning.parameters(64 * GB, 4, DEFAULT, disk)
    names = ("max_wal_size", "min_wal_size", "wal_keep_size", "max_slot_wal_keep_size")
    assert tuple(found[name] for name in names) == sizes


@given(st.integers(6 * GB, 1 << 50), st.integers(1, 4096 * GB))
def test_wal_never_takes_more_than_its_share(disk: int, memory: int) -> None:
    found = tuning.parameters(memory, 4, DEFAULT, disk)
    for name, share in (("max_wal_size", 10), ("wal_keep_size", 5), ("max_slot_wal_keep_size", 25)):
        assert megabytes(found[name]) * MB <= disk * share / 100
        assert megabytes(found[name]) <= megabytes(tuning.parameters(memory, 4, DEFAULT)[name])
    assert megabytes(found["min_wal_size"]) >= 32


@pytest.mark.parametrize("gigabytes", [9, 20, 50, 99, 250])
def test_a_few_blocks_less_disk_change_nothing(gigabytes: int) -> None:
    disk = gigabytes * GB
    same = tuning.parameters(64 * GB, 4, DEFAULT, disk - 64 * MB)
    assert tuning.parameters(64 * GB, 4, DEFAULT, disk - 200 * MB) == same


def test_a_few_megabytes_less_memory_change_nothing() -> None:
    some = 7 * GB + 900 * MB
    assert tuning.parameters(some, 4, DEFAULT) == tuning.parameters(some - 5 * MB, 4, DEFAULT)


def promised(inventory: Inventory) -> list[dict[str, dict[str, str]]]:
    """Return for each proxy the databases in its pgbouncer.ini, by name, with their settings."""
    found = []
    for host in inventory.proxies:
        text = render("pgbouncer/pgbouncer.ini.j2", inventory=inventory, host=host, tls=Transport("require"))
        section = text.partition("[databases]\n")[2].partition("[pgbouncer]\n")[0]
        lines = [line.split(" = ") for line in section.splitlines() if " = " in line]
        found.append({name: dict(re.findall(r"(\w+)=('[^']*'|\S+)", values)) for name, values in lines})
    return found


@pytest.mark.parametrize("pool_size", [1, 50, 500])
@pytest.mark.parametrize("superuser_access", [True, False])
@pytest.mark.parametrize("more", [{}, {"databases": (OwnDatabase(name="shop", pool_size=7),)}])
def test_all_pools_of_all_pgbouncers_fit_with_room_to_spare(
    pool_size: int, superuser_access: bool, more: dict[str, Any]
) -> None:
    pools = {"pool_size": pool_size, "superuser_access": superuser_access}
    inventory = changed(pgbouncer=pools).model_copy(update=more)
    databases = promised(inventory)
    assert {"keybuzz", "keybuzz_ro", "postgres", "postgres_ro", "*"} <= databases[0].keys()
    opened = sum(int(each["max_db_connections"]) for proxy in databases for each in proxy.values())
    reserved = int(tuning.parameters(GB, 1, inventory)["superuser_reserved_connections"])
    assert tuning.max_connections(inventory) >= max(100, opened + reserved + tuning.DIRECT_CONNECTIONS)


@pytest.mark.parametrize("superuser_access", [True, False])
def test_the_limit_of_a_database_keeps_no_pool_of_it_from_being_full(superuser_access: bool) -> None:
    inventory = changed(pgbouncer={"superuser_access": superuser_access})
    superuser = tuning.SUPERUSER_CONNECTIONS if superuser_access else 0
    for databases in promised(inventory):
        assert int(databases["keybuzz"]["max_db_connections"]) == 50 + 10 + superuser
        for name in ("postgres", "postgres_ro"):
            # logins go on while the superuser and one other role fill their pools
            people = superuser + int(databases[name]["pool_size"])
            assert int(databases[name]["max_db_connections"]) == tuning.AUTH_CONNECTIONS + people
        others = {name: each for name, each in databases.items() if name != "keybuzz"}
        assert {each["reserve_pool_size"] for each in others.values()} == {"0"}


def test_the_clients_of_a_drill_have_a_server_connection_each() -> None:
    """Its database is one that the inventory does not name, and a single proxy may serve them all."""
    (limits, _) = ((each["*"]["pool_size"], each["*"]["max_db_connections"]) for each in promised(DEFAULT))
    assert min(map(int, limits)) >= Crowd().pooled


def test_the_inventory_has_the_last_word() -> None:
    inventory = changed(
        postgresql={
            "max_connections": 77,
            "parameters": {"work_mem": "3MB", "jit": True, "log_checkpoints": False, "my.own": 1.5},
        }
    )
    found = tuning.parameters(GB, 1, inventory)
    names = ("max_connections", "work_mem", "jit", "log_checkpoints", "my.own")
    assert [found[name] for name in names] == [77, "3MB", "on", "off", 1.5]


LOGGED = {"log_connections": "on", "log_disconnections": "on", "log_statement": "ddl"}


def test_connections_and_changes_of_the_schema_are_logged_unless_the_inventory_says_no() -> None:
    found = tuning.parameters(GB, 1, DEFAULT)
    assert {name: found[name] for name in LOGGED} == LOGGED
    off = {"log_connections": False, "log_disconnections": "off", "log_statement": "none"}
    found = tuning.parameters(GB, 1, changed(postgresql={"parameters": off}))
    assert {name: found[name] for name in LOGGED} == {**off, "log_connections": "off"}


def test_the_log_holds_what_replicas_need_and_more_where_the_inventory_says_so() -> None:
    assert tuning.parameters(GB, 1, DEFAULT)["wal_level"] == "replica"
    inventory = changed(postgresql={"parameters": {"wal_level": "logical"}})
    assert tuning.parameters(GB, 1, inventory)["wal_level"] == "logical"


@pytest.mark.parametrize(("pgvector", "workers"), [("0.8.1", 0), ("0.7.4", 0), ("0.8.2", 4), ("0.10.0", 4)])
def test_parallel_index_builds_are_off_while_pgvector_overflows(pgvector: str, workers: int) -> None:
    inventory = changed(versions={"pgvector": pgvector})
    assert tuning.parameters(GB, 8, inventory)["max_parallel_maintenance_workers"] == workers


@pytest.mark.parametrize(
    ("patroni", "synchronous", "expected"),
    [
        ("4.1.5", "quorum", ("quorum", False)),
        ("4.0.0", "quorum", ("quorum", False)),
        ("3.3.11", "quorum", (True, False)),
        ("4.1.5", "strict", ("quorum", True)),
        ("3.3.11", "strict", (True, True)),
        ("4.1.5", "off", (False, False)),
        ("3.3.11", "off", (False, False)),
    ],
)
def test_synchronous_mode_is_what_this_patroni_knows(
    patroni: str, synchronous: str, expected: tuple[str | bool, bool]
) -> None:
    inventory = changed(versions={"patroni": patroni}, cluster={"synchronous": synchronous})
    found = dynamic.configuration(inventory, {})
    assert (found["synchronous_mode"], found["synchronous_mode_strict"]) == expected


@pytest.mark.parametrize(("nodes", "replicas"), [(3, 1), (5, 2), (7, 3)])
def test_as_many_replicas_acknowledge_as_may_be_lost(nodes: int, replicas: int) -> None:
    assert dynamic.synchronous_nodes(nodes) == replicas


def test_the_dynamic_configuration_survives_the_way_through_json() -> None:
    found = dynamic.configuration(DEFAULT, tuning.parameters(8 * GB, 4, DEFAULT))
    assert json.loads(json.dumps(found)) == found
    assert found["failsafe_mode"] is False
    assert found["postgresql"]["use_pg_rewind"] is True


def test_what_follows_from_the_hardware_is_known_by_name() -> None:
    """While a host cannot be asked these stay as they are (`wanted_configuration`)."""
    safe = changed(versions={"pgvector": "0.8.2"})
    small = tuning.parameters(GB, 1, safe, 5 * GB)
    large = tuning.parameters(256 * GB, 64, safe, 5000 * GB)
    assert {name for name in small if small[name] != large[name]} == tuning.FROM_HARDWARE
