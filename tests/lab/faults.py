"""Faults made for real on lab hosts, and how each is undone: by hand, or by `kbpg diagnose --repair --yes`.

Every fault is a function that takes the lab, does the damage and returns the place that the finding is about.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from tests.lab.conftest import DB, Lab

from kbpg.pki import Names, issuing
from kbpg.pki.completing import HOST_USAGES
from kbpg.pki.reading import Purpose

PGDATA = "/opt/keybuzz/postgres/data/pgdata"
HAPROXY_CFG = "/opt/keybuzz/haproxy/haproxy.cfg"
PGBOUNCER_INI = "/opt/keybuzz/pgbouncer/pgbouncer.ini"
TLS = "/opt/keybuzz/pgbouncer/tls"
CLUSTER, CONTROLLER = "cluster", "controller"

Make = Callable[[Lab], str]
Undo = Callable[[Lab, str], object]


@dataclass(frozen=True)
class Fault:
    """`make` causes it (`how`, in words) and returns the host of the finding `id`.

    `undo` is None where kbpg mends it itself; `after` puts away what a repair leaves. `explains` is a finding that
    must be named as what follows.
    """

    id: str
    severity: str
    how: str
    make: Make
    undo: Undo | None = None
    after: Undo | None = None
    explains: str = ""

    @property
    def code(self) -> int:
        return {"critical": 1, "warning": 3}[self.severity]

    def __str__(self) -> str:
        return f"{self.id} {self.make.__name__}".removesuffix(" <lambda>").strip()


# --- the lab, asked and told -------------------------------------------------------------------------------


def replica(lab: Lab) -> str:
    return next(host for host in reversed(DB) if host != lab.leader())


def on(host: str, script: str) -> Make:
    """Return a fault that is a script on one host."""

    def make(lab: Lab) -> str:
        lab.sh(host, script)
        return host

    make.__name__ = ""
    return make


def back(script: str, where: str = "") -> Undo:
    """Return what undoes a fault by a script on the finding's host, or on `where`."""
    return lambda lab, host: lab.sh(where or host, script)


def psql(lab: Lab, host: str, query: str, database: str = "postgres") -> str:
    """Ask a node's own PostgreSQL over its socket, as the container's user."""
    command = "docker exec -i -u 999 patroni psql -v ON_ERROR_STOP=1 -h /var/run/postgresql -U kb_admin"
    return lab.sh(host, f"{command} -d {database} -Atq <<'SQL'\n{query}\nSQL").strip()


def on_leader(query: str, database: str = "postgres") -> Make:
    """Return a fault of the whole cluster that is a query on the leader."""

    def make(lab: Lab) -> str:
        psql(lab, lab.leader(), query, database)
        return CLUSTER

    make.__name__ = ""
    return make


def back_on_leader(query: str, database: str = "postgres") -> Undo:
    return lambda lab, _: psql(lab, lab.leader(), query, database)


def pooler(lab: Lab, proxy: str, command: str) -> None:
    """Say something on PgBouncer's console."""
    script = 'sed -n \'s/^"pgbouncer_auth" "\\(.*\\)"$/\\1/p\' /opt/keybuzz/pgbouncer/userlist.txt'
    with psycopg.connect(
        host=lab.addresses[proxy],
        port=6432,
        dbname="pgbouncer",
        user="pgbouncer_auth",
        password=lab.sh(proxy, script).strip(),
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=5,
    ) as console:
        console.execute(command.encode())


def cut(*rules: str) -> str:
    """Return the script that drops packets: a cut cable is silence, not a refusal."""
    return "; ".join(f"iptables -I {rule} -j DROP" for rule in rules)


MENDED_CABLE = "iptables -F INPUT; iptables -F OUTPUT"
RAFT = tuple(f"{chain} -i eth0 -p tcp --{side}port 7000" for chain in ("INPUT",) for side in ("s", "d"))


# --- hosts -------------------------------------------------------------------------------------------------

