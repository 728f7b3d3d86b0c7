"""Clients of the PgBouncers wait while the leader changes or restarts, and go on, whatever happens in between.

PAUSE lets transactions end and closes the connections to the server; clients wait. Each proxy is by itself: what
goes wrong with one does not hold up the clients of another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kbpg import pooler
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import HostError, KbpgError
from kbpg.hosts.port import Writer
from kbpg.layout import PGBOUNCER
from kbpg.operations import pause_guard
from kbpg.resources.docker import PROXY_CONTAINERS, ContainersFact, runs

if TYPE_CHECKING:
    import psycopg

PATIENCE = 2.5
"""Seconds for the transactions in flight to end: all other clients wait for them."""
RESUME_TIMEOUT = 3.0
"""Seconds for RESUME, before the guard is told to do it."""

Result = TypeVar("Result")


def serving(site: Site, without: Iterable[str] = ()) -> list[str]:
    """Return the connected proxies whose PgBouncer runs, but those `without`."""
    fact: ContainersFact = PROXY_CONTAINERS
    names = [name for name in site.context.proxy_names if name in site.hosts and name not in set(without)]
    facts = site.look(dict.fromkeys(names, (fact,)))
    return [name for name in names if runs(facts.known(fact, name), PGBOUNCER)]


class Clients:
    """The clients of one PgBouncer. `problem` is why they may wait longer than needed."""

    def __init__(self, context: Context, host: Writer) -> None:
        self.name, self.problem = host.name, ""
        self._context, self._host = context, host
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._guard: pause_guard.Guard | None = None
        self._paused: Future[None] | None = None
        self.over = False

    def get_ready(self, doing: str, leaving: str) -> None:
        """Arm the guard and open the console, once to wait in PAUSE, once for RESUME. Raises `HostError`."""
        import psycopg

        from kbpg import sql

        self._guard = pause_guard.arm(self._context, self._host, doing, leaving)
        seconds = pause_guard.bound(self._context) + 2 * RESUME_TIMEOUT
        login = pooler.console(self._context)

        def opened() -> psycopg.Connection[Any]:
            return self._stack.enter_context(sql.connect(self._host, login, pooled=True, seconds=seconds))

        try:
            self._for_pause, self._for_resume = opened(), opened()
        except (OSError, psycopg.Error) as error:
            why = f"PgBouncer's console does not answer: {sql.short(error)}"
            raise HostError(self.name, why) from error

    def pause(self) -> None:
        """Give PAUSE; `is_paused` waits for it."""
        self._paused = _started(lambda: pooler.give(self._host, self._for_pause, "PAUSE"))

    def is_paused(self, ends: float) -> bool:
        """Return whether all transactions ended until `ends` (monotonic). Raises `HostError` when it was refused.

        A pause that somebody else began is not ended here.
        """
        import psycopg

        from kbpg import sql

        assert self._paused is not None  # noqa: S101 (`pause` comes before)
        try:
            self._paused.result(max(0.0, ends - time.monotonic()))
        except NotInTime:
            return False
        except (OSError, psycopg.Error) as error:
            if "already suspended/paused" in str(error):  # admin_cmd_pause in PgBouncer's src/admin.c
                self._paused = None
            raise HostError(
                self.name,
                f"PgBouncer did not take PAUSE: {sql.short(error)}",
                hint="kbpg diagnose says whether somebody paused it; --repair ends that",
            ) from error
        return True

    def beat(self) -> None:
        """Tell the guard that kbpg lives."""
        if self._guard and not self.over:
            self._guard.beat()

    def under_way(self) -> bool:
        """Tell the guard that the handover is asked for; return whether it watches."""
        return bool(self._guard and self._guard.under_way())

    def go_on(self) -> None:
        """RESUME, once, by the console or by the guard; never raises.

        Returns when it was taken, or when the guard has given up: whoever comes second waits for that too.
        """
        with self._lock:
            if self.over:
                return
            self.over = True
            guard = self._guard
            if guard and self._paused is not None and not self._resumed():
                self.problem = self._by_guard(guard)
            elif guard:
                guard.dismiss()

    def _by_guard(self, guard: pause_guard.Guard) -> str:
        """Let the guard end the pause; return the problem where it could not, or where that is not known."""
        ended = guard.resume()
        if ended == pause_guard.FAILED:
            return (
                "its clients still wait: neither PgBouncer's console nor its signal ended the pause, for "
                f"{pause_guard.PERSISTENCE} s; once Docker answers there: kbpg step 04 --limit {self.name}"
            )
        if ended != pause_guard.RESUMED:
            return (
                "cannot be reached any more; a guard there lets its clients go on within "
                f"{pause_guard.bound(self._context)} s of the pause"
            )
        return ""

    def _resumed(self) -> bool:
        """Return whether PgBouncer took RESUME, or was not paused any more."""
        import psycopg

        from kbpg import sql

        try:
            with sql.cut_after(self._for_resume, RESUME_TIMEOUT):
                pooler.give(self._host, self._for_resume, "RESUME")
        except (OSError, psycopg.Error) as error:
            return "not paused" in str(error)
        except KbpgError:  # the journal cannot be written; the guard finds out whether it was taken
            return False
        return True

    def close(self) -> None:
        """End the connections to the console; never raises."""
        with suppress(Exception):
            self._stack.close()


class WaitingClients:
    """The clients of some PgBouncers: as a context, they go on at its end at the latest.

    `doing` is for the note on the proxies, `leaving` who is going to be no leader ("" where that does not change).
    With `lenient` a PgBouncer that cannot be paused is left out, and said: a rollout may be what mends it. One that
    refuses PAUSE is a problem besides, because somebody else may have paused it.
    """

    def __init__(
        self, site: Site, names: Sequence[str], doing: str, leaving: str = "", *, lenient: bool = False
    ) -> None:
        self._site, self._doing, self._leaving, self._lenient = site, doing, leaving, lenient
        self.each = {name: Clients(site.context, site.hosts[name]) for name in names}
        self._left_out: dict[str, str] = {}
        self._ended = threading.Event()
        self.since = 0.0

    def __enter__(self) -> WaitingClients:
        try:
            self._side_by_side(self._get_ready)
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        return self

    def _get_ready(self, clients: Clients) -> None:
        try:
            clients.get_ready(self._doing, self._leaving)
        except HostError as error:
            clients.go_on()
            clients.close()
            if not self._lenient:
                raise
            self._leave_out(clients, error)

    def _leave_out(self, clients: Clients, error: HostError) -> None:
        self._site.say(f"clients of {clients.name} cannot be made to wait: {error.reason}")
        self.each.pop(clients.name)

    def _is_paused(self, clients: Clients, ends: float) -> bool:
        """Return whether its clients wait at `ends`, or are left out. Raises `HostError` where it must not be."""
        try:
            return clients.is_paused(ends)
        except HostError as error:
            if not self._lenient:
                raise
            clients.go_on()
            clients.close()
            self._left_out[clients.name] = clients.problem or f"{error.reason}; {error.hint}"
            self._leave_out(clients, error)
            return True

    def _beat(self) -> None:
        while not self._ended.wait(pause_guard.BEAT):
            for clients in list(self.each.values()):
                clients.beat()

    def pause(self, *, cut: bool = False) -> bool:
        """Let clients wait once their transactions have ended; return whether they do.

        Where some do not end within `PATIENCE` everybody goes on, unless they are to be `cut`. Raises `HostError`
        where PAUSE is refused, unless that is to be `lenient`, or where a guard is gone.
        """
        self.since = time.monotonic()
        ends = self.since + PATIENCE
        for clients in self.each.values():
            clients.pause()
        quiet = all(self._side_by_side(lambda clients: self._is_paused(clients, ends)).values())
        if not quiet and not cut:
            self.go_on()
            return False
        lost = [name for name, clients in self.each.items() if not clients.under_way()]
        if lost:
            raise HostError(lost[0], "the guard of the pause was lost, so nothing was done")
        return True

    def go_on(self, name: str | None = None) -> None:
        """Let the clients of one PgBouncer go on, or of all; never raises."""
        chosen = [clients for each, clients in self.each.items() if name in (None, each)]
        with suppress(Exception), ThreadPoolExecutor(max(1, len(chosen))) as pool:
            list(pool.map(Clients.go_on, chosen))

    @property
    def waiting(self) -> bool:
        """Return whether clients of any proxy still wait."""
        return any(not clients.over for clients in self.each.values())

    @property
    def problems(self) -> dict[str, str]:
        """Return what is known of clients that may wait longer, by proxy."""
        found = {name: clients.problem for name, clients in self.each.items() if clients.problem}
        return {**self._left_out, **found}

    def __exit__(self, *exc: object) -> None:
        self.go_on()
        self._ended.set()
        for clients in self.each.values():
            clients.close()

    def _side_by_side(self, work: Callable[[Clients], Result]) -> dict[str, Result]:
        """Do it for each and return what came of it; raises the first `KbpgError` after all have ended."""
        running = {name: _started(partial(work, clients)) for name, clients in list(self.each.items())}
        errors = [error for future in running.values() if (error := future.exception())]
        if errors:
            raise next((error for error in errors if isinstance(error, KbpgError)), errors[0])
        return {name: future.result() for name, future in running.items()}


def _started(work: Callable[[], Any]) -> Future[Any]:
    """Do it in a thread that nobody has to wait for when the program ends."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (raised again by whoever asks for the result)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
