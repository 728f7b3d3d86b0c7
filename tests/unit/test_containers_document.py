"""docs/containers.md says which items of the CIS Docker Benchmark are met: each such item is tried here.

On what kbpg makes: the command lines of the three containers, as a fake Docker would show them, the Dockerfiles, and
its own source.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kbpg.hosts.fake import FakeHost
from kbpg.inventory import haproxy_memory, pgbouncer_memory
from kbpg.inventory.memory_rules import USUAL
from kbpg.render import render
from kbpg.resources.container import ContainerSpec
from kbpg.resources.privilege import THROW_AWAY, pids_limit
from kbpg.steps import patroni_node, s03_haproxy, s04_pgbouncer

from .fake_docker import docker, image, with_docker
from .small_cluster import CREDENTIALS, context

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "containers.md"
ROW = re.compile(r"^\| (4\.\d+|5\.\d+) \| (.+?) \| (met|not met|yours) \| (.+) \|$", re.MULTILINE)
ITEMS = [*(f"4.{n}" for n in range(1, 13)), *(f"5.{n}" for n in range(1, 33))]
CONTEXT = context()
DB, PROXY = CONTEXT.inventory.db[0], CONTEXT.inventory.proxies[0]
SPECS = {
    "patroni": patroni_node._container(CONTEXT, DB),
    "haproxy": s03_haproxy._container(CONTEXT),
    "pgbouncer": s04_pgbouncer._container(CONTEXT, PROXY),
}
DOCKERFILES = {name: render(f"{name}/Dockerfile.j2", inventory=CONTEXT.inventory) for name in SPECS}
SOURCES = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "src" / "kbpg").rglob("*.py")
    if "lab" not in path.relative_to(ROOT / "src" / "kbpg").parts
}


@dataclass(frozen=True)
class Made:
    """One container: the options it is started with, what `docker inspect` would show, its Dockerfile."""

    argv: list[str]
    config: Mapping[str, Any]
    host: Mapping[str, Any]
    dockerfile: str

    def never(self, *options: str) -> bool:
        """Return whether none of these options is given."""
        return not any(word.split("=")[0] in options for word in self.argv)


def made(name: str) -> Made:
    spec = SPECS[name]
    host = with_docker(FakeHost("h"))
    host.images = {spec.image: image(spec.inputs, spec.image)}
    assert docker(host, spec.argv()[1:], b"").ok
    shown = host.containers[name]
    options = spec.argv()[: spec.argv().index(spec.image)]
    return Made(options, shown["Config"], shown["HostConfig"], DOCKERFILES[name])


def listens() -> str:
    """Return all that says what the programs listen on."""
    inventory = CONTEXT.inventory
    files = [
        render("patroni/patroni.yml.j2", inventory=inventory, host=DB, tls=CONTEXT.transport),
        render("haproxy/haproxy.cfg.j2", inventory=inventory, host=PROXY, tls=CONTEXT.transport),
        render("pgbouncer/pgbouncer.ini.j2", inventory=inventory, host=PROXY, tls=CONTEXT.transport),
    ]
    words = r"^\s*-?\s*(?:listen|bind|bind_addr|listen_addr)[ :=]+.*\d.*$"
    return "\n".join(line for text in files for line in re.findall(words, text, re.MULTILINE))


def sources_run(*words: str) -> bool:
    """Return whether a `docker exec` anywhere in the source has one of these words."""
    execs = [m for text in SOURCES.values() for m in re.findall(r"docker\W{1,5}exec\b[^\n]*", text)]
    assert len(execs) > 10
    return any(re.search(word, line) for word in words for line in execs)


MET: dict[str, Callable[[Made], object]] = {
    "4.1": lambda c: c.config["User"] == "999:999" and "\nUSER 999:999" in c.dockerfile,
    "4.3": lambda c: all(
        "--no-install-recommends" in line for line in re.findall(r"apt-get .*install .*", c.dockerfile)
    ),
    "4.7": lambda c: all(
        "install -y" in part
        for part in re.split(r"\n(?=RUN|COPY|FROM)", c.dockerfile)
        if re.search(r"apt-get \S* ?update", part)
    ),
    "4.9": lambda c: not re.search(r"^ADD\b", c.dockerfile, re.MULTILINE),
    "4.10": lambda c: not any(secret.reveal() in c.dockerfile for secret in SECRETS),
    "5.4": lambda c: c.host["CapDrop"] == ["ALL"] and not c.host["CapAdd"],
    "5.5": lambda c: not c.host["Privileged"],
    "5.6": lambda c: all(bind.startswith("/opt/keybuzz/") for bind in c.host["Binds"]),
    "5.7": lambda c: "ssh" not in c.dockerfile.replace("libssh", ""),
    "5.8": lambda c: c.never("--publish", "-p", "--publish-all", "-P") and "EXPOSE" not in c.dockerfile,
    "5.13": lambda c: c.host["ReadonlyRootfs"] and c.host["Tmpfs"],
    "5.14": lambda c: not re.search(r"0\.0\.0\.0|\*|\[?::", listens()) and len(listens().splitlines()) == 9,
    "5.16": lambda c: c.never("--pid"),
    "5.17": lambda c: c.never("--ipc"),
    "5.18": lambda c: c.never("--device", "--gpus", "--device-cgroup-rule"),
    "5.19": lambda c: c.host["Ulimits"] is None,
    "5.20": lambda c: all(bind.split(":")[2] in ("ro", "rw") for bind in c.host["Binds"]),
    "5.21": lambda c: c.never("--uts"),
    "5.22": lambda c: c.host["SecurityOpt"] == ["no-new-privileges"],
    "5.23": lambda c: not sources_run("--privileged"),
    "5.24": lambda c: not sources_run(r"(--user|-u)\W+(0|root)\b"),
    "5.25": lambda c: c.never("--cgroup-parent", "--cgroupns"),
    "5.26": lambda c: "no-new-privileges" in c.host["SecurityOpt"],
    "5.27": lambda c: c.config["Healthcheck"]["Test"][0] == "CMD-SHELL",
    "5.29": lambda c: c.host["PidsLimit"] > 0,
    "5.30": lambda c: c.host["NetworkMode"] not in ("default", "bridge"),
    "5.31": lambda c: c.never("--userns"),
    "5.32": lambda c: not any("docker.sock" in bind or bind.startswith("/:") for bind in c.host["Binds"]),
}
NOT_MET: dict[str, Callable[[Made], object]] = {
    "4.6": lambda c: "HEALTHCHECK" in c.dockerfile,
    "5.10": lambda c: c.host["NetworkMode"] != "host",
    "5.12": lambda c: not c.never("--cpu-shares", "-c", "--cpus"),
    "5.15": lambda c: c.host["RestartPolicy"]["Name"] == "on-failure:5",
}
SECRETS = [
    CREDENTIALS.superuser_password,
    CREDENTIALS.app_password,
    CREDENTIALS.replication_password,
    CREDENTIALS.rewind_password,
    CREDENTIALS.pgbouncer_password,
    CREDENTIALS.raft_password,
    CREDENTIALS.rest_password,
]


def table() -> dict[str, str]:
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    found = {item: state for item, _, state, _ in rows}
    assert len(found) == len(rows)
    return found


def test_every_item_of_both_sections_is_in_the_document_and_each_that_is_met_is_tried() -> None:
    found = table()
    assert list(found) == ITEMS
    assert {item for item, state in found.items() if state == "met"} == set(MET)
    assert {item for item, state in found.items() if state == "not met"} > set(NOT_MET)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("item", MET)
def test_an_item_that_is_said_to_be_met_is(item: str, name: str) -> None:
    assert MET[item](made(name))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("item", NOT_MET)
def test_an_item_that_is_said_not_to_be_met_is_not(item: str, name: str) -> None:
    """The document is right in both directions: what becomes better is to be said there."""
    assert not NOT_MET[item](made(name))


def test_memory_is_limited_where_that_does_no_harm() -> None:
    """Item 5.11 is met by the proxies' containers alone, and says so."""
    limits = {name: (made(name).host["Memory"], made(name).host["MemorySwap"]) for name in SPECS}
    assert limits == {"patroni": (0, 0), "haproxy": (1 << 30, 1 << 30), "pgbouncer": (1 << 30, 1 << 30)}
    assert table()["5.11"] == "not met"


