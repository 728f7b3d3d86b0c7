"""A cluster as somebody builds it by hand, with `docker run` and configuration of their own; kbpg never saw it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
import yaml
from tests.lab.conftest import DB, PROXIES, Lab

SUPER, APP, REPLICATION, REWIND = "hand-super-1", "hand-app-22", "hand-repl-333", "hand-rewind-4"
RAFT, REST = "hand-raft-55555", "hand-rest-66666"
FOUR = f"POSTGRES_SUPERUSER=kb_admin\nPOSTGRES_SUPERPASS={SUPER}\nPOSTGRES_APP_USER=kb_app\nPOSTGRES_APP_PASS={APP}\n"
"""The mission's four names, and no other."""
HAPROXY = """\
global
    maxconn 500
defaults
    mode tcp
    timeout connect 3s
    timeout client 1h
    timeout server 1h
listen pg
    bind *:5432
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server check port 8008 inter 1s fall 2 rise 2 on-marked-down shutdown-sessions
"""
PGBOUNCER = """\
[databases]
* = host=127.0.0.1 port=5432
[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
server_login_retry = 1
"""


def patroni_yml(lab: Lab, host: str) -> dict[str, object]:
    """Return a configuration in one file: other timers, other REST user, wide pg_hba, passwords inside."""
    at = lab.addresses
    return {
        "scope": "keybuzz",
        "name": host,
        "restapi": {
            "listen": f"{at[host]}:8008",
            "connect_address": f"{at[host]}:8008",
            "authentication": {"username": "operator", "password": REST},
        },
        "raft": {
            "self_addr": f"{at[host]}:7000",
            "bind_addr": f"{at[host]}:7000",
            "partner_addrs": [f"{at[other]}:7000" for other in DB if other != host],
            "data_dir": "/var/lib/raft",
            "password": RAFT,
        },
        "bootstrap": {
            "dcs": {
                "ttl": 30,
                "loop_wait": 10,
                "retry_timeout": 10,
                "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 100}},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": f"{at[host]},127.0.0.1:5432",
            "connect_address": f"{at[host]}:5432",
            "data_dir": "/var/lib/postgresql/data/pgdata",
            "bin_dir": "/usr/lib/postgresql/16/bin",
            "pgpass": "/tmp/pgpass",
            "parameters": {"unix_socket_directories": "/tmp"},
            "pg_hba": [
                "local all all trust",
                "host replication replicator 0.0.0.0/0 scram-sha-256",
                "host all all 0.0.0.0/0 scram-sha-256",
            ],
            "authentication": {
                "superuser": {"username": "kb_admin", "password": SUPER},
                "replication": {"username": "replicator", "password": REPLICATION},
                "rewind": {"username": "rewind_user", "password": REWIND},
            },
        },
    }


def _put(lab: Lab, host: str, path: str, text: str, owner: str = "999:999") -> None:
    lab.sh(host, f"mkdir -p $(dirname {path}) && cat >{path} <<'END'\n{text}\nEND\nchown {owner} {path}")


def start_node(lab: Lab, host: str) -> None:
    """Start Patroni by `docker run`, with one configuration file, on the data directories."""
    _put(lab, host, "/opt/keybuzz/patroni/patroni.yml", yaml.safe_dump(patroni_yml(lab, host)))
    lab.sh(
        host,
        "cd /opt/keybuzz && mkdir -p postgres/data postgres/raft && chown 999:999 postgres/data postgres/raft"
        " && chmod 0700 postgres/data && docker run -d --name patroni --network host --restart always"
        # the image's own label would tell of kbpg
        " --label kbpg.inputs= --shm-size 256m"
        " -v /opt/keybuzz/postgres/data:/var/lib/postgresql/data -v /opt/keybuzz/postgres/raft:/var/lib/raft"
        " -v /opt/keybuzz/patroni/patroni.yml:/etc/patroni.yml:ro"
        " patroni-pg16-raft:latest patroni /etc/patroni.yml",
    )


def start_proxy(lab: Lab, host: str) -> None:
    """Start HAProxy and PgBouncer by `docker run`."""
    servers = "".join(f"    server {name} {lab.addresses[name]}:5432\n" for name in DB)
    _put(lab, host, "/opt/keybuzz/haproxy/haproxy.cfg", HAPROXY + servers)
    _put(lab, host, "/opt/keybuzz/pgbouncer/pgbouncer.ini", PGBOUNCER)
    users = f'"kb_admin" "{SUPER}"\n"kb_app" "{APP}"'
    _put(lab, host, "/opt/keybuzz/pgbouncer/userlist.txt", users)
    lab.sh(
        host,
        "docker run -d --name haproxy --network host --restart always --label kbpg.inputs="
        " -v /opt/keybuzz/haproxy:/etc/haproxy:ro kbpg-haproxy:latest haproxy -W -db -f /etc/haproxy/haproxy.cfg"
        " && docker run -d --name pgbouncer --network host --restart always --label kbpg.inputs="
        " -v /opt/keybuzz/pgbouncer:/etc/pgbouncer:ro kbpg-pgbouncer:latest pgbouncer /etc/pgbouncer/pgbouncer.ini",
    )


def sql(lab: Lab, statement: str, database: str = "postgres") -> str:
    """Run a statement on the leader, over its socket."""
    command = "docker exec -i -u 999 patroni psql -v ON_ERROR_STOP=1 -h /tmp -U kb_admin"
    return lab.sh(lab.leader(), f"{command} -d {database} -Atq <<'SQL'\n{statement}\nSQL").strip()


def build(lab: Lab) -> None:
    """Build the cluster on bare hosts (with images), and leave a credentials file of four names."""
    start_node(lab, DB[0])

    def leads() -> bool:
        with suppress(OSError, AssertionError, KeyError):
            return lab.leader() in DB
        return False

    for host in DB[1:]:
        start_node(lab, host)
    lab.until(leads, 60, "a leader")
    lab.await_whole(deadline=90, synchronous=False)
    sql(lab, f"create role kb_app login password '{APP}'")
    sql(lab, "create database keybuzz owner kb_app")
    for host in PROXIES:
        start_proxy(lab, host)
    path = lab.directory / "credentials" / "postgres.env"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(FOUR)
    path.chmod(0o600)


def rest_states(lab: Lab) -> dict[str, bool]:
    """Return whether each node's Patroni answers."""
    found = {}
    for host in DB:
        try:
            found[host] = bool(lab.rest(host))
        except OSError:
            found[host] = False
    return found


@dataclass
class Writer:
    """One client that writes rows through a proxy one after another; after an error it connects again."""

    lab: Lab
    proxy: str = "haproxy-01"
    port: int = 6432
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    away: list[tuple[float, list[str]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def longest_gap(self) -> float:
        """Return the longest time between two acknowledged writes, in seconds."""
        times = [at for at, _ in self.acknowledged]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def gaps(self, over: float) -> list[tuple[float, float]]:
        """Return when gaps longer than `over` seconds began, since the first write, and how long they were."""
        times = [at for at, _ in self.acknowledged]
        return [(a - times[0], b - a) for a, b in itertools.pairwise(times) if b - a > over]

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Write, and watch which Patronis answer, while the block runs."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._watch)]
        for thread in threads:
            thread.start()
        try:
            self.lab.until(lambda: len(self.acknowledged) > 10, 30, "the client writes")
            yield self
            count = len(self.acknowledged)
            self.lab.until(lambda: len(self.acknowledged) > count + 10, 30, "the client writes afterwards")
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(20)

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with self._connection() as connection:
                    while not self._stop.is_set():
                        number += 1
                        connection.execute("insert into written values (%s)", (number,))
                        self.acknowledged.append((time.monotonic(), number))
                        self._stop.wait(0.01)
            except psycopg.Error:
                self._stop.wait(0.05)

    def _connection(self) -> psycopg.Connection[object]:
        return psycopg.connect(
            host=self.lab.addresses[self.proxy],
            port=self.port,
            dbname="keybuzz",
            user="kb_app",
            password=self.lab.credentials["POSTGRES_APP_PASS"],
            connect_timeout=3,
            autocommit=True,
            prepare_threshold=None,
        )

    def _watch(self) -> None:
        while not self._stop.is_set():
            away = [host for host, there in rest_states(self.lab).items() if not there]
            if away:
                self.away.append((time.monotonic(), away))
            self._stop.wait(0.2)

    def lost(self) -> set[int]:
        """Return the acknowledged rows that are not there."""
        with self._connection() as connection:
            rows = {int(row[0]) for row in connection.execute("select n from written").fetchall()}  # type: ignore[index]
        return {number for _, number in self.acknowledged} - rows

    def together_away(self) -> list[list[str]]:
        """Return the looks that found more than one Patroni away."""
        return [hosts for _, hosts in self.away if len(hosts) > 1]

    def summary(self) -> str:
        """Return what was measured, for the test's output."""
        gaps = "; ".join(f"{length:.2f} s at {at:.0f} s" for at, length in self.gaps(0.8))
        return json.dumps(
            {"rows": len(self.acknowledged), "longest": round(self.longest_gap, 2), "gaps": gaps}
        )
