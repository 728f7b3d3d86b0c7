"""The inventory as others use it: values, defaults, merged SSH settings, paths."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from kbpg.errors import Exit, InventoryError, UsageError
from kbpg.inventory import BaseImages, Inventory, human_size, load, parse, split_jump, version_tuple

HOSTS = """
db:
  - {name: db-master-01, address: 10.0.0.120}
  - {name: db-slave-01, address: 10.0.0.121}
  - {name: db-slave-02, address: 10.0.0.122}
proxies:
  - {name: haproxy-01, address: 10.0.0.11}
  - {name: haproxy-02, address: 10.0.0.12}
"""


def inventory(text: str = "", path: Path | str = "inventory.yaml") -> Inventory:
    head = "" if "cluster:" in text else "cluster: {name: keybuzz}\n"
    return parse(head + text + HOSTS, path)


def problems(text: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        inventory(text)
    return list(caught.value.problems)


def test_hosts_are_db_then_proxies_with_their_roles() -> None:
    inv = inventory()
    assert [(host.name, host.role) for host in inv.hosts] == [
        ("db-master-01", "db"),
        ("db-slave-01", "db"),
        ("db-slave-02", "db"),
        ("haproxy-01", "proxy"),
        ("haproxy-02", "proxy"),
    ]
    assert inv.first_db is inv.db[0]
    assert inv.host("haproxy-02") is inv.proxies[1]
    assert len(dict.fromkeys(inv.hosts)) == 5
    assert str(inv.first_db) == "db-master-01"


def test_an_unknown_host_is_a_usage_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        inventory().host("db-slave-1")
    assert caught.value.lines() == [
        "no host db-slave-1 in inventory.yaml, did you mean db-slave-01?",
        "hint: hosts: db-master-01, db-slave-01, db-slave-02, haproxy-01, haproxy-02",
    ]


def test_nothing_of_it_can_be_changed() -> None:
    inv = inventory()
    with pytest.raises(ValidationError):
        inv.cluster.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        inv.credentials = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("16MB", 16 * 1024**2),
        ("1 GB", 1024**3),
        ("64kB", 65536),
        ("2TB", 2 * 1024**4),
        ("0", 0),
        ("12345", 12345),
    ],
)
def test_sizes_are_bytes(written: str, size: int) -> None:
    assert inventory(f"haproxy: {{replica_max_lag: {written}}}").haproxy.replica_max_lag == size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("45", 45), ("45s", 45), ("30m", 1800), ("5min", 300), ("2h", 7200), ("1 d", 86400)],
)
def test_durations_are_seconds(written: str, seconds: int) -> None:
    assert inventory(f"haproxy: {{client_timeout: {written}}}").haproxy.client_timeout == seconds


@pytest.mark.parametrize("written", ["300", "300ms", "300 ms"])
def test_check_intervals_are_milliseconds(written: str) -> None:
    assert inventory(f"haproxy: {{check_fast_interval: {written}}}").haproxy.check_fast_interval == 300


@pytest.mark.parametrize("word", ["quorum", "strict", "off", '"off"'])
def test_a_choice_may_be_a_word_that_others_read_as_a_boolean(word: str) -> None:
    inv = inventory(f"cluster: {{name: keybuzz, synchronous: {word}}}")
    assert inv.cluster.synchronous == word.strip('"')


def test_the_key_on_is_text_not_true() -> None:
    assert inventory("build: {on: first_db}").build.on == "first_db"


def test_parameters_keep_their_type() -> None:
    given = inventory(
        'postgresql: {parameters: {work_mem: 32MB, jit: off, geqo: true, a.b: "1", cpu_tuple_cost: 0.5}}'
    )
    assert given.postgresql.parameters == {
        "work_mem": "32MB",
        "jit": "off",
        "geqo": True,
        "a.b": "1",
        "cpu_tuple_cost": 0.5,
    }
    assert type(given.postgresql.parameters["jit"]) is str


def test_a_section_with_nothing_in_it_is_all_defaults() -> None:
    assert inventory("timers:\nssh:\nbuild: {images: }").model_dump() == inventory().model_dump()


def test_images_follow_from_the_versions_unless_set() -> None:
    assert inventory().images == BaseImages(
        "python:3.12-slim-trixie", "pgvector/pgvector:0.8.1-pg16-trixie", "debian:trixie-slim"
    )
    other = inventory(
        'versions: {python: "3.13", pgvector: 0.8.2}\nbuild: {images: {debian: "registry:5000/debian:13"}}'
    )
    assert other.images == BaseImages(
        "python:3.13-slim-trixie", "pgvector/pgvector:0.8.2-pg16-trixie", "registry:5000/debian:13"
    )


@pytest.mark.parametrize("tag", ["", ":trixie-slim"])
def test_a_base_image_may_be_pinned_by_its_digest(tag: str) -> None:
    pinned = f"registry:5000/debian{tag}@sha256:{'0a' * 32}"
    assert inventory(f'build: {{images: {{debian: "{pinned}"}}}}').images.debian == pinned


def test_what_ssh_is_not_told_stays_open() -> None:
    inv = inventory()
    ssh = inv.ssh_for(inv.first_db)
    assert (ssh.host, ssh.port, ssh.user, ssh.key, ssh.jump, ssh.known_hosts) == (None,) * 6
    assert (ssh.connect_timeout, ssh.sudo) == (10, True)


def test_a_hosts_ssh_settings_win_over_the_common_ones(tmp_path: Path) -> None:
    text = """
