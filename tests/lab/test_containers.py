"""What the containers may not do, tried from inside them, and their health as Docker sees it."""

from __future__ import annotations

import json
import re
import shlex

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
