"""Taking locks on several hosts: all or none. That a lock frees itself is tested with real servers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import cast

import pytest

from kbpg.engine import lock
from kbpg.engine.lock import Locks
from kbpg.errors import HostError, LockHeld, Unreachable
from kbpg.hosts.become import Way
from kbpg.hosts.fake import FakeHolding, FakeHost
from kbpg.hosts.link import Link
from kbpg.hosts.local import LocalHost
from kbpg.hosts.ssh import SshHost


class Busy(FakeHost):
    """A host whose lock somebody else has; `told` is what the host says of that."""

    told = "held"

    def hold(self, argv: Sequence[str], *, shown: str, marker: str, timeout: float) -> FakeHolding:
        self.held = FakeHolding(self.told)
        return self.held


class Gone(FakeHost):
    """A host that cannot be reached."""

    def hold(self, argv: Sequence[str], *, shown: str, marker: str, timeout: float) -> FakeHolding:
        raise Unreachable(self.name, "no answer")


def acquire(*hosts: FakeHost) -> None:
    with Locks.acquire(hosts, who="root@here", doing="apply-all"):
        pytest.fail("the lock was had")


def test_all_hosts_are_guarded_while_the_lock_is_held() -> None:
    hosts = [FakeHost("a"), FakeHost("b")]
    with Locks.acquire(hosts, who="root@here", doing="apply-all"):
        assert [host.guard.path for host in hosts if host.guard] == ["/run/kbpg.commands.lock"] * 2
        assert not any(host.lock_lost() for host in hosts)
    assert [host.guard for host in hosts] == [None, None]
    assert [host.held.alive for host in hosts if host.held] == [False, False]


def test_a_lock_whose_process_was_ended_is_lost_on_that_host_alone() -> None:
    hosts = [FakeHost("a"), FakeHost("b")]
    with Locks.acquire(hosts, who="root@here", doing="apply-all"):
        assert hosts[0].held is not None
        hosts[0].held.alive = False
        assert [host.lock_lost() for host in hosts] == [True, False]
    assert not hosts[0].lock_lost()


@pytest.mark.parametrize(
    ("connected", "held", "lost"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_broken_connection_is_no_lost_lock(connected: bool, held: bool, lost: bool) -> None:
    host = SshHost("a", "192.0.2.1", cast(Link, SimpleNamespace(alive=connected)), Way())
    assert not host.lock_lost()
    host.guard = SimpleNamespace(path="", alive=held)
    assert host.lock_lost() is lost


def test_an_error_inside_lets_go_too() -> None:
    host = FakeHost("a")
    with pytest.raises(RuntimeError), Locks.acquire([host], who="root@here", doing="apply-all"):
        raise RuntimeError
    assert host.guard is None
    assert host.held is not None
    assert not host.held.alive


def test_no_hosts_are_no_locks() -> None:
    with Locks.acquire([], who="root@here", doing="apply-all"):
        pass


@pytest.mark.parametrize("other", [Busy, Gone])
def test_one_that_cannot_be_had_lets_go_of_the_others(other: type[FakeHost]) -> None:
    free = FakeHost("free")
    with pytest.raises((LockHeld, HostError)):
        acquire(free, other("other"))
    assert free.guard is None
    assert free.held is not None
    assert not free.held.alive


def test_every_host_that_is_held_is_named() -> None:
    first, second = Busy("first"), Busy("second")
    first.told = "held\twho root@there\tsince 2026-11-23T10:00:00+00:00\tdoing step 03\tpid 77\t"
    second.told = "running\twho root@there\tsince 2026-11-23T10:00:00+00:00\tdoing step 03\tpid 78\t"
    with pytest.raises(LockHeld) as caught:
        acquire(first, FakeHost("free"), second)
    assert caught.value.lines() == [
        "first: root@there is changing it, since 2026-11-23T10:00:00+00:00: step 03",
        "  also second: a command of root@there's step 03 still runs there, though that kbpg is gone",
        "hint: wait until it is done; if that kbpg is gone for good: ssh first kill 77",
    ]


def test_a_held_lock_matters_more_than_an_unreachable_host() -> None:
    with pytest.raises(LockHeld):
        acquire(Gone("gone"), Busy("busy"))


def test_a_holder_that_has_not_written_its_name_yet_is_somebody() -> None:
    with pytest.raises(LockHeld) as caught:
        acquire(Busy("busy"))
    assert caught.value.message == "busy: somebody is changing it, since just now: something"
    assert caught.value.hint == "wait until it is done"


@pytest.mark.parametrize(("patience", "told"), [(0, "running"), (20, "ok")])
def test_the_last_command_of_a_killed_kbpg_is_waited_for(patience: int, told: str, tmp_path: Path) -> None:
    """By the script of the lock itself, with a command that holds its file as kbpg's commands do."""
    script = lock._SCRIPT.replace("exec cat >/dev/null", "")
    argv = ["flock", "--shared", str(tmp_path / "kbpg.commands.lock"), "sh", "-c", "echo began; read line"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stdout.readline() == b"began\n"
        Timer(0.3, command.stdin.close).start()
        words = [str(tmp_path), "root@h", "now", "apply-all", str(patience)]
        output = LocalHost().run(["sh", "-c", script, "kbpg-lock", *words])
    assert output.stdout.startswith(f"{lock._MARKER}{told}")


FORMER = "who root@former\nsince then\ndoing step 03\npid 111\n"


def test_who_waits_for_the_last_command_of_another_is_who_has_the_lock(tmp_path: Path) -> None:
    """A third is told whom to end: not the one before, whose pid may be anybody's by now."""
    holder = tmp_path / "kbpg.holder"
    holder.write_text(FORMER)
    words = [str(tmp_path), "root@second", "now", "apply-all"]
    script = ["sh", "-c", lock._SCRIPT, "kbpg-lock", *words]
    command = ["flock", "--shared", str(tmp_path / "kbpg.commands.lock"), "sh", "-c", "echo began; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as former:
        assert former.stdin is not None
        assert former.stdout is not None
        assert former.stdout.readline() == b"began\n"
        waiting = [*script, "2"]
        with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
            deadline = time.monotonic() + 1.5
            while "second" not in holder.read_text() and time.monotonic() < deadline:
                time.sleep(0.01)
            third = LocalHost().run([*script, "0"]).stdout
            assert second.stdout is not None
            in_vain = second.stdout.read()
        former.stdin.close()
    told = "who root@second\tsince now\tdoing apply-all\tpid"
    assert third == f"{lock._MARKER}held\t{told} {second.pid}\t\n"
    assert in_vain == f"{lock._MARKER}running\twho root@former\tsince then\tdoing step 03\tpid 111\t\n"
    assert holder.read_text() == FORMER


def test_what_others_are_told_is_on_one_line() -> None:
    class Curious(FakeHost):
        words: tuple[str, ...] = ()

        def hold(self, argv: Sequence[str], *, shown: str, marker: str, timeout: float) -> FakeHolding:
            self.words = tuple(argv)
            return FakeHolding("ok")

    host = Curious("a")
    with Locks.acquire([host], who="root@h\nere", doing="apply\tall", directory="/run/x"):
        pass
    assert (host.words[4], host.words[5], host.words[7]) == ("/run/x", "root@h ere", "apply all")