cluster: {name: keybuzz}
ssh: {user: admin, port: 2222, key: keys/id, jump: "ops@bastion.example:2200", known_hosts: ~/kh, sudo: true}
db:
  - {name: a, address: 10.0.0.1, ssh: {host: a.example, port: 22, user: root, key: /k, jump: b, sudo: false}}
  - {name: b, address: 10.0.0.2}
  - {name: c, address: 10.0.0.3, ssh: {known_hosts: kh, connect_timeout: 2.5}}
proxies: [{name: d, address: 10.0.0.4}]
"""
    inv = parse(text, tmp_path / "inventory.yaml")
    a, b, c = (inv.ssh_for(host) for host in inv.db)
    assert (a.host, a.port, a.user, a.key, a.jump, a.sudo) == (
        "a.example",
        22,
        "root",
        Path("/k"),
        "b",
        False,
    )
    assert (b.host, b.port, b.user, b.sudo) == (None, 2222, "admin", True)
    assert b.key == tmp_path / "keys/id"
    assert b.jump == "ops@bastion.example:2200"
    assert b.known_hosts == Path.home() / "kh"
    assert c.known_hosts == tmp_path / "kh"
    assert c.connect_timeout == 2.5


ONE, TWO = (f"SHA256:{letter * 42}{last}" for letter, last in ("AA", "/8"))


def test_fingerprints_are_one_or_a_list_and_belong_to_their_jump_host() -> None:
    text = f"""\
cluster: {{name: t}}
ssh: {{jump: bastion.example, jump_fingerprint: {ONE}}}
db:
  - {{name: a, address: 10.0.0.1, ssh: {{fingerprint: {ONE}}}}}
  - {{name: b, address: 10.0.0.2, ssh: {{fingerprint: [{ONE}, "{TWO}"], jump: other.example}}}}
  - {{name: c, address: 10.0.0.3, ssh: {{jump: other.example, jump_fingerprint: [{TWO}]}}}}
proxies:
  - {{name: d, address: 10.0.0.4, ssh: {{fingerprint: {TWO}}}}}
