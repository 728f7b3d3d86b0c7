"""What operators do by hand: a look inside, a pause, a failover, a lost credentials file, the end of a cluster."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, HOSTS, KBPG, PROXIES, Lab, killed_at_end
from tests.lab.faults import MENDED_CABLE, cut, psql, replica
from tests.lab.test_repair import assert_kept, role, write_row

pytestmark = [pytest.mark.lab]
BASE = "/opt/keybuzz"


def piped(lab: Lab, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [*KBPG, "-i", str(lab.inventory), *args]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)


class Person:
    """Somebody at a terminal, who waits for what is shown before typing on."""

    def __init__(self, lab: Lab, *args: str) -> None:
        self.shown = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(KBPG[0], [*KBPG, "-i", str(lab.inventory), *args])  # noqa: S606

    def sees(self, text: str, deadline: float = 20) -> None:
        ends = time.monotonic() + deadline
        while text.encode() not in self.shown:
            assert time.monotonic() < ends, f"{text} is not shown: {self.shown.decode(errors='replace')}"
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.shown += os.read(self.terminal, 65536)

    def types(self, text: str) -> None:
        self.shown = b""
        os.write(self.terminal, text.encode())

    def leaves(self, deadline: float = 20) -> int:
        """Return the exit code of a program that ends by itself."""
        ends = time.monotonic() + deadline
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < ends, f"it goes on: {self.shown.decode(errors='replace')}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.terminal, 65536)
                except OSError:  # the other end is closed: it is about to end
                    time.sleep(0.05)


# --- psql --------------------------------------------------------------------------------------------------


def test_psql_on_the_leader_on_a_replica_and_through_pgbouncer(cluster: Lab) -> None:
    query = "select pg_is_in_recovery(), current_user"
    assert cluster.kbpg("psql", "-c", query, "--", "-At").out == "f|kb_admin\n"
    assert cluster.kbpg("psql", "--host", replica(cluster), "-c", query, "--", "-At").out == "t|kb_admin\n"
    assert cluster.kbpg("psql", "--pooled", "-c", query, "--", "-At").out == "f|kb_app\n"
    assert piped(cluster, "select 6;\nselect 7;\n", "psql", "--", "-At").stdout == "6\n7\n"
    wrong = piped(cluster, "select nonsense;", "psql", "--", "-v", "ON_ERROR_STOP=1")
    assert wrong.returncode == 1
    assert 'column "nonsense" does not exist' in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_psql_at_a_terminal_takes_every_key(cluster: Lab) -> None:
    person = Person(cluster, "psql")
    person.sees("keybuzz=#")
    person.types("select 40 + 2 as answer;\n")
    person.sees("42")
    person.types("select pg_sleep(60);\n")
    person.sees("pg_sleep")
    cluster.until(lambda: _sleeps(cluster) == 1, 10, "the query runs")
    person.types("\x03")
    person.sees("canceling statement due to user request")
    person.types("\\q\n")
    assert person.leaves() == 0


def _sleeps(lab: Lab) -> int:
    query = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    return int(psql(lab, lab.leader(), query))


def test_no_password_shows_while_psql_runs(cluster: Lab) -> None:
    password = cluster.credentials["POSTGRES_APP_PASS"]
    person = Person(cluster, "psql", "--pooled")
    person.sees("keybuzz=>")
    for host in DB:
        everything = cluster.sh(
            host,
            "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; docker inspect patroni",
        )
        assert password not in everything
    files = "docker exec patroni sh -c 'ls /run/postgresql' | grep -c kbpg-pass || true"
    cluster.until(
        lambda: set(cluster.everywhere(files, DB).values()) == {"0\n"}, 20, "the password file is gone"
    )
    person.types("\\q\n")
    assert person.leaves() == 0
    journals = cluster.directory / ".kbpg" / "journal"
    newest = max(journals.glob("*-psql-*.jsonl"), key=lambda path: path.stat().st_mtime)
    assert password not in newest.read_text()


# --- logs --------------------------------------------------------------------------------------------------


def test_logs_mask_what_they_must_not_tell(cluster: Lab, other_credentials: tuple[Path, str]) -> None:
    """PostgreSQL logs a statement that failed. The password in it is one that nobody uses, so the log may keep it."""
    inventory, password = other_credentials
    leader = cluster.leader()
    assert piped(cluster, f"table nowhere_{password};", "psql").returncode == 0
    assert password in cluster.kbpg("logs", leader, "patroni", "--since", "1m").out
    ran = cluster.kbpg("logs", leader, "patroni", "--since", "1m", inventory=inventory)
    assert ran.code == 0, ran.err
    assert "table nowhere_***;" in ran.out
    assert password not in ran.everything


@pytest.fixture
def other_credentials(cluster: Lab) -> Iterator[tuple[Path, str]]:
    """An inventory whose credentials file has another password for the application, and that password."""
    password = f"never{secrets.token_hex(8)}"
    path = cluster.directory / "credentials-of-a-test.env"
    kept = (cluster.directory / "credentials" / "postgres.env").read_text()
    path.write_text(re.sub(r"(?m)^POSTGRES_APP_PASS=.*$", f"POSTGRES_APP_PASS='{password}'", kept))
    path.chmod(0o600)
    inventory = cluster.directory / "inventory-of-a-test.yaml"
    cluster.edited(inventory, lambda settings: settings.update(credentials=path.name))
    try:
        yield inventory, password
    finally:
        path.unlink()
        inventory.unlink()


def test_logs_are_followed_until_ctrl_c(cluster: Lab) -> None:
    leader = cluster.leader()
    with killed_at_end(cluster.start("logs", leader, "patroni", "-f", "-n", "0")) as following:
        follows = "ps ax | grep '[d]ocker logs --follow' | grep -vc 'sh -c' || true"
        cluster.until(lambda: int(cluster.sh(leader, follows)) > 0, 20, "it follows")
        psql(cluster, leader, "do $$ begin raise warning 'said just now'; end $$")
        assert following.stdout
        ready, _, _ = select.select([following.stdout], [], [], 20)
        assert ready, "nothing is said"
        while "said just now" not in (line := following.stdout.readline()):
            assert line, "it ended"
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
        assert following.stderr
        assert following.stderr.read() == ""
    cluster.until(lambda: int(cluster.sh(leader, follows)) == 0, 10, "nobody follows any more")


def test_logs_of_a_host_without_that_program(cluster: Lab) -> None:
    ran = cluster.kbpg("logs", "haproxy-01", "patroni")
    assert ran.code == 2
    assert "haproxy-01 has no patroni" in ran.err


# --- pause, failover ---------------------------------------------------------------------------------------


@pytest.fixture
def paused(cluster: Lab) -> Iterator[Lab]:
    """A paused cluster, which is whole and not paused afterwards."""
    try:
        ran = cluster.kbpg("pause")
        assert ran.code == 0, ran.everything
        assert [cluster.rest(host).get("pause") for host in DB] == [True] * 3
        yield cluster
    finally:
        cluster.everywhere(f"{MENDED_CABLE}; docker start patroni >/dev/null", DB)
        cluster.until(lambda: cluster.kbpg("resume").code == 0, 60, "resumed")
        cluster.await_whole(deadline=60)


def test_a_pause_is_seen_everywhere_and_keeps_apply_all_out(paused: Lab) -> None:
    assert json.loads(paused.kbpg("pause", "--json").out)["changed"] is False
    ran = paused.kbpg("apply-all")
    assert ran.code == 1
    assert "kbpg resume" in ran.err
    assert paused.kbpg("diagnose").code == 3
    ran = paused.kbpg("resume")
    assert ran.code == 0, ran.everything
    assert not any(paused.rest(host).get("pause") for host in DB)
    assert paused.kbpg("plan").code == 0


def test_no_failover_while_a_leader_leads(cluster: Lab) -> None:
    leader = cluster.leader()
    ran = cluster.kbpg("failover", "--to", replica(cluster), "--yes", "--accept-loss")
    assert ran.code == 1
    assert f"no failover: {leader} leads" in ran.err
    assert "kbpg switchover --to" in ran.err
    assert cluster.leader() == leader


@pytest.mark.faults
def test_a_leader_is_made_where_nobody_takes_over(paused: Lab) -> None:
    write_row(paused)
    old, target = paused.leader(), replica(paused)
    paused.sh(old, "docker kill patroni")
    paused.until(lambda: _leaderless(paused), 40, "nobody streams any more")
    ran = paused.kbpg("failover", "--to", target)
    assert ran.code == 1
    assert "the most advanced" in ran.err
    assert "--yes goes ahead" in ran.err
    assert role(paused, target) == "replica"
    ran = paused.kbpg("failover", "--to", target, "--yes")
    assert ran.code == 0, ran.everything
    assert role(paused, target) == "primary"
    assert "kbpg resume" in ran.out
    paused.until(lambda: _written(paused), 10, "writes through PgBouncer")
    paused.sh(old, "docker start patroni")
    assert paused.kbpg("resume").code == 0
    paused.await_whole(deadline=60)
    assert_kept(paused)


def _leaderless(lab: Lab) -> bool:
    said = [lab.rest(host) for host in DB if role(lab, host) != "silent"]
    return not any(s.get("replication_state") == "streaming" or s.get("role") == "primary" for s in said)


def _written(lab: Lab) -> bool:
    return lab.kbpg("psql", "--pooled", "-c", "create temp table t()").code == 0


@pytest.mark.faults
def test_a_node_that_is_behind_leads_only_when_the_loss_is_accepted(paused: Lab) -> None:
    old, behind = paused.leader(), replica(paused)
    (ahead,) = {*DB} - {old, behind}
    # Replication alone: Raft goes on. It stays cut, or what the leader's host still has to send would arrive
    paused.sh(behind, cut("INPUT -i eth0 -p tcp --sport 5432"))
    # By hand: pg_terminate_backend ends backends alone, and says so in a warning
    receiver = psql(paused, behind, "select pid from pg_stat_wal_receiver")
    paused.sh(behind, f"docker exec patroni sh -c 'kill {receiver}'")
    paused.until(lambda: "replication_state" not in paused.rest(behind), 20, "it does not stream")
    psql(paused, old, "create table if not exists lost_row(t text); insert into lost_row values ('x')")
    paused.sh(old, "docker kill patroni")
    paused.until(lambda: _leaderless(paused), 40, "nobody streams any more")
    ran = paused.kbpg("failover", "--to", behind, "--yes")
    assert ran.code == 1, ran.everything
    assert f"{behind} is not the most advanced node" in ran.err
    assert f"bytes of WAL that {behind} does not have" in ran.err
    assert f"kbpg failover --to {ahead}" in ran.err
    ran = paused.kbpg("failover", "--to", ahead, "--yes")
    assert ran.code == 0, ran.everything
    assert psql(paused, ahead, "select count(*) from lost_row") != "0"


@pytest.mark.faults
def test_without_a_quorum_a_failover_points_to_the_rebuild(paused: Lab) -> None:
    old, target = paused.leader(), replica(paused)
    gone = [host for host in DB if host != target]
    paused.everywhere("docker kill patroni", tuple(gone))
    paused.until(lambda: _leaderless(paused), 40, "nobody streams any more")
    ran = paused.kbpg("failover", "--to", target, "--yes")
    assert ran.code == 1, ran.everything
    assert "Raft has no quorum" in ran.err
    assert "kbpg raft rebuild" in ran.err
    assert old in gone


# --- credentials -------------------------------------------------------------------------------------------


@pytest.fixture
def lost(cluster: Lab) -> Iterator[Path]:
    """The place of a credentials file that is lost; it is put back afterwards."""
    path = cluster.directory / "credentials" / "postgres.env"
    kept = path.with_name("kept-by-the-test.env")
    shutil.copy2(path, kept)
    path.unlink()
    try:
        yield path
    finally:
        kept.replace(path)


def values(path: Path) -> set[str]:
    return {line for line in path.read_text().splitlines() if line and not line.startswith("#")}


def test_a_lost_credentials_file_comes_back_whole(cluster: Lab, lost: Path) -> None:
    kept = lost.with_name("kept-by-the-test.env")
    password = next(
        v.partition("=")[2].strip("'") for v in values(kept) if v.startswith("POSTGRES_APP_PASS=")
    )
    ran = piped(cluster, "", "credentials", "recover")
    assert ran.returncode == 1
    assert not lost.exists()
    ran = piped(cluster, "another-password\n", "credentials", "recover", "--ask-app-password")
    assert "that is not the password of kb_app" in ran.stderr
    assert not lost.exists()
    ran = piped(cluster, f"{password}\n", "credentials", "recover", "--ask-app-password")
    assert ran.returncode == 0, ran.stderr
    assert values(lost) == values(kept)
    assert lost.stat().st_mode & 0o777 == 0o600
    assert not any(value.partition("=")[2].strip("'") in ran.stdout + ran.stderr for value in _secret(kept))
    assert cluster.kbpg("plan").code == 0


def _secret(path: Path) -> set[str]:
    return {value for value in values(path) if "PASS" in value}


# --- destroy -----------------------------------------------------------------------------------------------


def left_on(lab: Lab) -> dict[str, str]:
    return lab.everywhere(f"docker ps -aq; ls -A {BASE} 2>/dev/null || true")


def test_destroy_asks_and_is_refused_while_clients_are_connected(cluster: Lab) -> None:
    before = cluster.started()
    for args in ((), ("--with-data",), ("--with-data", "--yes")):
        ran = piped(cluster, "", "destroy", *args)
        assert ran.returncode == 1
        assert "nothing was removed" in ran.stderr
    assert cluster.kbpg("destroy", "--with-data", "--confirm", "other").code == 2
    with cluster.connect("haproxy-01", 6432):
        ran = cluster.kbpg("destroy", "--yes")
        assert ran.code == 1
        assert "1 through PgBouncer" in ran.err
    with cluster.connect("haproxy-02", 5432):
        ran = cluster.kbpg("destroy", "--yes")
        assert ran.code == 1
        assert "1 through HAProxy" in ran.err
    assert cluster.started() == before


def test_another_clusters_host_is_left_alone(cluster: Lab) -> None:
    before = cluster.started()
    record = f"{BASE}/kbpg/cluster.json"
    cluster.sh(DB[2], f'sed -i.kept \'s/"cluster": "[^"]*"/"cluster": "other"/\' {record}')
    try:
        ran = cluster.kbpg("destroy", "--with-data", "--confirm", "keybuzz", "--force")
    finally:
        cluster.sh(DB[2], f"mv {record}.kept {record}")
    assert ran.code == 1
    assert f"{DB[2]}: this host's record says that it belongs to the cluster other" in ran.err
    assert cluster.started() == before


@pytest.mark.faults
def test_kept_data_becomes_the_same_cluster_again(cluster: Lab) -> None:
    write_row(cluster)
    identifier = cluster.rest(DB[0])["database_system_identifier"]
    credentials = values(cluster.directory / "credentials" / "postgres.env")
    ran = cluster.kbpg("destroy", "--yes")
    assert ran.code == 0, ran.everything
    left = left_on(cluster)
    assert all(left[host].split() == ["kbpg", "postgres"] for host in DB), left
    assert all(left[host] == "" for host in PROXIES), left
    assert set(cluster.everywhere("docker images -q --filter label=kbpg.inputs").values()) == {""}
    assert cluster.kbpg("destroy", "--yes").code == 0
    cluster.apply()
    assert cluster.rest(DB[0])["database_system_identifier"] == identifier
    assert values(cluster.directory / "credentials" / "postgres.env") == credentials
    assert_kept(cluster)
    assert cluster.kbpg("plan").code == 0


@pytest.mark.faults
def test_a_destroy_that_is_killed_is_finished_by_the_next(cluster: Lab) -> None:
    def half_way() -> bool:
        there: dict[str, Any] = cluster.everywhere("docker ps -aq")
        return sum(1 for text in there.values() if not text) >= len(PROXIES)

    argv = ("destroy", "--with-data", "--confirm", "keybuzz", "--keep-images")
    with killed_at_end(cluster.start(*argv)) as process:
        cluster.until(half_way, 60, "the proxies are gone")
        os.kill(process.pid, signal.SIGKILL)
    # What ran then ends by itself, and holds the lock until it does
    cluster.until(lambda: cluster.kbpg(*argv).code == 0, 60, "destroyed")
    assert set(left_on(cluster).values()) == {""}
    assert len(left_on(cluster)) == len(HOSTS)
    cluster.apply()
    assert cluster.kbpg("diagnose").code == 0
