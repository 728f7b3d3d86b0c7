"""The guard of a pause, run by a real shell beside a `docker` that writes down what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kbpg.hosts.fake import FakeHost
from kbpg.operations import pause_guard
from kbpg.operations.pause_guard import FAILED, RESUMED, Left, arm, bound, left_behind, note_path, read_note

from .small_cluster import context

DOCKER = """#!/bin/sh
echo "$@" >> "$DOCKER_LOG"
case "$1 $2" in
  "inspect pgbouncer") echo "${RUNS:-true}" ;;
  "exec pgbouncer")
    [ ! -e "$HANGS" ] || exec sleep 30
    [ ! -e "$BROKEN" ] ;;
  *) cat "$STATS" ;;
esac
"""
STATS = "primary,{name},0,0,0,1,,9,9,9,,0,,0,0,0,0,{status},1,1,0\n"
DEADLINE = 10.0


class Shell:
    """One guard: what it was told by `docker`, and the note."""

    def __init__(self, directory: Path) -> None:
        self.note, self.log, self.stats = (directory / name for name in ("pause", "log", "stats"))
        self.broken, self.hangs = directory / "broken", directory / "hangs"
        (directory / "docker").write_text(DOCKER)
        (directory / "docker").chmod(0o755)
        self.log.touch()
        self.leads("db-2", "UP")
        self.environment = {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "DOCKER_LOG": str(self.log),
            "STATS": str(self.stats),
            "BROKEN": str(self.broken),
            "HANGS": str(self.hangs),
        }

    def start(
        self,
        *,
        limit: int = 8,
        silence: str = "5",
        leaving: str = "db-2",
        persistence: str = "60",
        patience: str = "5",
        **more: str,
    ) -> None:
        words = (
            str(self.note),
            str(limit),
            silence,
            "pgbouncer",
            "haproxy",
            leaving,
            "switchover from a to b",
            persistence,
            patience,
        )
        self.process = subprocess.Popen(
            ["setsid", "--wait", "sh", "-c", pause_guard._SCRIPT, "kbpg-guard", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            env={**self.environment, **more},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"kbpg-guard:armed\n"

    def leads(self, name: str, status: str) -> None:
        self.stats.write_text(STATS.format(name=name, status=status))

    def say(self, word: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word)
        self.process.stdin.flush()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def until(self, so: Callable[[], bool]) -> float:
        started = time.monotonic()
        while not so():
            assert time.monotonic() < started + DEADLINE, self.log.read_text()
            time.sleep(0.02)
        return time.monotonic() - started

    def end(self) -> int:
        return self.process.wait(DEADLINE)

    def printed(self) -> str:
        """Return what it printed since it was armed; it has ended then."""
        assert self.process.stdout is not None
        return self.process.stdout.read().decode()

    @property
    def tries(self) -> int:
        return self.log.read_text().count("exec pgbouncer sh -c kill -USR2 1")

    @property
    def resumed(self) -> bool:
        return self.tries > 0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    for pipe in (found.process.stdin, found.process.stdout):
        if pipe:
            pipe.close()
    if found.process.poll() is None:
        os.kill(found.process.pid, signal.SIGKILL)
        found.process.wait(DEADLINE)


def left(shell: Shell) -> Left:
    found = read_note(shell.note.read_text())
    assert found is not None
    return found


def test_a_pause_that_ends_well_leaves_nothing(shell: Shell) -> None:
    shell.start()
    shell.say(b"..h.d")
    assert shell.end() == 0
    assert not shell.note.exists()
    assert not shell.resumed


def test_a_guard_that_is_told_to_resumes_and_forgets(shell: Shell) -> None:
    shell.start()
    shell.say(b".r")
    assert shell.end() == 0
    assert shell.resumed
    assert not shell.note.exists()
    assert shell.printed() == f"{RESUMED}\n"


def test_a_resume_that_fails_is_tried_again_until_it_is_taken(shell: Shell) -> None:
    shell.broken.touch()
    shell.start()
    shell.say(b".hr")
    shell.until(lambda: shell.tries >= 3)
    lines = left(shell).lines
    assert lines[-1].endswith(
        "PgBouncer's console did not take RESUME: the guard cannot let the clients of pgbouncer go on yet, and tries "
        "again"
    )
    assert len(lines) == 3
    assert not left(shell).ended
    assert not left(shell).lasts(time.time())
    shell.broken.unlink()
    assert shell.end() == 0
    assert not shell.note.exists()
    assert shell.printed() == f"{RESUMED}\n"


def test_a_resume_that_is_never_taken_leaves_the_note_and_is_said(shell: Shell) -> None:
    shell.broken.touch()
    shell.start(persistence="2")
    shell.say(b"r")
    assert shell.end() == 1
    assert shell.tries >= 3
    assert left(shell).lines[-1].endswith("the guard could not let the clients of pgbouncer go on")
    assert shell.printed() == f"{FAILED}\n"


def test_a_docker_that_hangs_is_asked_again(shell: Shell) -> None:
    shell.hangs.touch()
    shell.start(patience="0.3")
    shell.hang_up()
    shell.until(lambda: shell.tries >= 2)
    shell.hangs.unlink()
    assert shell.end() == 0
    assert left(shell).ended


def test_in_a_pgbouncer_that_does_not_run_nobody_waits(shell: Shell) -> None:
    shell.broken.touch()
    shell.start(RUNS="false")
    shell.say(b"r")
    assert shell.end() == 0
    assert shell.tries == 1
    assert shell.printed() == f"{RESUMED}\n"


def test_a_controller_that_dies_before_the_handover(shell: Shell) -> None:
    shell.start()
    shell.say(b".")
    shell.hang_up()
    assert shell.end() == 0
    assert shell.resumed
    first, last = left(shell).lines
    assert first.endswith("switchover from a to b: clients of pgbouncer are made to wait")
    assert last.endswith("killed or cut off: the guard let the clients of pgbouncer go on")
    assert left(shell).ended


def test_a_controller_that_dies_meanwhile_the_new_leader_is_waited_for(shell: Shell) -> None:
    shell.start()
    shell.say(b".h")
    shell.hang_up()
    shell.until(lambda: shell.log.read_text().count("exec haproxy") >= 2)
    assert not shell.resumed
    shell.leads("db-3", "DOWN 1/2")
    shell.leads("db-3", "UP 1/2")
    assert shell.end() == 0
    assert shell.resumed
    assert len(left(shell).lines) == 3


def test_a_handover_that_does_not_succeed_ends_at_the_bound(shell: Shell) -> None:
    started = time.monotonic()
    shell.start(limit=2)
    shell.say(b".h")
    shell.hang_up()
    assert shell.end() == 0
    assert shell.resumed
    assert 0.9 < time.monotonic() - started < 4


def test_a_cable_that_is_cut_says_nothing(shell: Shell) -> None:
    shell.start(silence="0.5")
    assert shell.end() == 0
    assert shell.resumed
    assert "was heard no more" in left(shell).lines[-1]


def test_no_pause_outlasts_its_bound_however_long_kbpg_lives(shell: Shell) -> None:
    shell.start(limit=1)

    def beaten() -> bool:
        if shell.process.poll() is None:
            shell.say(b".")
        return shell.resumed

    assert shell.until(beaten) < 3
    shell.end()
    assert "the pause had lasted 1 s" in left(shell).lines[-1]


def test_a_session_that_is_hung_up_on_does_not_take_the_guard_along(shell: Shell) -> None:
    """Neither where its session's leader goes, nor where it is told itself; nor does it end the pause for that."""
    shell.start()
    leader = shell.process.pid
    (guard,) = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    os.killpg(leader, signal.SIGHUP)
    os.kill(int(guard), signal.SIGHUP)
    time.sleep(0.3)
    shell.say(b".")
    assert not shell.resumed
    shell.hang_up()
    shell.until(lambda: shell.resumed)