def test_the_figures_in_the_document_are_those_in_use() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "`PidsLimit` is 1024 for the proxies; for Patroni 4096, from 3073 `max_connections` 8192" in text
    assert {SPECS[name].pids_limit for name in ("haproxy", "pgbouncer")} == {1024}
    assert [pids_limit(n) for n in (25, 100, 3072, 3073, 7168, 7169, 10_000)] == [
        *(4096, 4096, 4096),
        *(8192, 8192),
        *(16384, 16384),
    ]
    for spec in SPECS.values():
        assert spec.health is not None
        health = spec.health
        assert (health.interval, health.retries, health.start_period) == (30, 3, 60)
    assert "every | says" in text
    assert text.count("| 30 s |") == 3


def test_the_connections_that_the_usual_limit_is_enough_for_are_as_documented() -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    assert "1 GB is enough for 8750 `max_connections`, and, with the default pools, for 14,740" in text
    for more, usual in ((0, True), (1, False)):
        inventory = context(
            f"haproxy: {{max_connections: {8750 + more}}}\n"
            f"pgbouncer: {{max_client_connections: {14740 + more}}}\n"
        ).inventory
        assert {haproxy_memory(inventory) == USUAL, pgbouncer_memory(inventory) == USUAL} == {usual}


def test_no_secret_is_in_the_command_line_of_a_container() -> None:
    words = " ".join(word for spec in SPECS.values() for word in spec.argv())
    assert [secret for secret in SECRETS if secret.reveal() in words] == []


