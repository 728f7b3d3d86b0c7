"""The leadership moves while twenty clients write through both PgBouncers: a short wait, no error, no lost row."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics

import psycopg
import pytest
from tests.lab.conftest import DB, PROXIES, Lab, Ran, killed_at_end
from tests.lab.faults import psql
from tests.lab.faults_patroni import ask
from tests.lab.load import Load, Seen, writing

pytestmark = pytest.mark.lab

LONGEST = 2.5
"""Seconds that the slowest client may wait, in every run."""
RUNS = 5
NOTE = "/opt/keybuzz/kbpg/pause"


def moved(lab: Lab, load: Load, *args: str, code: int = 0) -> tuple[Ran, Seen]:
    """Run a command under load; return it and what clients saw from before it until a moment after it."""
    lab.await_whole(60)
    load.reset()
    ran = lab.kbpg(*args)
    assert ran.code == code, ran.everything
    load.go_on_for(1)
    return ran, load.seen()


def paused(lab: Lab) -> dict[str, str]:
    """Return what PgBouncer's own log said last of a pause, by proxy."""
    script = "docker logs pgbouncer 2>&1 | grep -E 'PAUSE|RESUME|SIGUSR' | tail -1"
    return lab.everywhere(script, PROXIES)


def test_a_switchover_there_and_back(converged: Lab, load: Load) -> None:
    first = converged.leader()
    second = next(host for host in DB if host != first)
    for to in (second, first):
        ran, seen = moved(converged, load, "switchover", "--to", to)
        assert converged.leader() == to
        assert f"{to} leads" in ran.out
        assert not seen.errors, seen
    assert load.stop().lost == 0
    assert all("RESUME" in line for line in paused(converged).values())
    assert not any(converged.everywhere(f"cat {NOTE} 2>/dev/null || true", PROXIES).values())


def test_back_at_once_to_the_host_that_gave_way(converged: Lab, load: Load) -> None:
    """It comes back, streams, and is synchronous some rounds later: kbpg waits for that, and clients do not."""
    converged.await_whole(60)
    first = converged.leader()
    load.reset()
    away = converged.kbpg("switchover")
    assert away.code == 0, away.everything
    back = converged.kbpg("switchover", "--to", first)
    assert back.code == 0, back.everything
    assert converged.leader() == first
    load.go_on_for(1)
    seen = load.seen()
    assert not seen.errors, seen
    assert load.stop().lost == 0


def test_json_says_how_long_clients_waited(converged: Lab) -> None:
    converged.await_whole(60)
    ran = converged.kbpg("switchover", "--json")
    document = json.loads(ran.out)
    assert document["leader"] == converged.leader()
    assert set(document["waited"]) == set(PROXIES)
    assert document["problems"] == {}
    assert document["candidate"] == ""
    for proxy in PROXIES:
        phases = [document["asked"], document["led"], document["written"][proxy], document["waited"][proxy]]
        assert phases == sorted(phases), document


# --- refusals ------------------------------------------------------------------------------------------


def test_what_is_refused_and_why(converged: Lab) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    for args, code, why in (
        (("switchover", "--to", leader), 2, f"{leader} leads already"),
        (("switchover", "--to", "haproxy-01"), 2, "haproxy-01 is no db host"),
        (("switchover", "--without", "db-9"), 2, "db-9 is no proxy"),
        (("reinit", leader, "--yes"), 1, f"{leader} leads, and the leader's data is never replaced"),
        (("restart", "--host", "db-9"), 2, "db-9 is no db host"),
    ):
        ran = lab.kbpg(*args)
        assert ran.code == code, ran.everything
        assert why in ran.err
    assert lab.leader() == leader


def test_a_lagging_replica_is_refused(converged: Lab) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    slow = next(host for host in DB if host != leader)
    lab.sh(slow, f"iptables -I INPUT -p tcp -s {lab.addresses[leader]} --sport 5432 -j DROP")
    try:
        psql(
            lab, leader, "create table lag as select repeat(i::text, 100) t from generate_series(1, 100000) i"
        )
        ran = lab.kbpg("switchover", "--to", slow)
        assert ran.code == 1, ran.everything
        assert f"{slow} cannot take over from {leader}: it lags by" in ran.err
    finally:
        lab.sh(slow, "iptables -F INPUT")
        psql(lab, leader, "drop table if exists lag")
    assert lab.leader() == leader


