"""One kbpg at a time: a lock on every reachable host, which frees itself when its holder dies.

Two lock files, both held with flock(2), so that the kernel frees them with the last process that has them:

- `kbpg.lock`, exclusively, by a process whose standard input is an SSH channel of ours. However the controller
  ends, the channel ends with it, and the process with the channel.
- `kbpg.commands.lock`, shared, by each command that kbpg runs. A command outlives a controller that is killed,
  so whoever takes the lock must also have had this file exclusively for a moment: then no such command is left. Most
  end soon, and are waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from kbpg.errors import HostError, LockHeld
from kbpg.hosts.port import Holding
from kbpg.hosts.settings import Guard

DIRECTORY = "/run"
"""Where the files are: root's alone, and empty after a reboot, as locks should be."""

ACQUIRE_TIMEOUT = 20.0
"""Seconds a host may take to answer; longer than a dead one takes to be noticed."""
PATIENCE = 10
"""Seconds for the last command of a kbpg that was killed to end; a node restarts within them."""

_MARKER = "kbpg-lock:"

Item = TypeVar("Item")
Result = TypeVar("Result")

# The name is written before the wait: others are told a pid to kill. After a wait in vain the file says again whose
# command it was. `flock` waits without the first file: it would hold the lock in place of a shell that was killed.
_SCRIPT = """\
umask 077
exec 8>>"$1/kbpg.lock" 9>>"$1/kbpg.commands.lock" || exit 1
tell() { printf '%s%s\\t' kbpg-lock: "$1"; tr '\\n' '\\t' 2>/dev/null <"$2"; echo; exit 0; }
flock --nonblock 8 || tell held "$1/kbpg.holder"
former=$(cat "$1/kbpg.holder" 2>/dev/null)
umask 022
printf '%s\\n' "who $2" "since $3" "doing $4" "pid $$" >"$1/kbpg.holder" || exit 1
if ! flock --timeout "$5" 9 8>&-; then
  printf '%s\\n' "$former" >"$1/kbpg.holder"
  tell running "$1/kbpg.holder"
fi
exec 9>&-
echo kbpg-lock:ok
exec cat >/dev/null
"""


class Lockable(Protocol):
    """A host that can be locked: what `SshHost` and `FakeHost` have."""

    name: str
    guard: Guard | None

    def hold(self, argv: Sequence[str], *, shown: str, marker: str, timeout: float) -> Holding:
        """Start a process that runs until it is released, and wait for the line that begins with `marker`."""
        ...


@dataclass(frozen=True)
class _Taken:
    """The lock on one host; also the `guard` of the commands that run there."""

    host: Lockable
    holding: Holding
    path: str

    @property
    def alive(self) -> bool:
        return self.holding.alive

    def release(self) -> None:
        self.host.guard = None
        self.holding.release()


class Locks:
    """Locks that are held for the length of a context."""

    @staticmethod
    @contextlib.contextmanager
    def acquire(
        hosts: Iterable[Lockable],
        *,
        who: str,
        doing: str,
        directory: str = DIRECTORY,
        patience: int = PATIENCE,
    ) -> Iterator[None]:
        """Lock all `hosts` or none, side by side, and let go at the end of the context.

        `who` ("root@install-01") and `doing` ("apply-all") are what others are told. `patience` is for how many
        seconds the last command of a kbpg that was killed is waited for, on all hosts at once. A lock that is lost
        in between is noticed by whoever would change the host next (`Reader.lock_lost`). Raises `LockHeld` with who
        has it, since when and doing what, or the `HostError` of a host where it could not be tried.
        """
        since = datetime.now(UTC).isoformat(timespec="seconds")
        words = [" ".join(word.split()) for word in (directory, who, since, doing)]
        argv = ("sh", "-c", _SCRIPT, "kbpg-lock", *words, str(patience))
        take = partial(
            _take, argv=argv, path=f"{directory}/kbpg.commands.lock", timeout=ACQUIRE_TIMEOUT + patience
        )
        taken = _take_all(list(hosts), take)
        try:
            yield
        finally:
            _each(_Taken.release, taken)


def _take_all(
    hosts: Sequence[Lockable], take: Callable[[Lockable], _Taken | LockHeld | HostError]
) -> list[_Taken]:
    outcomes = _each(take, hosts)
    taken = [outcome for outcome in outcomes if isinstance(outcome, _Taken)]
    errors = [outcome for outcome in outcomes if not isinstance(outcome, _Taken)]
    if not errors:
        for lock in taken:
            lock.host.guard = lock
        return taken
    _each(_Taken.release, taken)
    busy = [error for error in errors if isinstance(error, LockHeld)]
    if not busy:
        raise errors[0]
    raise LockHeld(
        busy[0].message,
        detail=(*busy[0].detail, *(f"also {error.message}" for error in busy[1:])),
        hint=busy[0].hint,
    )


def _each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def _take(host: Lockable, argv: Sequence[str], path: str, timeout: float) -> _Taken | LockHeld | HostError:
    try:
        holding = host.hold(argv, shown="take the lock", marker=_MARKER, timeout=timeout)
    except HostError as error:
        return error
    if holding.answer == "ok":
        return _Taken(host, holding, path)
    holding.release()
    return _held(host.name, *holding.answer.split("\t"))


def _held(host: str, state: str, *lines: str) -> LockHeld:
    """Return the error for a host where `state` is "held" or "running"; `lines` are its holder file's."""
    holder = dict(line.split(" ", 1) for line in lines if " " in line)
    who, doing = holder.get("who", "somebody"), holder.get("doing", "something")
    since = f"since {holder['since']}" if "since" in holder else "since just now"
    if state == "running":
        return LockHeld(
            f"{host}: a command of {who}'s {doing} still runs there, though that kbpg is gone",
            detail=(f"it began {since}",),
            hint="wait until it ends: kbpg ends each command at its deadline",
        )
    pid = holder.get("pid")
    gone = f"; if that kbpg is gone for good: ssh {host} kill {pid}" if pid else ""
    return LockHeld(f"{host}: {who} is changing it, {since}: {doing}", hint=f"wait until it is done{gone}")
