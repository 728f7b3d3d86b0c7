"""What the containers may not do, tried from inside them, and their health as Docker sees it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import DB, PROXIES, Lab
from tests.lab.faults import psql

pytestmark = pytest.mark.lab
EACH = [
    *((host, "patroni") for host in DB),
    *((h, name) for h in PROXIES for name in ("haproxy", "pgbouncer")),
]
WRITABLE = {
    "patroni": ("/run/postgresql", "/tmp"),
    "haproxy": ("/run/haproxy",),
    "pgbouncer": ("/run/pgbouncer",),
}
PROGRAMS = [(host, name) for host, name in EACH if name != "patroni"]
LIMIT = 1 << 30
"""Bytes: the default of both programs' `memory_limit`."""
KEPT = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
"""What the kernel keeps, by cgroups v2 or v1, as a container sees its own."""
SWAP = "cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || echo 0"
HEALTHY = 120.0
"""Seconds for three rounds of Docker's questions, and a beginning."""


@pytest.mark.parametrize(("host", "name"), EACH)
def test_docker_shows_what_was_asked_for(host: str, name: str, converged: Lab) -> None:
    (shown,) = json.loads(converged.sh(host, f"docker inspect {name}"))
    options = shown["HostConfig"]
    assert shown["Config"]["User"] == "999:999"
    assert options["ReadonlyRootfs"] is True
    assert (options["CapDrop"], options["CapAdd"] or []) == (["ALL"], [])
    assert options["SecurityOpt"] == ["no-new-privileges"]
    assert options["PidsLimit"] == (4096 if name == "patroni" else 1024)
    if name == "patroni":
        assert not 0 < options["Memory"] < 1 << 60  # taken back once, it is a limit that no host reaches
    else:
        assert options["Memory"] == LIMIT
        assert options["MemorySwap"] in (LIMIT, -1)  # where the kernel does not count swap
    assert options["LogConfig"]["Type"] == "json-file"
    assert sorted(options["Tmpfs"]) == sorted(WRITABLE[name])


@pytest.mark.parametrize(("host", "name"), EACH)
def test_no_process_has_a_capability_or_can_get_one(host: str, name: str, converged: Lab) -> None:
    script = "cat /proc/[0-9]*/status | grep -E '^(Name|Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs):'"
    for user in ("999", "0"):
        text = converged.sh(host, f"docker exec -u {user} {name} sh -c {json.dumps(script)}")
        processes = [
            dict(line.split(":\t", 1) for line in part.splitlines())
            for part in re.split("(?m)^(?=Name:)", text)[1:]
        ]
        # Docker's question after its health enters a container as runc, which gives its rights away before it
        # becomes what it was asked to run.
        own = [process for process in processes if not process["Name"].startswith("runc")]
        assert len(own) > 1  # the program, and the one that reads
        for process in own:
            assert process.pop("NoNewPrivs") == "1", process
            held = {key: value for key, value in process.items() if key != "Name"}
            assert len(held) == 5, process
            assert set(held.values()) == {"0" * 16}, process


@pytest.mark.parametrize("host", DB)
def test_memory_that_runs_out_ends_a_session_and_not_the_node(host: str, converged: Lab) -> None:
    """By the kernel's measure Patroni, its watchdog and the postmaster come last, what serves a client does not."""
    assert int(psql(converged, host, "select pg_read_file('/proc/self/oom_score_adj')")) == 500
    script = 'for each in 1 "$(head -n 1 $PGDATA/postmaster.pid)"; do cat /proc/$each/oom_score_adj; done'
    assert converged.sh(host, f"docker exec -u 999 patroni sh -c {shlex.quote(script)}").split() == [
        "0",
        "0",
    ]


def kept(lab: Lab, host: str, name: str) -> int:
    """Return how many bytes the kernel lets a container use."""
    text = lab.sh(host, f"docker exec {name} sh -c {shlex.quote(KEPT)}; true").strip()
    return 1 << 62 if text == "max" else int(text)


@pytest.mark.parametrize(("host", "name"), EACH)
def test_the_kernel_keeps_the_limit_of_memory_and_gives_no_swap(host: str, name: str, converged: Lab) -> None:
    if name == "patroni":
        assert kept(converged, host, name) >= 1 << 60
        return
    assert kept(converged, host, name) == LIMIT
    (shown,) = json.loads(converged.sh(host, f"docker inspect {name}"))
    if shown["HostConfig"]["MemorySwap"] == LIMIT:  # else Docker sees no limit of swap in this kernel
        assert converged.sh(host, f"docker exec {name} sh -c {shlex.quote(SWAP)}").strip() == "0"


@pytest.mark.parametrize(("host", "name"), PROGRAMS)
def test_who_takes_all_the_memory_is_ended_and_the_program_goes_on(
    host: str, name: str, converged: Lab
) -> None:
    """`tail` keeps a line without an end: 1.5 GB, of which the kernel gives it less than 1."""
    before = converged.started()
    script = "head -c 1500M /dev/zero | tail | wc -c"
    assert converged.sh(host, f"docker exec {name} sh -c {shlex.quote(script)}").strip() == "0"
    assert converged.started() == before
    assert converged.one(host, 6432, "select 1") == 1


@pytest.mark.parametrize(("host", "name"), EACH)
def test_nothing_but_its_own_places_can_be_written(host: str, name: str, converged: Lab) -> None:
    for place in ("/usr/local/bin", "/etc", f"/etc/{name}", "/var/tmp", "/"):
        user = 999 if place == f"/etc/{name}" else 0  # root without capabilities may not even enter it
        script = f"docker exec -u {user} {name} sh -c 'touch {place}/x' 2>&1; true"
        assert "Read-only file system" in converged.sh(host, script)
    for place in WRITABLE[name]:
        converged.sh(host, f"docker exec {name} sh -c 'touch {place}/x && rm {place}/x'")