SLOW_CLOCK = (
    'printf \'#!/bin/sh\\nexec /usr/bin/date -d "5 seconds ago" "$@"\\n\' > /usr/local/bin/date;'
    " chmod 755 /usr/local/bin/date"
)
FULL_DISK = (
    "mkdir -p /mnt/small && mount -t tmpfs -o size=16m tmpfs /mnt/small && cp -a /opt/keybuzz/. /mnt/small/"
    " && mount --bind /mnt/small /opt/keybuzz && fallocate -l 15m /mnt/small/core"
)
TAKEN_PORT = (
    "docker stop -t 1 haproxy && /usr/sbin/sshd -p 5432 -o PidFile=/run/taken.pid && docker start haproxy;"
    " sleep 1"
)


# --- containers --------------------------------------------------------------------------------------------


def by_hand(lab: Lab) -> str:
    """HAProxy as somebody starts it by hand: the same image and directory, without kbpg."""
    lab.sh(
        "haproxy-02",
        "i=$(docker inspect -f '{{.Image}}' haproxy) && docker rm -f haproxy && docker run -d --name haproxy"
        " --network host -v /opt/keybuzz/haproxy:/etc/haproxy:ro --restart unless-stopped $i",
    )
    return "haproxy-02"


def permissions(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, f"chmod 0777 {PGDATA}; docker restart -t 10 patroni")
    return host


# --- Raft --------------------------------------------------------------------------------------------------


def isolated(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, cut(*RAFT))
    return host


RAFT_LOG = "/opt/keybuzz/postgres/raft/*.journal"
EMPTY = f"truncate -s 0 {RAFT_LOG}"
ZEROS = f"for each in {RAFT_LOG}; do dd if=/dev/zero of=$each bs=1 seek=40 count=4056 conv=notrunc; done"
"""A page of zeros from the first record on: the header of 40 bytes is whole (pysyncobj/journal.py)."""


def raft_log(damage: str, host: str = "") -> Make:
    """Return the fault that a host's Raft log is damaged while Patroni is down, a replica's where none is named."""

    def make(lab: Lab) -> str:
        where = host or replica(lab)
        lab.sh(where, f"docker stop -t 30 patroni; {damage}; docker start patroni")
        return where

    make.__name__ = "raft_log"
    return make


def without_quorum(lab: Lab) -> str:
    for host in DB[:2]:
        lab.sh(host, cut(*RAFT))
    return CLUSTER


def everywhere(script: str, hosts: tuple[str, ...] = DB) -> Undo:
    return lambda lab, _: lab.everywhere(script, hosts)


def syncobj(lab: Lab, host: str, command: str) -> str:
    script = (
        "p=$(sed -n '/^raft:/,/^postgresql:/s/^ *password: \"\\(.*\\)\"$/\\1/p' /opt/keybuzz/patroni/secrets.yml);"
        f' timeout 10 docker exec patroni syncobj_admin -conn {lab.addresses[host]}:7000 -pass "$p" {command}'
    )
    return lab.sh(host, script)


def ghost(lab: Lab) -> str:
    """A member that does not exist: an address where nobody listens."""
    syncobj(lab, lab.leader(), f"-add {lab.addresses['haproxy-01']}:7000")
    return CLUSTER


def two_cut_apart(lab: Lab) -> str:
    """The two followers do not reach each other; both reach Raft's leader.

    The one with the higher address dials, and so is the one that notices: the finding names the other.
    """
    said = syncobj(lab, DB[0], "-status")
    leader = next(line.split()[-1] for line in said.splitlines() if line.startswith("leader:"))
    first, second = (host for host in DB if not leader.startswith(lab.addresses[host]))
    for host, other in ((first, second), (second, first)):
        lab.sh(host, cut(*(f"{rule} -s {lab.addresses[other]}" for rule in RAFT)))
    return first


# --- what is in PostgreSQL ---------------------------------------------------------------------------------


