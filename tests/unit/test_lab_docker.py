"""What the lab asks Docker for, and what it reads from its answers."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from kbpg.errors import Refused
from kbpg.lab.containers import capability_arguments, run_arguments
from kbpg.lab.docker import DockerError, build_arguments, docker, inspect
from kbpg.lab.layout import hosts
from kbpg.lab.network import parse_network

HOST = hosts(IPv4Network("172.29.77.0/24"))[0]
SAID: dict[str, Any] = {
    "Name": "kbpg-lab",
    "Labels": {"kbpg.lab": "abc", "kbpg.lab.directory": "/home/me/.lab"},
    "IPAM": {"Config": [{"Subnet": "172.29.77.0/24"}]},
    "Containers": {"1f": {"Name": "kbpg-db-master-01", "IPv4Address": "172.29.77.120/24"}},
}


def test_a_host_is_run_with_its_name_address_and_labels() -> None:
    arguments = run_arguments(HOST, "image", "abc", "/home/me/.lab", "ssh-ed25519 AAAA", ["--privileged"])
    assert arguments == [
        "run", "--detach", "--name", "kbpg-db-master-01", "--hostname", "db-master-01",
        "--label", "kbpg.lab=abc", "--label", "kbpg.lab.directory=/home/me/.lab",
        "--label", "kbpg.lab.role=db",
        "--network", "kbpg-lab", "--ip", "172.29.77.120",
        "--tmpfs", "/run:exec,mode=755", "--volume", "/var/lib/docker", "--stop-timeout", "30",
        "--env", "KBPG_AUTHORIZED_KEY=ssh-ed25519 AAAA", "--privileged", "image",
    ]  # fmt: skip


def test_without_privileges_a_host_cannot_set_the_machine_s_clock() -> None:
    arguments = capability_arguments("2")
    assert "--cap-add=SYS_ADMIN" in arguments
    assert "--security-opt=systempaths=unconfined" in arguments
    assert not any("SYS_TIME" in argument for argument in arguments)


@pytest.mark.parametrize(("version", "mounted"), [("1", True), ("2", False)])
def test_control_groups_are_mounted_where_they_are_v1(version: str, mounted: bool) -> None:
    assert ("--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw" in capability_arguments(version)) is mounted


def test_a_build_leaves_no_container_behind_and_passes_what_it_is_given() -> None:
    assert build_arguments(Path("c"), Path("c/D"), "tag", {"A": "1"}, {"l": "x"}, "host") == [
        "build", "--quiet", "--force-rm", "--tag", "tag", "--file", "c/D",
        "--network", "host", "--build-arg", "A=1", "--label", "l=x", "c",
    ]  # fmt: skip


def test_a_network_says_whose_it_is_and_who_runs_on_it() -> None:
    network = parse_network(SAID)
    assert (network.lab, network.directory) == ("abc", "/home/me/.lab")
    assert network.subnet == IPv4Network("172.29.77.0/24")
    assert network.running == {"kbpg-db-master-01": "172.29.77.120"}


@pytest.mark.parametrize("containers", [{}, None])
def test_a_network_without_running_hosts(containers: Any) -> None:
    assert parse_network({**SAID, "Containers": containers}).running == {}


@pytest.mark.parametrize("labels", [{}, None, {"other": "x"}])
def test_a_network_of_that_name_from_somebody_else_is_left_alone(labels: Any) -> None:
    with pytest.raises(Refused, match=r"kbpg-lab was not made by `kbpg lab up`"):
        parse_network({**SAID, "Labels": labels})


def test_without_a_docker_command_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerError, match="no docker command") as caught:
        inspect("network", "kbpg-lab")
    assert caught.value.hint is not None


def _docker_that(directory: Path, says: str, exit_code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "docker"
    program.write_text(f"#!/bin/sh\n{says}\nexit {exit_code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")


def test_what_docker_answers_about_missing_objects_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = """echo '[{"Name": "a"}]'; echo 'Error response from daemon: network b not found' >&2"""
    _docker_that(tmp_path, says, 1, monkeypatch)
    assert inspect("network", "a", "b") == [{"Name": "a"}]


@pytest.mark.parametrize(
    "message",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "permission denied while trying to connect to the Docker daemon socket",
    ],
)
def test_a_daemon_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    _docker_that(tmp_path, f"echo '{message}' >&2", 1, monkeypatch)
    with pytest.raises(DockerError, match="no Docker daemon answers") as caught:
        docker("ps")
    assert caught.value.detail == (message,)
    assert caught.value.hint is not None


def test_a_docker_that_hangs_runs_into_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _docker_that(tmp_path, "exec sleep 30", 0, monkeypatch)
    with pytest.raises(DockerError, match=r"`docker ps` took longer than 0.3 s"):
        docker("ps", timeout=0.3)
