"""Faults of Patroni and of replication, made for real on lab hosts."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.conftest import DB, PROXIES, REST, Lab
from tests.lab.faults import (
    CLUSTER,
    HAPROXY_CFG,
    MENDED_CABLE,
    PGDATA,
    RAFT,
    Make,
    cut,
    past_read_only,
    pooler,
    psql,
    replica,
)

PAUSED = {"pause": True}
_SECRETS = "/opt/keybuzz/patroni/secrets.yml"
REST_PASSWORD = f"p=$(sed -n '/^restapi:/,/^raft:/s/^ *password: \"\\(.*\\)\"$/\\1/p' {_SECRETS})"


# --- Patroni's REST API, spoken to as an operator does ------------------------------------------------------


def ask(lab: Lab, host: str, method: str, path: str, body: dict[str, Any]) -> str:
    """Ask the host's Patroni for a change with curl; the password stays on the host."""
    return lab.sh(
        host,
        f"{REST_PASSWORD}; curl -sf --max-time 30 -K - -X {method} -d '{json.dumps(body)}'"
        f' {lab.curl(host, REST, path)} <<EOF\nuser = "kbpg:$p"\nEOF\n',
    )


def configured(change: dict[str, Any]) -> Make:
    """Return a fault that is a PATCH of Patroni's dynamic configuration."""

    def make(lab: Lab) -> str:
        ask(lab, lab.leader(), "PATCH", "/config", change)
        return CLUSTER

    make.__name__ = ""
    return make


def parameters(**values: Any) -> dict[str, Any]:
    return {"postgresql": {"parameters": values}}


def paused(lab: Lab) -> None:
    ask(lab, lab.leader(), "PATCH", "/config", PAUSED)
    lab.until(lambda: all(lab.rest(host).get("pause") for host in DB), 15, "all nodes paused")


def resumed(lab: Lab, _: str = "") -> None:
    answering = next(host for host in DB if _leads(lab, host))
    ask(lab, answering, "PATCH", "/config", {"pause": None})


def switched_over(lab: Lab) -> str:
    """Another node leads; return which."""
    old = lab.leader()
    new = next(host for host in DB if host not in (old, replica(lab)))
    ask(lab, old, "POST", "/switchover", {"leader": old, "candidate": new})
    lab.until(lambda: _leads(lab, new), 30, f"{new} leads")
    return new


def _leads(lab: Lab, host: str) -> bool:
    try:
        return lab.rest(host)["role"] in ("primary", "master")
    except OSError:
        return False


# --- Patroni -----------------------------------------------------------------------------------------------


def second_primary(lab: Lab) -> str:
    """A replica promoted by hand while Patroni is paused; it takes a write of its own."""
    host = replica(lab)
    paused(lab)
    psql(lab, host, "select pg_promote()")
    psql(lab, host, "create table if not exists of_the_second (n int)")
    return CLUSTER


def no_leader(lab: Lab) -> str:
    """PostgreSQL ended by hand on the leader while Patroni is paused: nobody takes over."""
    leader = lab.leader()
    paused(lab)
    lab.sh(leader, "docker exec -u 999 patroni pg_ctl -D /var/lib/postgresql/data/pgdata -m fast stop")
    return CLUSTER


def patroni(signal: str) -> str:
    return f"kill -{signal} $(pgrep -f '[b]in/patroni /etc/patroni' | head -1)"


def stopped_patroni(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, patroni("STOP"))
    return host


def postgres_down(lab: Lab) -> str:
    host = replica(lab)
    paused(lab)
    lab.sh(host, "docker exec -u 999 patroni pg_ctl -D /var/lib/postgresql/data/pgdata -m fast stop")
    return host


def deaf_raft(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, cut("INPUT -i lo -p tcp --dport 7000"))
    return host


def stale_view(lab: Lab) -> str:
    """A replica whose member of Raft is cut off while another node becomes the leader."""
    host = replica(lab)
    lab.sh(host, cut(*RAFT))
    switched_over(lab)
    return host


def raft_password(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, _other_password("^raft:", "^postgresql:"))
    return host


def _other_password(first: str, last: str) -> str:
    """Return the script that puts another password into a section of Patroni's file of secrets."""
    return (
        f'sed -i \'/{first}/,/{last}/s/^\\( *password: \\)".*"/\\1"another"/\' {_SECRETS}'
        " && docker restart -t 30 patroni"
    )