"""
    inv = parse(text, "inventory.yaml")
    pins = {host.name: inv.ssh_for(host) for host in inv.hosts}
    assert {name: (ssh.fingerprints, ssh.jump_fingerprints) for name, ssh in pins.items()} == {
        "a": ((ONE,), (ONE,)),
        "b": ((ONE, TWO), ()),
        "c": ((), (TWO,)),
        "d": ((TWO,), (ONE,)),
    }


def test_paths_start_at_the_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "inv.yaml"
    file.write_text(f"cluster: {{name: keybuzz}}\nbuild: {{ca_bundle: ca.pem, wheels: /wheels}}\n{HOSTS}")
    monkeypatch.chdir(tmp_path)
    inv = load("sub/inv.yaml")
    assert inv.path == Path("sub/inv.yaml")
    assert inv.directory == tmp_path / "sub"
    assert inv.credentials_path == tmp_path / "sub/credentials/postgres.env"
    assert inv.ca_bundle_path == tmp_path / "sub/ca.pem"
    assert inv.wheels_path == Path("/wheels")
    assert inventory().ca_bundle_path is None
    assert inventory("credentials: ~/pg.env").credentials_path == Path.home() / "pg.env"


def test_a_missing_file_and_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given, said in (("nowhere.yaml", "nowhere.yaml: no such file"), (".", ".: is a directory")):
        with pytest.raises(InventoryError) as caught:
            load(given)
        assert caught.value.lines() == [said, "hint: name the inventory with -i PATH"]
        assert caught.value.exit_code is Exit.INPUT


def test_an_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text("cluster: {name: keybuzz}")
    file.chmod(0)
    code = (
        "import os, sys\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.stdout.write(chr(10).join(problems(sys.argv[1])))\n"
    )
    # The packages are loaded while they can be read; only the file is opened as somebody else.
    prelude = (
        "from kbpg.errors import InventoryError\nfrom kbpg.inventory import load\n"
        "def problems(p):\n    try: load(p)\n    except InventoryError as e: return e.problems\n    return ['read']\n"
    )
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", prelude + code, os.fspath(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == f"{file}: cannot be read: permission denied"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(InventoryError, match="too many for an inventory"):
        load("/dev/zero")


@pytest.mark.parametrize(
    ("version", "fine"),
    [("3.3.5", False), ("3.3.6", True), ("3.3.11", True), ("4.0.0", True), ("4.1.5", True), ("5.0.0", False)],
)
def test_versions_of_patroni(version: str, fine: bool) -> None:
    if fine:
        assert inventory(f"versions: {{patroni: {version}}}").versions.patroni == version
    else:
        assert problems(f"versions: {{patroni: {version}}}")


@pytest.mark.parametrize(
    ("timers", "fine"),
    [
        ("{ttl: 20, loop_wait: 6, retry_timeout: 7}", True),
        ("{ttl: 20, loop_wait: 6, retry_timeout: 8}", False),
        ("{ttl: 20, loop_wait: 7, retry_timeout: 3}", False),
        ("{ttl: 20, loop_wait: 11, retry_timeout: 5}", False),
        ("{ttl: 60, loop_wait: 26, retry_timeout: 3}", True),
        ("{ttl: 60, loop_wait: 27, retry_timeout: 3}", False),
        ("{ttl: 30, loop_wait: 10, retry_timeout: 10}", True),
        ("{ttl: 20, loop_wait: 1, retry_timeout: 3}", True),
        ("{ttl: 19, loop_wait: 1, retry_timeout: 3}", False),
    ],
)
def test_timers_at_their_bounds(timers: str, fine: bool) -> None:
    if fine:
        assert inventory(f"timers: {timers}").timers.ttl >= 20
    else:
        assert len(problems(f"timers: {timers}")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "versions: {pgvector: 0.8.2}\npostgresql: {parameters: {max_parallel_maintenance_workers: 4}}",
        "postgresql: {parameters: {max_parallel_maintenance_workers: 0}}",
        "cluster: {name: k, synchronous: off}\npostgresql: {parameters: {synchronous_commit: off}}",
        "postgresql: {parameters: {synchronous_commit: remote_apply}}",
        "postgresql: {parameters: {max_wal_senders: 3, max_locks_per_transaction: 256}}",
        "postgresql: {parameters: {wal_level: logical}}",
        "postgresql: {parameters: {wal_level: replica}}",
        "ports: {postgresql: 6432, pgbouncer: 8008}",
        "cluster: {name: k, superuser: postgres, load_balancer: db.example.com}",
        "cluster: {name: k, base_dir: /srv/pg/cluster-1}",
        'cluster: {name: k, load_balancer: "2001:db8::1"}',
        "haproxy: {memory_limit: 640MB}\npgbouncer: {memory_limit: 228MB}",
        *(
            f"haproxy: {{max_connections: 1000000, memory_limit: {limit}}}\n"
            f"pgbouncer: {{max_client_connections: 1000000, memory_limit: {limit}}}"
            for limit in ("null", "0")
        ),
    ],
)
def test_what_a_rule_must_not_refuse(text: str) -> None:
    assert inventory(text).hosts


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("minimal", 'got "minimal": replicas could not follow'),
        ("hot_standby", 'got "hot_standby"'),  # an old word for replica, which PostgreSQL shows as replica
        ("LOGICAL", 'got "LOGICAL"'),  # so that it is written as PostgreSQL shows it
        ("2", "got 2"),
    ],
)
def test_replicas_and_patroni_need_a_level_of_wal(value: str, why: str) -> None:
    where = "inventory.yaml:2: postgresql.parameters.wal_level"
    found = problems(f"postgresql: {{parameters: {{wal_level: {value}}}}}")
    assert found == [f"{where}: wanted replica or logical, {why}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("haproxy: {memory_limit: 639MB}", "wanted 640MB or more for max_connections (5000), got 639MB"),
        (
            "haproxy: {max_connections: 10, memory_limit: 1MB}",
            "wanted 130MB or more for max_connections (10), got 1MB",
        ),
        (
            "pgbouncer: {memory_limit: 227MB}",
            "wanted 228MB or more for max_client_connections (2000) and pools, got 227MB",
        ),
        (
            "pgbouncer: {memory_limit: 228MB}\ndatabases: [{name: shop, pool_size: 100}]",
            "wanted 241MB or more for max_client_connections (2000) and pools, got 228MB",
        ),
    ],
)
def test_a_limit_of_memory_has_room_for_all_connections(text: str, found: str) -> None:
    """64 MB for the program and 52 kB a connection, both twice, of HAProxy; 64 MB and 64 kB of PgBouncer."""
    where = f"inventory.yaml:2: {text.split(':')[0]}.memory_limit"
    hint = "give more memory, accept fewer connections, or leave it out, which is enough; 0 is no limit"
    assert problems(text) == [f"{where}: {found}: {hint}"]


def test_two_mistakes_in_one_section_are_both_named() -> None:
    assert problems("ports: {stats: 80, replicas: 5432}") == [
        "inventory.yaml:2: ports.replicas: 5432 is also ports.primary, both are on the proxies",
        "inventory.yaml:2: ports.stats: wanted 1024 or more, got 80 "
        "(HAProxy's statistics and metrics, on the proxies)",
    ]


def test_small_readers() -> None:
    assert split_jump("root@bastion:2222") == ("root", "bastion", 2222)
    assert split_jump("bastion") == (None, "bastion", None)
    assert split_jump("u@[2001:db8::1]:22") == ("u", "2001:db8::1", 22)
    assert version_tuple("3.3.11") > version_tuple("3.3.6")
    assert [human_size(size) for size in (0, 1000, 1024, 16 * 1024**2, 1024**4)] == [
        "0",
        "1000",
        "1kB",
        "16MB",
        "1TB",
    ]