def test_a_pgbouncer_that_cannot_be_told_is_said(shell: Shell) -> None:
    shell.broken.touch()
    shell.start(persistence="1")
    shell.hang_up()
    assert shell.end() == 1
    assert not left(shell).ended
    assert "could not let the clients" in left(shell).lines[-1]


def test_a_note_that_cannot_be_written_means_no_guard(shell: Shell, tmp_path: Path) -> None:
    shell.note = tmp_path / "nowhere" / "pause"
    with pytest.raises(AssertionError):
        shell.start()
    assert shell.process.wait(DEADLINE) != 0


# --- around the script ---------------------------------------------------------------------------------


def test_what_kbpg_tells_the_guard() -> None:
    host = FakeHost("px-1")
    guard = arm(context(), host, "switchover", "db-2")
    guard.beat()
    assert guard.under_way()
    guard.dismiss()
    assert host.watches[0].sent == b".hd"
    assert not guard.alive


@pytest.mark.parametrize(
    ("alive", "printed", "wanted"),
    [
        (True, "kbpg-guard:resumed\n", RESUMED),
        (True, "kbpg-guard:failed\n", FAILED),
        (True, "", ""),
        (False, "kbpg-guard:resumed\n", ""),
    ],
)
def test_what_the_guard_says_of_a_resume(alive: bool, printed: str, wanted: str) -> None:
    host = FakeHost("px-1")
    guard = arm(context(), host, "switchover", "db-2")
    host.watches[0].last, host.watches[0].alive = printed, alive
    assert guard.resume() == wanted


def test_the_guard_tries_for_a_minute_at_least() -> None:
    assert pause_guard.PERSISTENCE >= 60


@pytest.mark.parametrize(("patience", "wanted"), [(60, 20), (0, 20), (12, 8), (1, 2)])
def test_a_pause_ends_before_pgbouncer_gives_its_clients_up(patience: int, wanted: int) -> None:
    assert bound(context(f"pgbouncer: {{query_wait_timeout: {patience}}}\n")) == wanted


def test_notes() -> None:
    assert note_path(context()) == "/opt/keybuzz/kbpg/pause"
    assert left_behind({"px-1": None, "px-2": "\n", "px-3": "2026-11-23T16:00:00Z x\n"}) == {
        "px-3": Left(("2026-11-23T16:00:00Z x",))
    }


@pytest.mark.parametrize(
    ("lines", "lasts"),
    [
        (("2026-11-23T16:00:00Z clients wait",), True),
        (("2026-11-23T15:59:00Z clients wait",), False),
        (
            ("2026-11-23T16:00:00Z clients wait", "2026-11-23T16:00:01Z the guard let the clients go on"),
            False,
        ),
        (("something else",), False),
    ],
)
def test_whether_a_pause_may_still_be_under_way(lines: tuple[str, ...], lasts: bool) -> None:
    now = 1795449602.0  # 2026-11-23 16:00:02 UTC
    assert Left(lines).lasts(now) is lasts