def pending_restart(lab: Lab) -> str:
    """A parameter that was changed, put in force by a restart, and changed back: nothing differs, but it waits."""
    leader, host = lab.leader(), replica(lab)
    known = json.loads(lab.sh(leader, f"curl -s {lab.curl(leader, REST, '/config')}"))
    before = known["postgresql"]["parameters"]["shared_buffers"]
    configured(parameters(shared_buffers="128MB"))(lab)
    lab.until(lambda: all(lab.rest(host).get("pending_restart") for host in DB), 30, "a restart pending")
    ask(lab, host, "POST", "/restart", {})
    lab.until(lambda: not lab.rest(host).get("pending_restart"), 30, "restarted")
    configured(parameters(shared_buffers=before))(lab)
    lab.until(lambda: bool(lab.rest(host).get("pending_restart")), 30, "a restart pending again")
    return host


# --- replication -------------------------------------------------------------------------------------------


def replication_password(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(host, _other_password("^    replication:", "^    rewind:"))
    return host


def no_way_to_the_leader(lab: Lab) -> str:
    """Packets between a replica and the leader's PostgreSQL are lost; both give up the old connection."""
    host, leader = replica(lab), lab.leader()
    address = lab.addresses[leader]
    lab.sh(host, cut(f"OUTPUT -p tcp -d {address} --dport 5432", f"INPUT -p tcp -s {address} --sport 5432"))
    end = "select pg_terminate_backend(pid) from pg_stat_{} where {} = '{}'"
    psql(lab, leader, end.format("replication", "application_name", host))
    psql(lab, host, end.format("activity", "backend_type", "walreceiver"))
    return host


def wal_removed(lab: Lab) -> str:
    """A replica that was away while the leader, told to keep nothing for it, wrote on."""
    host, leader = replica(lab), lab.leader()
    lab.sh(host, "docker stop -t 30 patroni")
    psql(lab, leader, "alter system set wal_keep_size = 0;\nselect pg_reload_conf()")
    on = "select pg_logical_emit_message(true, 'x', 'x') is null;\nselect pg_switch_wal() is null"
    slot = host.replace("-", "_")
    # A slot that Patroni makes anew in between begins at the first checkpoint, which is late enough
    psql(
        lab,
        leader,
        f"{on};\n{on};\ncheckpoint;\nselect pg_drop_replication_slot('{slot}');\n{on};\n{on};\ncheckpoint",
    )
    psql(lab, leader, "alter system reset wal_keep_size;\nselect pg_reload_conf()")
    lab.sh(host, "docker start patroni")
    return host


def diverged(lab: Lab) -> str:
    """A replica that was promoted by hand, wrote on, and has lost the log that pg_rewind needs."""
    host = replica(lab)
    paused(lab)
    psql(lab, host, "select pg_promote()")
    on = "select pg_logical_emit_message(true, 'x', 'x') is null;\nselect pg_switch_wal() is null"
    psql(lab, host, f"{on};\n{on};\n{on};\ncheckpoint")
    lab.sh(
        host,
        f"docker stop -t 30 patroni; cd {PGDATA}/pg_wal && ls | grep -E '^[0-9A-F]{{24}}$' | sort"
        " | head -n -1 | xargs rm -f",
    )
    resumed(lab)
    lab.sh(host, "docker start patroni")
    return host


def slots_taken(lab: Lab) -> str:
    """The leader has no room for a replica's slot: those of somebody else, which Patroni ignores, have taken it."""
    host, leader = replica(lab), lab.leader()
    paused(lab)
    lab.sh(host, "docker stop -t 30 patroni")
    slot = host.replace("-", "_")
    room = "current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots)::int"
    create = "select pg_create_physical_replication_slot('other_' || n) from generate_series({}) n;\n"
    drop = f"select pg_drop_replication_slot('{slot}');\n"
    psql(lab, leader, create.format(f"1, {room}") + drop + create.format("0, 0"))
    # Paused, Patroni starts no PostgreSQL and drops no slot; resumed, it would drop those of nobody
    others = [{"name": f"other_{n}", "type": "physical"} for n in range(20)]
    ask(lab, leader, "PATCH", "/config", {"ignore_slots": others, "pause": None})
    lab.sh(host, "docker start patroni")
    return host


def slots_freed(lab: Lab, _: str = "") -> None:
    drop = (
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'other_%'"
    )
    psql(lab, lab.leader(), drop)
    configured({"ignore_slots": None})(lab)


def as_found(lab: Lab) -> None:
    """Take back what a fault that failed half-way left, and what no run of kbpg takes back."""
    woken = f"{patroni('CONT')} 2>/dev/null; {startup_process('CONT')} 2>/dev/null"
    lab.everywhere(f"{MENDED_CABLE}; {woken}; docker start patroni; true", DB)
    lab.everywhere(f"{MENDED_CABLE}; {WITHOUT_SYSTEMCTL}", PROXIES)
    lab.until(lambda: all(_answers(lab, host) for host in DB), 60, "Patroni answers everywhere")
    for host in DB:
        let_in(lab, host)
    lab.sh(DB[0], "docker exec patroni patronictl resume; true")
    lab.until(lambda: not any(lab.rest(host).get("pause") for host in DB), 15, "no pause")
    slots_freed(lab)


def _answers(lab: Lab, host: str) -> bool:
    try:
        return bool(lab.rest(host))
    except OSError:
        return False


def slot_of_nobody(lab: Lab) -> str:
    leader = lab.leader()
    configured({"ignore_slots": [{"name": "nobodys", "type": "physical"}]})(lab)
    lab.until(lambda: _kept(lab, leader), 30, "a slot that Patroni leaves alone")
    return leader


def _kept(lab: Lab, leader: str) -> bool:
    """Return whether the slot outlives two of Patroni's loops; it is made anew where Patroni still drops it."""
    known = "select count(*) from pg_replication_slots where slot_name = 'nobodys'"
    make = "select pg_create_physical_replication_slot('nobodys', true) where not exists"
    psql(lab, leader, f"{make} (select from pg_replication_slots where slot_name = 'nobodys')")
    psql(lab, leader, "select pg_sleep(6)")
    return psql(lab, leader, known) == "1"


def no_slot_of_nobody(lab: Lab, leader: str) -> None:
    psql(lab, leader, "select pg_drop_replication_slot('nobodys')")
    configured({"ignore_slots": None})(lab)


def startup_process(signal: str) -> str:
    return f"kill -{signal} $(pgrep -f '[p]ostgres: keybuzz: startup')"


def lagging(lab: Lab) -> str:
    """Replay stands still while the leader writes more than the limit of 16 MB."""
    host = replica(lab)
    lab.sh(host, startup_process("STOP"))
    psql(
        lab,
        lab.leader(),
        "select count(pg_logical_emit_message(false, 'x', repeat(md5(n::text), 32768)))"
        " from generate_series(1, 40) n",
    )
    return host


# --- PostgreSQL --------------------------------------------------------------------------------------------


def altered(name: str, value: str) -> Make:
    """Return a fault of the leader that is an ALTER SYSTEM."""

    def make(lab: Lab) -> str:
        leader = lab.leader()
        psql(lab, leader, f"alter system set {name} = {value};\nselect pg_reload_conf()")
        return leader

    make.__name__ = ""
    return make


def too_much_memory(lab: Lab) -> str:
    """shared_buffers of two thirds of the host's memory, by ALTER SYSTEM on a replica and a restart of it."""
    host = replica(lab)
    kilobytes = int(lab.sh(host, "awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    psql(lab, host, f"alter system set shared_buffers = '{kilobytes * 2 // 3 // 1024} MB'")
    ask(lab, host, "POST", "/restart", {})
    return host


HBA = f"{PGDATA}/pg_hba.conf"


def kept_out(lab: Lab) -> str:
    """A replica whose PostgreSQL rejects the superuser from the host itself, from where kbpg asks, not on its socket.

    Patroni asks over the socket, and writes this file anew only when it starts PostgreSQL, or when its lines change.
    """
    host = replica(lab)
    lab.sh(host, f"sed -i '1i host all kb_admin {lab.addresses[host]}/32 reject' {HBA}")
    psql(lab, host, "select pg_reload_conf()")
    return host


def let_in(lab: Lab, host: str) -> None:
    lab.sh(host, f"sed -i '/^host all kb_admin .* reject$/d' {HBA}")
    psql(lab, host, "select pg_reload_conf()")


def database_away(lab: Lab) -> str:
    psql(
        lab,
        lab.leader(),
        "alter database keybuzz allow_connections false;\n"
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'keybuzz';\n"
        "select pg_sleep(0.5);\nalter database keybuzz rename to keybuzz_away",
    )
    return CLUSTER


def database_back(lab: Lab, _: str) -> None:
    """The empty one that a repair made gives way to the one that was away."""
    psql(
        lab,
        lab.leader(),
        "drop database if exists keybuzz with (force);\nalter database keybuzz_away rename to keybuzz;\n"
        "alter database keybuzz allow_connections true",
    )


def newer_on_disk(lab: Lab) -> str:
    """A replica whose container has a newer version's script than the others."""
    host = replica(lab)
    lab.sh(
        host,
        past_read_only(
            "cd $(dirname $(find / -xdev -name vector.control 2>/dev/null | head -1))"
            " && cp vector--0.8.1.sql vector--0.8.5.sql"
        ),
    )
    return CLUSTER


def older_again(lab: Lab, _: str) -> None:
    """The replica's container is made anew from its image."""
    lab.sh(replica(lab), "docker rm -f patroni")
    lab.apply()


_RECORD = "/opt/keybuzz/kbpg/cluster.json"


def another_identity(lab: Lab) -> str:
    """A replica whose record names another system."""
    host = replica(lab)
    change = 's/\\("system_identifier": *"\\)[0-9]*/\\17000000000000000001/'
    lab.sh(
        host,
        f"cp -p {_RECORD} /root/kept.json && sed -i '{change}' {_RECORD} && ! cmp -s {_RECORD} /root/kept.json",
    )
    return host


def own_identity(lab: Lab, host: str) -> None:
    lab.sh(host, f"cp -p /root/kept.json {_RECORD} && rm /root/kept.json")


def stranger(lab: Lab) -> str:
    host = replica(lab)
    lab.sh(
        host,
        "docker run -d --name stranger --network host -v /opt/keybuzz/postgres/data:/data --entrypoint sleep"
        " patroni-pg16-raft:latest 600",
    )
    return host


# --- Docker ------------------------------------------------------------------------------------------------

_SYSTEMCTL = """#!/bin/sh
case $1 in
    is-active) [ -s /run/docker.pid ] && ! grep -q '^State:.*Z' /proc/$(cat /run/docker.pid)/status;;
    start) kill -CONT $(cat /run/keeper.pid);;
esac
"""


def with_systemctl(lab: Lab, host: str) -> None:
    """Give a host what stands in for systemd: lab hosts have their Docker daemon kept by a shell."""
    lab.sh(
        host,
        "mkdir -p /run/systemd/system; ps -o ppid= -p $(pidof dockerd) > /run/keeper.pid;"
        f" cat > /usr/local/bin/systemctl <<'EOF'\n{_SYSTEMCTL}EOF\nchmod 755 /usr/local/bin/systemctl",
    )


WITHOUT_SYSTEMCTL = (
    "if [ -e /run/keeper.pid ]; then kill -CONT $(cat /run/keeper.pid);"
    " rm -rf /run/systemd /usr/local/bin/systemctl /run/keeper.pid; fi"
)


def without_systemctl(lab: Lab, host: str) -> None:
    lab.sh(host, WITHOUT_SYSTEMCTL)


def docker_ended(lab: Lab) -> str:
    """The daemon is ended, and nobody starts it again. It is a zombie until its keeper goes on."""
    host = "haproxy-02"
    with_systemctl(lab, host)
    gone = "timeout 40 sh -c 'while docker version >/dev/null 2>&1; do sleep 0.5; done'"
    lab.sh(host, f"kill -STOP $(cat /run/keeper.pid); kill $(pidof dockerd); {gone}")
    return host


# --- proxies -----------------------------------------------------------------------------------------------


def stale_connections(lab: Lab) -> str:
    """HAProxy sent writers to a replica and was mended by hand; PgBouncer keeps the connections of before."""
    reload = "docker exec haproxy sh -c 'kill -USR2 1'"
    lab.sh(
        "haproxy-01",
        f"cp -p {HAPROXY_CFG} /root/kept.cfg; sed -i 's,OPTIONS /primary,OPTIONS /replica,' {HAPROXY_CFG}; {reload}",
    )

    def astray() -> bool:
        # Each time: right after the reload HAProxy goes by who was up before
        pooler(lab, "haproxy-01", "RECONNECT")
        try:
            with lab.connect("haproxy-01", 6432) as client:
                row = client.execute("select pg_is_in_recovery()").fetchone()
            return bool(row and row[0])
        except Exception:  # noqa: BLE001 (it is between two servers)
            return False

    # RECONNECT alone may leave it with the other proxy's HAProxy, where an earlier fault has sent it
    lab.sh("haproxy-01", "docker restart pgbouncer")
    lab.until(astray, 20, "PgBouncer on a replica")
    lab.sh("haproxy-01", f"cp -p /root/kept.cfg {HAPROXY_CFG} && rm /root/kept.cfg; {reload}")
    return "haproxy-01"


def no_way_from_the_proxy(lab: Lab) -> str:
    address = lab.addresses[lab.leader()]
    lab.sh("haproxy-01", cut(f"OUTPUT -p tcp -d {address} --dport 5432"))
    return "haproxy-01"


def no_way_to_a_replica(lab: Lab) -> str:
    address = lab.addresses[replica(lab)]
    lab.sh("haproxy-01", cut(f"OUTPUT -p tcp -d {address} --dport 8008"))
    return "haproxy-01"