def test_a_long_transaction_is_waited_for_and_named(converged: Lab) -> None:
    """Clients go on meanwhile: nobody is paused for a transaction that does not end."""
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    with writing(lab, 4) as load, lab.connect("haproxy-01", 6432, admin=True) as client:
        client.execute("begin")
        client.execute("select pg_current_xact_id()")
        load.go_on_for(1.5)
        ran, seen = moved(lab, load, "switchover", code=1)
        assert f"transactions on {leader} did not end within 30 s, so nothing was done" in ran.err
        assert "kb_admin on keybuzz through haproxy-01, idle in transaction" in ran.err
        assert seen.worst < 10  # it looked for 30 s
        assert not seen.errors, seen
        client.execute("rollback")
    assert lab.leader() == leader


def test_no_restart_without_a_quorum_that_could_miss_the_node(converged: Lab) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    away = next(host for host in DB if host != leader)
    lab.sh(away, "docker stop -t 60 patroni", timeout=90)
    try:
        ran = lab.kbpg("restart", "--yes")
        assert ran.code == 1, ran.everything
        assert "not restarted" in ran.err
        assert away in ran.err
    finally:
        lab.sh(away, "docker start patroni")
        lab.await_whole(90)
    assert lab.leader() == leader


# --- what must not leave anybody paused ----------------------------------------------------------------


def await_handover(lab: Lab) -> None:
    """Return when clients of both proxies are made to wait and the handover was asked for.

    That lasts for a second: the host itself looks, so that it is not missed.
    """
    look = f"until grep -qs 'was asked for' {NOTE}; do sleep 0.02; done"
    lab.sh(PROXIES[0], f'timeout 30 sh -c "{look}"', timeout=60)


def test_kbpg_is_killed_between_pause_and_resume(converged: Lab, load: Load) -> None:
    lab = converged
    lab.await_whole(60)
    load.reset()
    with killed_at_end(lab.start("switchover")) as process:
        await_handover(lab)
        os.kill(process.pid, signal.SIGKILL)
    load.go_on_for(0.5, deadline=25)
    seen = load.seen()
    assert seen.worst < 20, seen
    assert load.stop().lost == 0
    lab.await_whole(60)
    diagnosis = lab.kbpg("diagnose")
    assert diagnosis.code == 3, diagnosis.everything
    assert "the guard let the clients of pgbouncer go on" in diagnosis.out
    told = lab.kbpg("switchover")
    assert told.code == 0, told.everything
    assert "an earlier kbpg did not end a pause of PgBouncer" in told.err
    assert "killed or cut off" in told.err
    lab.until(lambda: lab.kbpg("diagnose").code == 0, 30, "the old leader follows, and all is well")


def test_a_proxy_is_cut_off_between_pause_and_resume(converged: Lab, load: Load) -> None:
    lab, cut = converged, PROXIES[0]
    lab.await_whole(60)
    load.reset()
    with killed_at_end(lab.start("switchover")) as process:
        await_handover(lab)
        lab.sh(
            cut, "iptables -I INPUT -p tcp --dport 22 -j DROP; iptables -I OUTPUT -p tcp --sport 22 -j DROP"
        )
        try:
            load.go_on_for(0.5, deadline=25)
            out, err = process.communicate(timeout=120)
        finally:
            lab.sh(cut, "iptables -F INPUT; iptables -F OUTPUT")
    seen = load.seen()
    assert process.returncode == 1, out + err
    assert cut in out + err
    assert seen.worst < 20, seen
    assert seen.longest[PROXIES[1]] < seen.longest[cut]
    assert load.stop().lost == 0
    lab.await_whole(60)
    # What the message says: sshd on the host that was cut off has not noticed, and holds the lock with its session
    held = lab.kbpg("apply-all").err
    (pid,) = re.findall(r"kill (\d+)", held) or [""]
    lab.sh(cut, f"kill {pid}")
    lab.apply()
    assert lab.kbpg("plan").code == 0


def test_the_candidate_dies_between_pause_and_resume(converged: Lab, load: Load) -> None:
    """Whoever leads in the end, everybody goes on by themselves, and every acknowledged row is there."""
    lab = converged
    lab.await_whole(60)
    to = next(host for host in DB if host != lab.leader())
    load.reset()
    with killed_at_end(lab.start("switchover", "--to", to)) as process:
        await_handover(lab)
        lab.sh(to, "docker kill patroni")
        try:
            load.go_on_for(0.5, deadline=60)
            out, err = process.communicate(timeout=120)
            assert "Traceback" not in err
            print(f"\n{load.seen()}; exit code {process.returncode}; {out}{err}")
            assert not any(lab.everywhere(f"cat {NOTE} 2>/dev/null || true", PROXIES).values())
        finally:
            lab.sh(to, "docker start patroni")
            lab.await_whole(90)
    assert load.stop().lost == 0


