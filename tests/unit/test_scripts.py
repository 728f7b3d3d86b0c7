"""What script/demo and script/test do to a machine, with programs that only write down how they were called."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[2] / "script" / "_common.sh"
REFUSED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
)


@dataclass(frozen=True)
class Ran:
    """How a function of script/_common.sh ended, what it said, and which programs it called."""

    code: int
    said: list[str]
    called: list[str]


@dataclass(frozen=True)
class Machine:
    """A directory of programs, which is all that PATH has."""

    directory: Path

    def has(self, name: str, does: str = "") -> None:
        """Have a program that notes its arguments, and then `does`."""
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.directory}/called\n{does}\n')
        path.chmod(0o755)

    def run(self, function: str, *, before: str = "") -> Ran:
        """Run one function, as the scripts do, with the policy of services in this directory."""
        script = f'set -eu; . "{COMMON}"; POLICY={self.directory}/policy-rc.d; {before}\n{function}'
        for name in ("sh", "cat", "rm", "chmod", "sleep", "env"):
            link = self.directory / "bin" / name
            if not link.exists():
                link.symlink_to(next(p for d in ("/usr/bin", "/bin") if (p := Path(d) / name).exists()))
        environment = {**os.environ, "PATH": str(self.directory / "bin")}
        ran = subprocess.run(
            ["/bin/sh", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert ran.stdout == ""
        called = self.directory / "called"
        return Ran(
            ran.returncode,
            ran.stderr.splitlines(),
            called.read_text().splitlines() if called.exists() else [],
        )


INSTALL = "apt-get install -y -q --no-install-recommends"
BARE = "has_systemd() { false; }; has_sshd() { false; }"
"""A machine without systemd and without an SSH server."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of somebody who is not root, without Docker's group."""
    made = Machine(tmp_path)
    made.has("id", 'case $1 in -u) echo 1000 ;; -un) echo ann ;; -nG) echo "ann sudo" ;; esac')
    made.has("sudo", 'shift; exec "$@"')
    made.has("apt-get")
    return made


def apt(ran: Ran) -> list[str]:
    return [line for line in ran.called if line.startswith("apt-get")]


def test_the_lists_of_apt_are_read_once_before_the_first_package(machine: Machine) -> None:
    ran = machine.run("apt_install one; apt_install two three")
    assert ran.code == 0
    assert apt(ran) == ["apt-get update -q", f"{INSTALL} one", f"{INSTALL} two three"]
    assert [line for line in ran.called if line.startswith("sudo")] != []


def test_lists_that_cannot_be_read_are_told_and_no_end(machine: Machine) -> None:
    machine.has("apt-get", '[ "$1" != update ]')
    ran = machine.run("apt_install one")
    assert (ran.code, ran.said) == (0, ["apt-get update failed"])


def test_a_user_whom_docker_refuses_is_told_at_once(machine: Machine) -> None:
    machine.has("docker", f'echo "{REFUSED}" >&2; exit 1')
    machine.has("dockerd")
    ran = machine.run("need_docker")
    assert ran.code == 1
    assert ran.said == [
        "error: Docker refuses user ann, who is neither root nor in group docker",
        "hint: run this as root, or: sudo usermod -aG docker ann, and log in again",
    ]
    assert ran.called.count("docker version") == 1


def test_a_member_of_docker_s_group_is_waited_for_while_the_daemon_starts(machine: Machine) -> None:
    machine.has("id", 'case $1 in -u) echo 1000 ;; -un) echo ann ;; -nG) echo "ann docker" ;; esac')
    machine.has("docker", f'[ -e {machine.directory}/up ] || {{ echo "{REFUSED}" >&2; exit 1; }}')
    machine.has("dockerd")
    machine.has("systemctl")
    machine.has("sleep", f"cat < /dev/null > {machine.directory}/up")
    ran = machine.run("need_docker", before="has_systemd() { true; }")
    assert (ran.code, ran.said) == (0, ["starting the Docker daemon"])
    assert "systemctl start docker" in ran.called


def test_docker_is_installed_after_the_lists_were_read(machine: Machine) -> None:
    machine.has("docker", "exit 1")
    machine.has("apt-get", '[ "$1" = update ]')
    ran = machine.run("need_docker")
    assert ran.code == 1
    assert ran.said[1:] == ["error: Docker could not be installed", "hint: apt-get install docker.io"]
    assert apt(ran) == ["apt-get update -q", f"{INSTALL} docker.io iptables"]


def root(machine: Machine) -> None:
    machine.has("id", "case $1 in -u) echo 0 ;; esac")


def test_programs_that_tests_want_are_installed_and_no_sshd_is_started(machine: Machine) -> None:
    root(machine)
    policy, called = machine.directory / "policy-rc.d", machine.directory / "called"
    machine.has("apt-get", f'[ "$5" != openssh-server ] || {policy} || echo "policy $?" >> {called}')
    ran = machine.run("need_test_programs", before=BARE)
    assert ran.code == 0
    assert apt(ran) == ["apt-get update -q", f"{INSTALL} openssh-server", f"{INSTALL} chromium"]
    assert "policy 101" in ran.called
    assert not policy.exists()
    assert not [line for line in ran.called if line.startswith("sudo")]


def test_a_policy_of_the_machine_s_own_stays(machine: Machine) -> None:
    root(machine)
    policy = machine.directory / "policy-rc.d"
    policy.write_text("own")
    assert machine.run("need_test_programs", before=BARE).code == 0
    assert policy.read_text() == "own"


def test_what_cannot_be_installed_is_told_and_no_end(machine: Machine) -> None:
    root(machine)
    machine.has("apt-get", "exit 100")
    ran = machine.run("need_test_programs", before=BARE)
    assert ran.code == 0
    assert [line for line in ran.said if "skipped" in line] == [
        "no openssh-server: tests/contract will be skipped",
        "no chromium: the tests of the reports' pages will be skipped",
    ]
    assert not (machine.directory / "policy-rc.d").exists()


def test_with_systemd_no_ssh_server_is_installed_unasked(machine: Machine) -> None:
    root(machine)
    ran = machine.run("need_test_programs", before="has_sshd() { false; }; has_systemd() { true; }")
    assert ran.code == 0
    assert apt(ran) == ["apt-get update -q", f"{INSTALL} chromium"]
    assert ran.said[0] == "no SSH server here, and none is installed unasked: tests/contract will be skipped"


def test_what_is_there_is_not_installed(machine: Machine) -> None:
    root(machine)
    machine.has("chromium")
    ran = machine.run("need_test_programs", before="has_sshd() { true; }")
    assert (ran.code, ran.said, apt(ran)) == (0, [], [])