def test_a_throw_away_container_is_held_as_tightly() -> None:
    words = " ".join(THROW_AWAY)
    for option in ("--network none", "--read-only", "--cap-drop ALL", "no-new-privileges", "--pids-limit"):
        assert option in words
    runs = [m for text in SOURCES.values() for m in re.findall(r'"docker", "run",[^\n\]]*', text)]
    # `docker run --detach` is a container that stays: ContainerSpec
    assert [line for line in runs if "THROW_AWAY" not in line and "--detach" not in line] == []
    assert len(runs) == 3


def test_a_changed_limit_of_connections_leaves_the_container_alone() -> None:
    def spec(settings: str) -> ContainerSpec:
        wanted = context(settings)
        return patroni_node._container(wanted, wanted.inventory.db[0])

    assert spec("postgresql: {max_connections: 3000}\n").state() == SPECS["patroni"].state()
    assert spec("postgresql: {max_connections: 4000}\n").pids_limit == 8192
    assert spec("pgbouncer: {pool_size: 200}\n").state() == SPECS["patroni"].state()


# --- what the health checks say, by a real shell -------------------------------------------------------

STUB = """#!/bin/sh
printf '%s ' "$(basename "$0")" "$@" >>"$SEEN/arguments"
[ "$(basename "$0")" = pg_isready ] || cat >"$SEEN/stdin"
printf '%s' "$ANSWER"
exit "$STATUS"
"""


def asked(name: str, directory: Path, answer: str, status: int = 0) -> tuple[int, str, bytes]:
    """Run a health check with stand-ins for the programs; return its exit status, the arguments, what was sent."""
    for program in ("socat", "pg_isready"):
        (directory / program).write_text(STUB, encoding="utf-8")
        (directory / program).chmod(0o755)
    health = SPECS[name].health
    assert health is not None
    done = subprocess.run(
        ["/bin/sh", "-c", health.command],
        capture_output=True,
        timeout=30,
        env={
            "PATH": f"{directory}:/usr/bin:/bin",
            "SEEN": str(directory),
            "ANSWER": answer,
            "STATUS": str(status),
            "PGDATA": str(directory / "data"),
        },
    )
    sent, arguments = directory / "stdin", directory / "arguments"
    return (
        done.returncode,
        arguments.read_text(encoding="utf-8").strip() if arguments.exists() else "",
        sent.read_bytes() if sent.exists() else b"",
    )


@pytest.mark.parametrize(("answer", "healthy"), [("N", True), ("S", True), ("", False), ("x", False)])
def test_pgbouncer_is_sent_postgresqls_ssl_request(answer: str, healthy: bool, tmp_path: Path) -> None:
    status, arguments, sent = asked("pgbouncer", tmp_path, answer)
    assert (status == 0) is healthy
    assert sent == (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
    assert arguments == "socat -t 2 - UNIX-CONNECT:/run/pgbouncer/.s.PGSQL.6432"


@pytest.mark.parametrize(("answer", "healthy"), [("Name: HAProxy\nVersion: 3.0.11\n", True), ("", False)])
def test_haproxy_is_asked_on_its_socket(answer: str, healthy: bool, tmp_path: Path) -> None:
    status, arguments, sent = asked("haproxy", tmp_path, answer)
    assert (status == 0) is healthy
    assert (arguments, sent) == ("socat -t 2 - UNIX-CONNECT:/run/haproxy/admin.sock", b"show info\n")


@pytest.mark.parametrize("status", [0, 1, 2])
def test_postgresql_is_asked_on_the_port_it_runs_with(status: int, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = ["17", "/var/lib/postgresql/data/pgdata", "1764000000", "5433", "/run/postgresql", "192.0.2.1"]
    (tmp_path / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found, arguments, _ = asked("patroni", tmp_path, "accepting connections", status)
    assert found == status
    assert arguments == "pg_isready -t 3 -h /run/postgresql -p 5433 -d postgres -U kb_admin"


def test_a_server_that_is_not_there_is_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    status, arguments, _ = asked("patroni", tmp_path, "accepting connections")
    assert status != 0
    assert arguments == ""