def test_a_forgotten_pause_is_found_and_ended(converged: Lab) -> None:
    lab = converged
    lab.sh(PROXIES[0], "docker exec pgbouncer sh -c 'kill -USR1 1'")
    found = lab.kbpg("diagnose")
    assert found.code == 1, found.everything
    assert "PgBouncer is paused" in found.out
    mended = lab.kbpg("diagnose", "--repair", "--yes")
    assert mended.code == 0, mended.everything
    assert lab.one(PROXIES[0], 6432, "select 1") == 1


def test_a_forgotten_pause_stops_a_switchover_and_not_a_restart(converged: Lab) -> None:
    """Who restarts may be about to mend it; neither ends what somebody else began."""
    lab, held = converged, PROXIES[0]
    lab.await_whole(60)
    leader = lab.leader()
    lab.sh(held, "docker exec pgbouncer sh -c 'kill -USR1 1'")
    try:
        stopped = lab.kbpg("switchover")
        assert stopped.code == 1, stopped.everything
        assert f"{held}: PgBouncer did not take PAUSE" in stopped.err
        assert lab.leader() == leader
        ran = lab.kbpg("restart", "--host", leader, "--json")
        assert ran.code == 1, ran.everything
        document = json.loads(ran.out)
        assert document["restarted"] == [leader]
        assert list(document["problems"]) == [held]
        assert "pausing all activity" in paused(lab)[held]
    finally:
        lab.sh(held, "docker exec pgbouncer sh -c 'kill -USR2 1'")
    assert lab.leader() != leader
    assert lab.one(held, 6432, "select 1") == 1


# --- rolling -------------------------------------------------------------------------------------------


def test_a_rolling_restart(converged: Lab, load: Load) -> None:
    lab = converged
    lab.await_whole(60)
    leader = lab.leader()
    before = {host: lab.rest(host)["postmaster_start_time"] for host in DB}
    ran, seen = moved(lab, load, "restart", "--json")
    restarted = json.loads(ran.out)["restarted"]
    assert sorted(restarted) == sorted(DB)
    assert restarted[-1] == leader
    after = {host: lab.rest(host)["postmaster_start_time"] for host in DB}
    assert all(before[host] != after[host] for host in DB)
    assert not seen.errors, seen
    assert load.stop().lost == 0


def started(lab: Lab) -> dict[str, str]:
    """Return when PostgreSQL was started, by node."""
    return {host: str(lab.rest(host)["postmaster_start_time"]) for host in DB}


def test_the_restart_of_one_node(converged: Lab, load: Load) -> None:
    lab = converged
    lab.await_whole(60)
    one, before = next(host for host in DB if host != lab.leader()), started(lab)
    ran, seen = moved(lab, load, "restart", "--host", one, "--json")
    assert json.loads(ran.out)["restarted"] == [one]
    assert {host for host, when in started(lab).items() if when != before[host]} == {one}
    assert not seen.errors, seen
    assert load.stop().lost == 0


def test_what_waits_for_a_restart_gets_it(converged: Lab, load: Load) -> None:
    """A parameter that somebody changed past kbpg, on all nodes."""
    lab = converged
    lab.await_whole(60)
    before = started(lab)

    def set_to(value: int | None) -> None:
        ask(
            lab,
            lab.leader(),
            "PATCH",
            "/config",
            {"postgresql": {"parameters": {"max_files_per_process": value}}},
        )

    def waiting() -> list[str]:
        return [host for host in DB if lab.rest(host).get("pending_restart")]

    set_to(1500)
    try:
        lab.until(lambda: len(waiting()) == len(DB), 30, "all nodes wait for a restart")
        ran, seen = moved(lab, load, "restart", "--pending", "--json")
        # The leader is not among them where its switchover was its restart
        assert set(json.loads(ran.out)["restarted"]) <= set(DB)
        assert all(when != before[host] for host, when in started(lab).items())
        lab.until(lambda: not waiting(), 10, "no node waits for a restart")
        shown = {psql(lab, host, "show max_files_per_process") for host in DB}
        assert shown == {"1500"}
        assert not seen.errors, seen
    finally:
        set_to(None)
    assert load.stop().lost == 0
    lab.until(lambda: len(waiting()) == len(DB), 30, "all nodes wait for the restart back")
    lab.apply()
    assert not waiting()