@pytest.mark.parametrize(("host", "name"), EACH)
def test_each_container_becomes_healthy(host: str, name: str, converged: Lab) -> None:
    show = f"docker inspect -f '{{{{.State.Health.Status}}}}' {name}"
    converged.until(
        lambda: converged.sh(host, show).strip() == "healthy", HEALTHY, f"{name} on {host} healthy"
    )


@pytest.mark.faults
def test_a_frozen_pgbouncer_becomes_unhealthy_and_well_again(converged: Lab) -> None:
    host = PROXIES[1]
    show = "docker inspect -f '{{.State.Health.Status}}' pgbouncer"
    signal = "kill -{} $(docker inspect -f '{{{{.State.Pid}}}}' pgbouncer)"
    converged.sh(host, signal.format("STOP"))
    try:
        converged.until(lambda: converged.sh(host, show).strip() == "unhealthy", HEALTHY + 60, "unhealthy")
        assert converged.sh(host, "docker inspect -f '{{.State.Status}}' pgbouncer").strip() == "running"
    finally:
        converged.sh(host, signal.format("CONT"))
    converged.until(lambda: converged.sh(host, show).strip() == "healthy", HEALTHY, "healthy")


@pytest.mark.parametrize(("host", "name"), EACH)
def test_the_questions_leave_nothing_in_the_logs(host: str, name: str, converged: Lab) -> None:
    began = converged.sh(host, "date -u +%FT%T").strip()
    show = f"docker inspect -f '{{{{json .State.Health.Log}}}}' {name}"

    def asked() -> bool:
        return any(each["Start"][:19] > began for each in json.loads(converged.sh(host, show)))

    converged.until(asked, HEALTHY, f"Docker asks {name} on {host}")
    log = converged.sh(host, f"docker logs --since {began}Z {name} 2>&1")
    for text in ("no pg_hba.conf entry", "unexpected eof", "incomplete startup packet"):
        assert text not in log


def limits(lab: Lab, memory: int | str, path: str, **haproxy: int) -> Path:
    """Return an inventory in which both programs have this limit."""

    def change(settings: dict[str, Any]) -> None:
        settings.setdefault("haproxy", {}).update(memory_limit=memory, **haproxy)
        settings.setdefault("pgbouncer", {}).update(memory_limit=memory)

    return lab.edited(lab.directory / path, change)


def test_a_changed_limit_reaches_the_running_containers(cluster: Lab) -> None:
    """More, together with the connections that it is for, then none, then as it was: nobody is cut off."""
    all_limits = {(host, f"memory:{name}") for host, name in PROGRAMS}
    more = limits(cluster, "2GB", "more-memory.yaml", max_connections=8000)
    before = cluster.started()
    with cluster.connect("haproxy-01", 5432) as direct, cluster.connect("haproxy-01", 6432) as pooled:
        backend = direct.execute("select pg_backend_pid()").fetchone()
        plan = cluster.kbpg("plan", "--json", inventory=more)
        assert plan.code == 3, plan.everything
        changes = {
            (c["place"], c["resource"]): (c["impact"], c["lines"]) for c in json.loads(plan.out)["changes"]
        }
        assert {key for key in changes if key[1].startswith("memory:")} == all_limits
        assert all(changes[key] == ("none", ["limit: 1GB → 2GB"]) for key in all_limits)
        assert not [key for key in changes if key[1].startswith("container:")]

        done = cluster.kbpg("apply-all", "--json", inventory=more)
        assert done.code == 0, done.everything
        reloads = {(host, "loaded:haproxy") for host in PROXIES}
        files = {(host, "file:/opt/keybuzz/haproxy/haproxy.cfg") for host in PROXIES}
        assert cluster.changed(done) == all_limits | reloads | files
        assert {kept(cluster, host, name) for host, name in PROGRAMS} == {2 << 30}
        assert cluster.kbpg("plan", inventory=more).code == 0

        none = limits(cluster, 0, "no-limit.yaml", max_connections=8000)
        done = cluster.kbpg("apply-all", "--json", inventory=none)
        assert cluster.changed(done) == all_limits, done.everything
        assert min(kept(cluster, host, name) for host, name in PROGRAMS) >= 1 << 60
        assert cluster.kbpg("plan", inventory=none).code == 0

        cluster.apply()
        assert {kept(cluster, host, name) for host, name in PROGRAMS} == {LIMIT}
        assert direct.execute("select pg_backend_pid()").fetchone() == backend
        assert pooled.execute("select 1").fetchone() == (1,)
    assert cluster.started() == before
    for host, name in PROGRAMS:  # and the other limit is what it was
        pids = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true"
        assert cluster.sh(host, f"docker exec {name} sh -c {shlex.quote(pids)}").strip() == "1024"


def test_a_container_that_was_started_without_a_limit_gets_one(cluster: Lab) -> None:
    """As those of an earlier kbpg were."""
    host = PROXIES[1]
    none = limits(cluster, 0, "no-limit.yaml")
    cluster.sh(host, "docker rm -f pgbouncer")
    cluster.apply(inventory=none)
    shown = "docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' pgbouncer"
    assert cluster.sh(host, shown).split() == ["0", "0"]
    before = cluster.started()
    cluster.apply()
    assert cluster.started() == before
    assert cluster.sh(host, shown).split() in ([f"{LIMIT}", f"{LIMIT}"], [f"{LIMIT}", "-1"])
    assert kept(cluster, host, "pgbouncer") == LIMIT
