"""Passwords rotated under load: no error, no lock-out, whenever kbpg is killed.

Raft's alone takes one db host after another with it, the leader too: `-k raft` runs what is about it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
from tests.lab.conftest import DB, PROXIES, Lab, killed_at_end
from tests.lab.faults import psql
from tests.lab.load import Load

pytestmark = [pytest.mark.lab, pytest.mark.faults]

NAMES = {
    "app": "POSTGRES_APP_PASS",
    "superuser": "POSTGRES_SUPERPASS",
    "replication": "POSTGRES_REPLICATION_PASS",
    "rewind": "POSTGRES_REWIND_PASS",
    "pgbouncer": "PGBOUNCER_AUTH_PASS",
    "rest": "PATRONI_REST_PASS",
    "raft": "RAFT_PASS",
}
USERS = {"app": "kb_app", "superuser": "kb_admin", "pgbouncer": "pgbouncer_auth"}
"""Those that somebody outside of the db hosts can log in as."""
MOMENTS = (0.3, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Seconds after which kbpg is killed: before, in and after each part of a rotation of everything but Raft's."""
RAFT_MOMENTS = (1.0, 3.0, 6.0, 9.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 20.0, 24.0, 28.0, 35.0)
"""The same of Raft's: while a replica, the leader (with clients that wait), and the other replica restart."""
TOGETHER = tuple(word for word in NAMES if word != "raft")


def path(lab: Lab) -> Path:
    return lab.directory / "credentials" / "postgres.env"


def passwords(lab: Lab) -> dict[str, str]:
    """Return the generated passwords, which need no unquoting."""
    pairs = (line.split("=", 1) for line in path(lab).read_text().splitlines() if "PASS=" in line)
    return {name: value.strip("'") for name, value in pairs}


