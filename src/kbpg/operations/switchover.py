"""Planned handover of the leadership, through Patroni, while the clients of the PgBouncers wait."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import HostError, KbpgError, LockLost, NotConverged
from kbpg.facts import NotKnown
from kbpg.operations.candidates import any_will_do, await_fitness, choose
from kbpg.operations.clients_wait import LENIENT, Manner, clients_wait
from kbpg.operations.patroni_change import PatroniRefused, change_by_rest, wake
from kbpg.operations.pause_guard import bound
from kbpg.operations.waiting_clients import WaitingClients
from kbpg.operations.writable import Search, first_to_lead
from kbpg.patroni import NodeFact, leader_of

SETTLE = 60.0
"""Seconds until Patroni says that the new leader leads; it says so within a loop of it."""
ANSWER = 60.0
"""Seconds for Patroni to answer a switchover; measured: 2 to 6 s."""
CHECKPOINT_TIMEOUT = 600.0
"""Seconds for the checkpoint before it: a busy node has much to write."""
SHUTDOWN = 0.3
"""Seconds in which nobody can lead yet: Patroni looks every 0.3 s whether PostgreSQL has stopped (ADR 0023)."""


@dataclass(frozen=True)
class Handover:
    """A switchover that was done: who led, who leads, and for how many seconds clients waited, by proxy.

    `problems` are proxies whose clients may wait longer, and why; `proxies` those whose clients waited. When the time
    went by is in seconds after PAUSE was given, as seen from here: `asked` is when everybody waited and Patroni was
    asked, for `candidate` ("": for any), `led` when the new leader's PostgreSQL had left recovery, `written` when a
    write through each proxy was committed.
    """

    leaving: str
    leader: str
    proxies: tuple[str, ...] = ()
    waited: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    candidate: str = ""
    asked: float = 0.0
    led: float = 0.0
    written: dict[str, float] = field(default_factory=dict)

    def course(self) -> str:
        """Return when each phase ended, in a line."""
        phases = {"everybody waited": self.asked, f"{self.leader} led": self.led}
        phases |= {f"a write came through {name}": seconds for name, seconds in self.written.items()}
        return "seconds after PAUSE: " + ", ".join(f"{what} {when:.1f}" for what, when in phases.items())


def switchover(site: Site, *, leaving: str, to: str = "", manner: Manner = LENIENT) -> Handover:
    """Hand the leadership from `leaving` to `to`, or to the best replica, and return what was done.

    Clients of the connected PgBouncers wait meanwhile, in this `manner`, and go on as soon as a write through their
    proxy has succeeded. Raises `Refused` or `UsageError` where nobody can take over, `NotConverged` where nothing
    was done or nobody leads in time, `HostError`.
    """
    candidate = choose(site, leaving, to)
    await_fitness(site, leaving)
    named = candidate.name if to or not any_will_do(site, leaving) else ""
    doing = f"switchover from {leaving}" + (f" to {named}" if named else "")
    site.say(doing)
    checkpoint(site, leaving)
    with clients_wait(site, leaving, doing, manner) as clients:
        done = _hand_over(site, leaving, named, clients)
    done = replace(done, problems={**done.problems, **clients.problems})
    site.say(done.course())
    for name, seconds in done.waited.items():
        site.say(f"{done.leader} leads; clients of {name} waited {seconds:.1f} s")
    _settle(site, leaving, done.leader)
    return done


def _hand_over(site: Site, leaving: str, candidate: str, clients: WaitingClients) -> Handover:
    """Ask Patroni, and let the clients of each proxy go on once writes reach the new leader through it.

    With no `candidate` ("") the replicas settle it among them. That is a little quicker: where one is named, Patroni
    on the others sleeps before it follows (`Ha.process_unhealthy_cluster`, patroni/ha.py; ADR 0023), and the first
    commit waits for them. Where who is to lead dies meanwhile, `leaving` mostly takes its lock back (ADR 0010), and
    Patroni's answer ends the wait.
    """
    stop, refusals, silences = threading.Event(), list[HostError](), list[HostError]()
    asked = time.monotonic() - clients.since
    asking = threading.Thread(target=_ask, args=(site, leaving, candidate, refusals, silences, stop))
    asking.daemon = True
    asking.start()
    ends = clients.since + bound(site.context)
    others = [name for name in site.context.db_names if name != leaving and name in site.hosts]
    for name in others:
        threading.Thread(target=_wake, args=(site, name, clients, ends), daemon=True).start()
    leader = first_to_lead(site, others, ends, stop)
    led = time.monotonic() - clients.since
    done = Handover(leaving, leader or "", tuple(clients.each), candidate=candidate, asked=asked, led=led)
    if leader:
        _reach(site, done, clients, ends, stop)
    if refusals and (leader is None or done.problems):
        refused = refusals[0]
        refused.detail = (*refused.detail, f"clients go on, with {leaving} or whoever leads now")
        refused.hint = refused.hint or "kbpg status"
        raise refused
    if leader is None:
        raise NotConverged(
            f"nobody took over from {leaving} within {bound(site.context)} s; clients go on",
            detail=[silence.message for silence in silences],
            hint="kbpg status",
        )
    return done


def _reach(site: Site, done: Handover, clients: WaitingClients, ends: float, stop: threading.Event) -> None:
    """Let the clients of each proxy go on once a write through it is there, and note when, or why none is."""

    def reached(proxy: str) -> None:
        done.written.setdefault(proxy, time.monotonic() - clients.since)
        clients.go_on(proxy)
        done.waited.setdefault(proxy, time.monotonic() - clients.since)

    search = Search(site, done.leader, reached, stop)
    for name in search.run(list(clients.each), ends):
        if name not in done.written:  # a guard may still be at it to let its clients go on
            done.problems[name] = search.missed(name)


def _wake(site: Site, name: str, clients: WaitingClients, ends: float) -> None:
    """Let a replica notice at once that it leads, or who does: the first commit waits for one that follows."""
    time.sleep(SHUTDOWN)
    while clients.waiting and time.monotonic() < ends:
        with suppress(KbpgError):
            wake(site.context, site.hosts[name])
        time.sleep(INTERVAL)


def _ask(
    site: Site,
    leaving: str,
    candidate: str,
    refusals: list[HostError],
    silences: list[HostError],
    stop: threading.Event,
) -> None:
    """Ask the leader's Patroni: it acts at once, and answers a second after the new leader has the lock.

    Where it does not answer, or the connection is lost meanwhile, it may go on, with PostgreSQL stopped: clients must
    wait. An answer that it does not, or a request that was not sent, sets `stop`.
    """
    body = {"leader": leaving, **({"candidate": candidate} if candidate else {})}
    try:
        change_by_rest(site.context, site.hosts[leaving], "POST", "/switchover", body, ANSWER)
    except (PatroniRefused, LockLost) as refusal:
        refusals.append(refusal)
        stop.set()
    except HostError as silence:
        silences.append(silence)


def _settle(site: Site, leaving: str, leader: str) -> None:
    """Wait until Patroni, too, says that somebody else leads: `leader`, as PostgreSQL said.

    `leaving` may be away by now. Raises `NotConverged`, and `HostError` where the connection to `leader` has ended.
    """
    node = NodeFact(site.context.inventory.ports.patroni)
    names = [name for name in site.context.db_names if name in site.hosts]
    for _ in site.looks(SETTLE, each=[leader]):
        facts = site.look({host: [node] for host in names})
        with suppress(NotKnown):
            if leader_of(facts, node, names) != leaving:
                return
    raise NotConverged(f"{leaving} still leads {SETTLE:g} s after a switchover was asked for")


def checkpoint(site: Site, leader: str) -> None:
    """Write what is dirty now, so that the shutdown that follows is short. Raises `HostError`."""
    from psycopg.sql import SQL

    from kbpg import sql

    statement = SQL("SET statement_timeout = 0; CHECKPOINT")
    sql.execute(site.hosts[leader], site.context.superuser(), statement, seconds=CHECKPOINT_TIMEOUT)