def older_on_disk(lab: Lab) -> str:
    """A replica whose image lacks the wanted version's script."""
    host = replica(lab)
    lab.sh(
        host,
        past_read_only(
            "cd /usr/lib/postgresql/16/share/*/extension 2>/dev/null ||"
            " cd $(dirname $(find / -xdev -name vector.control 2>/dev/null | head -1)); pwd > /var/tmp/where;"
            " mkdir -p /var/tmp/away && mv vector--0.8.1.sql vector--*--0.8.1.sql /var/tmp/away/"
        ),
    )
    return host


def past_read_only(script: str) -> str:
    """Return the command with which the host's root changes files of Patroni's container, past its read-only root.

    From the host's own namespaces: in the container nobody has the capability to mount anything.
    """
    change = f"mount -o remount,bind,rw / && {{ {script}; }} && mount -o remount,bind,ro /"
    pid = "$(docker inspect -f '{{.State.Pid}}' patroni)"
    return f"nsenter --target {pid} --mount --pid sh -c {shlex.quote(change)}"


PUT_BACK = past_read_only("mv /var/tmp/away/* $(cat /var/tmp/where)/")


# --- proxies -----------------------------------------------------------------------------------------------


def edited(path: str, change: str, reload: str) -> str:
    return f"sed -i '{change}' {path} && {reload}"


RELOAD_HAPROXY = "docker exec haproxy sh -c 'kill -USR2 1'"  # `docker kill` would be a stop by hand
RELOAD_PGBOUNCER = "docker exec pgbouncer sh -c 'kill -HUP 1'"


def paused(lab: Lab) -> str:
    pooler(lab, "haproxy-01", "PAUSE")
    return "haproxy-01"


def past_haproxy(lab: Lab) -> str:
    """PgBouncer sent straight to a node, which leads or does not."""
    change = f"s/host=.127.0.0.1,[0-9.]*./host={lab.addresses['db-slave-01']}/"
    return on("haproxy-01", edited(PGBOUNCER_INI, change, RELOAD_PGBOUNCER))(lab)


class Crowd:
    """More clients than the pool of the superuser (10) has servers, each with a long query."""

    def __init__(self) -> None:
        self.clients: list[psycopg.Connection[Any]] = []

    def make(self, lab: Lab) -> str:
        for number in range(13):
            client = lab.connect("haproxy-01", 6432, admin=True, dbname="postgres")
            self.clients.append(client)
            if number < 12:
                client.pgconn.send_query(b"select pg_sleep(30)")
        return "haproxy-01"

    def undo(self, lab: Lab, _: str) -> None:
        psql(
            lab,
            lab.leader(),
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(30)%'"
            " and pid <> pg_backend_pid()",
        )
        for client in self.clients:
            client.close()
        self.clients.clear()


def credentials_open(lab: Lab) -> str:
    Path(lab.directory / "credentials" / "postgres.env").chmod(0o644)
    return CONTROLLER


def soon_expired(lab: Lab) -> str:
    """Replace a proxy's certificate with one that nobody else would issue, and that ends in ten days."""
    host, now = "haproxy-02", datetime.now(UTC)
    key = issuing.new_key()
    made = issuing.leaf(
        key,
        host,
        Purpose(Names.of([host]), HOST_USAGES),
        issuing.authority(key, "a fault", now),
        key,
        now + timedelta(days=10, hours=12) + issuing.BACKDATED - issuing.LEAF_LIFE,
    )
    pem = issuing.certificate_pem(made).decode()
    lab.sh(
        host,
        f"mkdir -p {TLS}; [ ! -e {TLS}/server.crt ] || mv {TLS}/server.crt {TLS}/server.away;"
        f" printf %s '{pem}' > {TLS}/server.crt; chmod 0600 {TLS}/server.crt; chown 999:999 {TLS}/server.crt",
    )
    return host


CERTIFICATE_BACK = (
    f"rm {TLS}/server.crt; [ ! -e {TLS}/server.away ] || mv {TLS}/server.away {TLS}/server.crt;"
    f" rmdir {TLS} || true"
)

crowd = Crowd()