def lets_in(lab: Lab, host: str, user: str, password: str, port: int = 6432) -> bool:
    try:
        psycopg.connect(
            host=lab.addresses[host],
            port=port,
            user=user,
            password=password,
            dbname="pgbouncer"
            if user == "pgbouncer_auth"
            else "postgres"
            if user == "kb_admin"
            else "keybuzz",
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError as error:
        if "authentication failed" not in str(error):
            raise
        return False
    return True


def assert_rotated(lab: Lab, before: dict[str, str], words: tuple[str, ...]) -> None:
    """Those of `words` are new and in force, the old ones refused, and nothing is left to do."""
    after = passwords(lab)
    assert {name for name in after if after[name] != before[name]} == {NAMES[word] for word in words}
    assert not path(lab).with_name("postgres.env.new").exists()
    for word in (word for word in words if word in USERS):
        for proxy in PROXIES:
            assert lets_in(lab, proxy, USERS[word], after[NAMES[word]]), (word, proxy)
            assert not lets_in(lab, proxy, USERS[word], before[NAMES[word]]), (word, proxy)
    plan = lab.kbpg("plan")
    assert plan.code == 0, plan.everything


def streams_anew(lab: Lab) -> None:
    """End the connections of the replicas: they connect with the password that their Patroni wrote down."""
    psql(lab, lab.leader(), "select pg_terminate_backend(pid) from pg_stat_replication")
    lab.await_whole(20)


def resume(lab: Lab) -> None:
    """Go on with a rotation, once the command ends that the killed one had begun on a host, as kbpg says to."""

    def done() -> bool:
        ran = lab.kbpg("credentials", "rotate", "--resume")
        assert ran.code == 0 or "still runs there" in ran.err, ran.everything
        return ran.code == 0

    lab.until(done, 90, "the end of a command of the killed kbpg")


@pytest.mark.parametrize("word", NAMES)
def test_each_is_rotated_under_load_without_an_error(converged: Lab, load: Load, word: str) -> None:
    before = passwords(converged)
    load.reset()
    ran = converged.kbpg("credentials", "rotate", word)
    assert ran.code == 0, ran.everything
    assert not [each for each in passwords(converged).values() if each in ran.everything]
    load.go_on_for(3)
    seen = load.seen()
    print(f"{word}: {seen}, {ran.seconds:.1f} s")
    assert seen.errors == (), seen
    assert_rotated(converged, before, (word,))
    streams_anew(converged)


def test_raft_s_costs_one_wait_and_loses_nothing(converged: Lab, load: Load) -> None:
    """As `kbpg credentials rotate` says itself: how long clients waited, and nobody would have taken over."""
    before, timeline = passwords(converged), converged.rest(converged.leader())["timeline"]
    load.go_on_for(3)
    load.reset()
    ran = converged.kbpg("credentials", "rotate", "raft")
    assert ran.code == 0, ran.everything
    load.go_on_for(3)
    seen = load.seen()
    print(f"raft: {seen}, {ran.seconds:.1f} s")
    print("\n".join(line for line in ran.everything.splitlines() if "waited" in line or "failover" in line))
    assert seen.errors == (), seen
    assert load.stop().lost == 0
    assert "clients waited" in ran.out
    assert "automatic failover was off for" in ran.out
    assert "nobody takes over from a leader that dies" in ran.err
    assert_rotated(converged, before, ("raft",))
    assert {converged.rest(host)["state"] for host in DB} <= {"running", "streaming"}
    assert converged.rest(converged.leader())["timeline"] <= timeline + 1
    assert converged.kbpg("raft", "status").code == 0
    converged.await_whole(30)


def test_new_logins_meet_no_error_while_pgbouncer_s_own_password_changes(converged: Lab) -> None:
    """Clients that connect for each query, which PgBouncer looks up each time."""
    with killed_at_end(converged.start("credentials", "rotate", "pgbouncer")) as process:
        logins = 0
        while process.poll() is None:
            for proxy in PROXIES:
                assert converged.one(proxy, 6432, "select 1") == 1
                logins += 1
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert logins > 20


def test_sessions_of_before_get_new_server_connections(converged: Lab) -> None:
    """PgBouncer opens them with the keys of the last login: the proof was one."""
    with converged.connect("haproxy-01", 6432) as session:
        assert converged.kbpg("credentials", "rotate", "app").code == 0
        psql(
            converged,
            converged.leader(),
            "select pg_terminate_backend(pid) from pg_stat_activity where usename='kb_app'",
        )
        converged.until(lambda: _answers(session), 10, "an answer on a new server connection")


def _answers(session: psycopg.Connection) -> bool:
    try:
        return session.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        assert not session.closed
        return False


@pytest.mark.parametrize(
    ("words", "moment"),
    [*((TOGETHER, moment) for moment in MOMENTS), *((("raft",), moment) for moment in RAFT_MOMENTS)],
    ids=lambda value: str(value) if isinstance(value, float) else ("raft" if len(value) == 1 else "others"),
)
def test_killed_at_any_moment_it_is_resumed(converged: Lab, words: tuple[str, ...], moment: float) -> None:
    before, old = passwords(converged), path(converged).read_bytes()
    with killed_at_end(converged.start("credentials", "rotate", *words)) as process:
        time.sleep(moment)  # the moment itself is what is tested
        ended = process.poll() is not None
        if not ended:
            os.kill(process.pid, signal.SIGKILL)
    new = path(converged).with_name("postgres.env.new")
    if new.exists():
        assert path(converged).read_bytes() == old
        refused = converged.kbpg("apply-all")
        assert refused.code == 2
        assert "kbpg credentials rotate --resume" in refused.err
        looked = converged.kbpg("status")
        assert looked.code == 0 or words == ("raft",), (
            looked.everything
        )  # members with two passwords: no whole Raft
        assert "was broken off" in looked.err
        resume(converged)
    rotated = path(converged).read_bytes() != old
    assert rotated or not ended
    assert_rotated(converged, before, words if rotated else ())
    streams_anew(converged)
    assert converged.one("haproxy-01", 6432, "select 1") == 1
    assert converged.kbpg("diagnose").code in (0, 3)


def test_the_way_back_of_a_rotation_that_is_given_up(converged: Lab) -> None:
    """Without the new file apply-all brings the old passwords back, REST's too."""
    before = passwords(converged)
    with killed_at_end(converged.start("credentials", "rotate", *TOGETHER)) as process:
        new = path(converged).with_name("postgres.env.new")
        converged.until(new.exists, 30, "the new file")
        time.sleep(1.5)  # some are in force by then
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    new.unlink()
    converged.apply()
    assert_rotated(converged, before, ())
    for user, name in (("kb_app", "POSTGRES_APP_PASS"), ("pgbouncer_auth", "PGBOUNCER_AUTH_PASS")):
        assert lets_in(converged, "haproxy-01", user, before[name])
    streams_anew(converged)


def test_no_password_is_in_a_process_or_a_log(converged: Lab) -> None:
    ran = converged.kbpg("credentials", "rotate", "all", "-v")
    assert ran.code == 0, ran.everything
    journal = "".join(p.read_text() for p in (converged.directory / ".kbpg" / "journal").glob("*.jsonl"))
    logs = "".join(converged.everywhere("for c in $(docker ps -q); do docker logs $c 2>&1; done").values())
    for name, password in passwords(converged).items():
        for where, text in (("output", ran.everything), ("journal", journal), ("log", logs)):
            assert password not in text, f"{name} seen in {where}"
    shown = subprocess.run(
        ["ls", "-A", str(path(converged).parent)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["pki", "postgres.env"]
    assert {converged.rest(host)["state"] for host in DB} == {"running"}