def test_a_replica_that_streams_is_cloned_anew(converged: Lab, load: Load) -> None:
    lab = converged
    lab.await_whole(60)
    one, made = (
        next(host for host in DB if host != lab.leader()),
        "stat -c %i /opt/keybuzz/postgres/data/pgdata",
    )
    before, inode = started(lab), lab.sh(one, made)
    ran, seen = moved(lab, load, "reinit", one, "--yes")
    assert f"{one} " in ran.out
    # Both at once: kbpg says so when it is done, not when it has begun
    after = started(lab)
    assert {host for host, when in after.items() if when != before[host]} == {one}
    assert lab.sh(one, made) != inode
    assert not seen.errors, seen
    assert load.stop().lost == 0
    lab.await_whole(30)


def test_nothing_waits_for_a_restart(converged: Lab) -> None:
    converged.await_whole(60)
    ran = converged.kbpg("restart", "--pending")
    assert ran.code == 0, ran.everything
    assert "nothing waits for a restart" in ran.out


# --- the figures -----------------------------------------------------------------------------------------


def report(what: str, runs: list[Seen]) -> None:
    waits = sorted(seen.worst for seen in runs)
    errors = sum(len(seen.errors) for seen in runs)
    print(
        f"\n{what}: {len(runs)} runs, {errors} errors, "
        f"longest wait median {statistics.median(waits):.2f} s, worst {waits[-1]:.2f} s"
    )
    assert errors == 0, [seen.errors[:3] for seen in runs if seen.errors]


def course(ran: Ran) -> str:
    """Return whom Patroni was asked for, and when each phase ended."""
    return "; ".join(
        line for line in ran.err.splitlines() if "switchover from" in line or "seconds after PAUSE" in line
    )


@pytest.mark.faults
@pytest.mark.parametrize("named", [False, True])
def test_figures_of_switchovers(converged: Lab, load: Load, named: bool) -> None:
    runs = []
    for _ in range(RUNS):
        converged.await_whole(60)
        to = next(host for host in DB if host != converged.leader())
        ran, seen = moved(converged, load, "switchover", *(("--to", to) if named else ()))
        print(f"\n{seen.worst:.2f} s; {course(ran)}")
        runs.append(seen)
    report(f"switchover{' --to' * named}", runs)
    assert load.stop().lost == 0
    assert max(seen.worst for seen in runs) <= LONGEST


@pytest.mark.faults
def test_figures_of_rolling_restarts(converged: Lab, load: Load) -> None:
    runs = [moved(converged, load, "restart")[1] for _ in range(RUNS)]
    report("rolling restart", runs)
    assert load.stop().lost == 0
    assert max(seen.worst for seen in runs) <= LONGEST


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_figures_of_changed_connections(converged: Lab, load: Load) -> None:
    lab, runs = converged, []
    for number, wanted in enumerate((350, 340) * 2):
        path = lab.directory / f"switchover-{number % 2}.yaml"
        inventory = lab.edited(
            path, lambda s, wanted=wanted: s.setdefault("postgresql", {}).update(max_connections=wanted)
        )
        lab.await_whole(60)
        load.reset()
        lab.apply(inventory)
        load.go_on_for(1)
        runs.append(load.seen())
        path.unlink()
    report("max_connections up and down", runs)
    assert load.stop().lost == 0


# --- HAProxy is reloaded ---------------------------------------------------------------------------------


def workers(lab: Lab, proxy: str) -> list[str]:
    """Return the process ids of HAProxy's workers that are there, old ones too."""
    script = "docker exec haproxy sh -c 'echo show proc | socat - /run/haproxy/master.sock'"
    lines = lab.sh(proxy, script).splitlines()
    return [line.split()[0] for line in lines if line[:1].isdigit() and "worker" in line]


def test_haproxy_is_reloaded_under_load(converged: Lab, load: Load) -> None:
    """Long transactions stay on the old worker until they end; no connection is left there afterwards."""
    lab = converged
    path = lab.directory / "switchover-reload.yaml"
    inventory = lab.edited(path, lambda s: s.setdefault("haproxy", {}).update(check_rise=3))
    load.reset()
    open_ones: list[psycopg.Connection[object]] = []
    try:
        for proxy in PROXIES:
            client = lab.connect(proxy, 6432)
            client.execute("begin")
            client.execute("create temporary table mine (n int) on commit drop")
            open_ones.append(client)
        lab.apply(inventory)
        load.go_on_for(3)
        for client in open_ones:
            client.execute("insert into mine values (1)")
            client.execute("commit")
        load.go_on_for(1)
        seen = load.seen()
        assert not seen.errors, seen
        for proxy in PROXIES:
            lab.until(lambda p=proxy: len(workers(lab, p)) == 1, 70, f"one worker on {proxy}")
    finally:
        path.unlink()
        for client in open_ones:
            client.close()
    assert load.stop().lost == 0
