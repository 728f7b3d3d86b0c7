"""The lock on a real host: what others are told, and that it frees itself however its holder ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbpg.engine.lock import Locks
from kbpg.errors import HostError, LockHeld, LockLost
from kbpg.hosts.noted import noted
from kbpg.hosts.ssh import SshHost, connect

from .conftest import Sshd

HOLDER = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from kbpg.engine.lock import Locks
from kbpg.hosts.ssh import connect

settings = json.loads(sys.argv[1])
settings |= {"key": Path(settings["key"]), "known_hosts": Path(settings["known_hosts"])}
host = connect("db-1", "127.0.0.1", SimpleNamespace(**settings))
with Locks.acquire([host], who="root@first", doing="apply-all", directory=sys.argv[2]):
    print("held", flush=True)
    if sys.argv[3:]:
        host.run(sys.argv[3:])
    sys.stdin.read()
"""
"""A controller of its own: takes the lock, runs a command if it is given one, and waits."""


@pytest.fixture
def hosts(sshd: Sshd) -> Iterator[tuple[SshHost, SshHost]]:
    with (
        connect("db-1", "127.0.0.1", sshd.settings) as first,
        connect("db-1", "127.0.0.1", sshd.settings) as second,
    ):
        yield first, second


def controller(sshd: Sshd, directory: Path, *command: str) -> subprocess.Popen[str]:
    """Start another kbpg that has the lock when this returns."""
    settings = {
        "host": "127.0.0.1",
        "port": sshd.port,
        "user": "root",
        "key": str(sshd.settings.key),
        "jump": None,
        "known_hosts": str(sshd.settings.known_hosts),
        "connect_timeout": 5,
        "sudo": True,
        "fingerprints": [],
        "jump_fingerprints": [],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, json.dumps(settings), str(directory), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def refusal(host: SshHost, directory: Path) -> LockHeld | None:
    """Return why the lock cannot be had, or None when it can."""
    try:
        with Locks.acquire([host], who="root@second", doing="plan", directory=str(directory), patience=0):
            return None
    except LockHeld as error:
        return error


def free_within(host: SshHost, directory: Path, seconds: float) -> float:
    """Wait until the lock is free; return after how many seconds it was."""
    started = time.monotonic()
    while refusal(host, directory):
        if time.monotonic() - started > seconds:
            pytest.fail(f"the lock is not free after {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - started


def test_who_has_it_since_when_and_doing_what_is_told(hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    with Locks.acquire([hosts[0]], who="root@install-01", doing="apply-all", directory=str(tmp_path)):
        error = refusal(hosts[1], tmp_path)
    holder = dict(line.split(" ", 1) for line in (tmp_path / "kbpg.holder").read_text().splitlines())
    assert error is not None
    assert error.lines() == [
        f"db-1: root@install-01 is changing it, since {holder['since']}: apply-all",
        f"hint: wait until it is done; if that kbpg is gone for good: ssh db-1 kill {holder['pid']}",
    ]


def test_the_lock_files_cannot_be_locked_by_others(hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    with Locks.acquire([hosts[0]], who="a", doing="b", directory=str(tmp_path)):
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("kbpg.*")}
    assert modes == {"kbpg.lock": 0o600, "kbpg.commands.lock": 0o600, "kbpg.holder": 0o644}


def test_a_directory_that_is_not_there_is_an_error(hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    with pytest.raises(HostError, match="db-1: `take the lock` failed") as caught:
        refusal(hosts[0], tmp_path / "none")
    assert "kbpg.lock" in caught.value.detail[0]


def test_one_host_that_is_held_lets_go_of_the_others(
    hosts: tuple[SshHost, SshHost], new_sshd: Sshd, tmp_path: Path
) -> None:
    first, second = hosts
    with connect("db-2", "127.0.0.1", new_sshd.settings, accept_new=True) as other:
        # All are this machine, so the second to come finds the lock taken by the first.
        with (
            pytest.raises(LockHeld),
            Locks.acquire([first, other], who="a", doing="b", directory=str(tmp_path)),
        ):
            pytest.fail("one lock was had twice")
        assert (first.guard, other.guard) == (None, None)
        assert refusal(second, tmp_path) is None


def test_a_controller_that_ends_frees_it(sshd: Sshd, hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    process = controller(sshd, tmp_path)
    assert refusal(hosts[0], tmp_path)
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(5) == 0
    assert refusal(hosts[0], tmp_path) is None


def test_a_controller_that_is_killed_frees_it(
    sshd: Sshd, hosts: tuple[SshHost, SshHost], tmp_path: Path
) -> None:
    process = controller(sshd, tmp_path)
    assert refusal(hosts[0], tmp_path)
    end(process)
    assert free_within(hosts[0], tmp_path, 2.0) < 2.0


def test_the_last_command_of_a_killed_controller_is_waited_for(
    sshd: Sshd, hosts: tuple[SshHost, SshHost], tmp_path: Path
) -> None:
    process = controller(
        sshd, tmp_path, "sh", "-c", f"touch {tmp_path}/began; sleep 3; touch {tmp_path}/done"
    )
    deadline = time.monotonic() + 5
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    end(process)

    said = set()
    deadline = time.monotonic() + 10
    while (error := refusal(hosts[0], tmp_path)) and time.monotonic() < deadline:
        assert not (tmp_path / "done").exists() or "still runs" not in error.message
        said.add(error.message)
        time.sleep(0.05)
    assert error is None
    assert (tmp_path / "done").exists()
    assert "db-1: a command of root@first's apply-all still runs there, though that kbpg is gone" in said


def test_a_daemon_that_a_command_started_does_not_keep_it(
    hosts: tuple[SshHost, SshHost], tmp_path: Path
) -> None:
    with Locks.acquire([hosts[0]], who="a", doing="b", directory=str(tmp_path)):
        hosts[0].run(["sh", "-c", "sleep 10 >/dev/null 2>&1 &"])
    assert refusal(hosts[1], tmp_path) is None


def test_every_command_keeps_the_second_file_locked(hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    free = ["flock", "--nonblock", "--exclusive", str(tmp_path / "kbpg.commands.lock"), "true"]
    with Locks.acquire([hosts[0]], who="a", doing="b", directory=str(tmp_path)):
        assert hosts[0].run(free, check=False).status == 1
        told = b"".join(hosts[0].stream(["sh", "-c", '"$@" || echo locked', "sh", *free]))
        assert told == b"locked\n"
        assert hosts[1].run(free, check=False).ok
    assert hosts[0].run(free, check=False).ok


def test_a_lost_lock_stops_the_next_command(hosts: tuple[SshHost, SshHost], tmp_path: Path) -> None:
    with Locks.acquire([hosts[0]], who="a", doing="b", directory=str(tmp_path)):
        holder = dict(line.split(" ", 1) for line in (tmp_path / "kbpg.holder").read_text().splitlines())
        os.kill(int(holder["pid"]), signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not hosts[0].lock_lost() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(LockLost, match="db-1: the lock was lost, so `true` was not run"):
            hosts[0].run(["true"])
        with (
            pytest.raises(LockLost, match="so `POST /switchover` was not run"),
            noted(hosts[0], ("POST", "/switchover")),
        ):
            pytest.fail("it was sent")
    assert not hosts[0].lock_lost()
