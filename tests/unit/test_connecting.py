"""Connecting to the hosts of an inventory: by which way, and how it ends when somebody has waited enough."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from kbpg.connecting import connect_all
from kbpg.hosts.settings import Silence
from kbpg.inventory import load
from kbpg.options import Options

from .test_session import write_inventory

NAMES = ("db-1", "db-2", "db-3", "proxy-1")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """An inventory that says nothing of SSH but an alias of each host, and an empty home directory."""
    lines = ["cluster: {name: test}", "ssh: {connect_timeout: 20}"]
    for index, name in enumerate(NAMES):
        if name in ("db-1", "proxy-1"):
            lines.append("db:" if name == "db-1" else "proxies:")
        lines.append(f"  - {{name: {name}, address: 192.0.2.{index + 1}, ssh: {{host: alias-{name}}}}}")
    path = tmp_path / "inventory.yaml"
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "home/.ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Options(chosen=path)


def test_the_ssh_configuration_says_what_the_inventory_does_not(options: Options, tmp_path: Path) -> None:
    with socket.socket() as closed, ExitStack() as stack:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (tmp_path / "home/.ssh/config").write_text(f"Host alias-*\n HostName 127.0.0.1\n Port {port}\n")
        hosts, errors = connect_all(load(options.inventory), options, Silence(), None, stack)
    assert hosts == {}
    assert [errors[name].reason for name in NAMES] == [f"127.0.0.1:{port} refused the connection"] * 4


def test_patience_shortens_the_wait_and_nothing_else(options: Options, tmp_path: Path) -> None:
    options.patience = 0.3
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as stack:
        port = silent.getsockname()[1]
        (tmp_path / "home/.ssh/config").write_text(f"Host alias-*\n HostName 127.0.0.1\n Port {port}\n")
        _, errors = connect_all(load(options.inventory), options, Silence(), None, stack)
    assert all("does not speak SSH within 0.3 s" in errors[name].reason for name in NAMES)


def test_ctrl_c_ends_the_program_while_hosts_are_silent(tmp_path: Path) -> None:
    with ExitStack() as stack:
        silent = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in NAMES}
        options = write_inventory(
            tmp_path, {name: server.getsockname()[1] for name, server in silent.items()}
        )
        text = options.inventory.read_text()
        options.inventory.write_text(text.replace("connect_timeout: 2", "connect_timeout: 60"))
        argv = [sys.executable, "-m", "kbpg", "--inventory", str(options.inventory), "plan"]
        program = stack.enter_context(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        stack.callback(program.kill)
        for server in silent.values():
            server.settimeout(15)
            stack.enter_context(server.accept()[0])
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=10)
    assert program.returncode == 130
    assert said.startswith("interrupted; ")
    assert len(said.splitlines()) == 1


def test_a_host_that_cannot_be_asked_is_not_left_connected(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Connected:
        def __init__(self, name: str) -> None:
            self.name, self.trust = name, None

        def close(self) -> None:
            closed.append(self.name)

    def cannot(host: object) -> None:
        if getattr(host, "name", "") == "db-2":
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("kbpg.hosts.ssh.connect", lambda name, *_, **__: Connected(name))
    with ExitStack() as stack, pytest.raises(RuntimeError, match="new thread"):
        connect_all(load(options.inventory), options, Silence(), None, stack, connected=cannot)
    assert sorted(closed) == sorted(NAMES)
