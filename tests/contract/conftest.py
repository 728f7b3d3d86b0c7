"""Real SSH servers on this machine: sshd as a plain process, with keys made for the occasion."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

DEADLINE = 10.0
"""Seconds an sshd may take to listen."""


@dataclass(frozen=True)
class Settings:
    """What `kbpg.hosts.ssh.connect` is told."""

    port: int | None
    key: Path | None
    known_hosts: Path
    host: str | None = "127.0.0.1"
    user: str | None = "root"
    jump: str | None = None
    connect_timeout: float = 5.0
    sudo: bool = True
    fingerprints: tuple[str, ...] = ()
    jump_fingerprints: tuple[str, ...] = ()

    def but(self, **changes: object) -> Settings:
        """Return the same settings with some changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class Sshd:
    """A running sshd; `settings` reach it."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    settings: Settings

    @property
    def host_key(self) -> str:
        """Return its public host key as a line of known_hosts has it."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    def children(self) -> list[int]:
        """Return the processes of its sessions."""
        return [int(pid) for pid in run("ps", "-o", "pid=", "--ppid", str(self.process.pid)).split()]


def run(*argv: str) -> str:
    """Return what a command prints, whatever its exit status."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_key(path: Path, *options: str) -> Path:
    """Make an ed25519 key without a passphrase, unless `options` say otherwise."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path


def start_sshd(directory: Path, *lines: str, port: int | None = None) -> Sshd:
    """Start an sshd on 127.0.0.1 with its own keys in `directory`, and wait until it listens."""
    port = port or free_port()
    for name in ("host_key", "id"):
        if not (directory / name).exists():
            make_key(directory / name)
    shutil.copy(directory / "id.pub", directory / "authorized_keys")
    config = directory / "sshd_config"
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": directory / "authorized_keys",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        # Debian's bash reads root's ~/.bashrc when sshd starts it, but not one shell deeper: ours may be slow.
        "SetEnv": "SHLVL=2",
    }
    config.write_text("".join(f"{line}\n" for line in (*lines, *(f"{k} {v}" for k, v in options.items()))))
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program is not None
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = (directory / "sshd.log").open("ab")
    with log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log)
    wait_for(process, port, directory)
    known_hosts = directory / "known_hosts"
    return Sshd(directory, port, process, Settings(port, directory / "id", known_hosts))


def wait_for(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    """Wait until the port is listened on; fail the test with the log in `directory` where that does not come."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    process.kill()
    process.wait()
    pytest.fail(f"sshd does not listen: {(directory / 'sshd.log').read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End an sshd."""
    process.terminate()
    process.wait(DEADLINE)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No configuration, keys or agent of whoever runs the tests; a short HOME for sockets."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def missing() -> str | None:
    """Return why no sshd can be started here, or None."""
    if os.geteuid() != 0:
        return "only root can start an sshd that logs root in"
    if not shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"):
        return "no sshd: install openssh-server"
    return None


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One sshd for all tests that leave it as it is."""
    if reason := missing():
        pytest.skip(reason)
    sshd = start_sshd(tmp_path_factory.mktemp("sshd"))
    yield sshd
    stop(sshd.process)


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    """The shared sshd, its key already known."""
    entry = f"[127.0.0.1]:{shared_sshd.port} {shared_sshd.host_key}\n"
    shared_sshd.settings.known_hosts.write_text(entry)
    return shared_sshd


@pytest.fixture
def new_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd of the test's own, whose key nobody knows."""
    if reason := missing():
        pytest.skip(reason)
    directory = tmp_path / "sshd"
    directory.mkdir()
    sshd = start_sshd(directory)
    yield sshd
    stop(sshd.process)
