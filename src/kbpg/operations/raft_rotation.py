"""A new password for Raft: from one member to the next, in an order in which a majority never is on both sides.

Patroni reads the password at its start only, and members with different ones do not hear each other. With three of
them, A and C replicas and B the leader:

1. A restarts with the new password. It is alone in Raft, and streams from B; B and C are the majority.
2. B restarts with it, while clients wait (PAUSE): now A and B are the majority. C is alone, and follows what it knew.
   A takes over, or B takes its lock up again: Patroni decides.
3. C restarts with it.

Nobody is promoted without a majority, and the two majorities, before and after 2., have B in common, whose journal of
Raft outlives its restart: there are never two leaders, whatever dies when. B must not give its lock back as it stops:
C would take it, and lose it with the majority. Nor may its Patroni see that PostgreSQL is stopped. So Patroni is
frozen, PostgreSQL stopped cleanly, and the container restarted, by one script on B's own host, which goes on should
kbpg be killed; should it be ended too, the watchdog ends a frozen Patroni. From 1. to 3. one member is missing,
and a leader that dies is replaced by nobody until it is back.

Where Patroni has one synchronous standby by name (before 4.0), that is C in 2. It cannot take over, and B hesitates a
few seconds more.

What was done is asked of the members themselves, so a rotation that was killed is ended by the same call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from kbpg.credentials.rotation import RESUME
from kbpg.engine.site import INTERVAL, Site
from kbpg.errors import HostError, KbpgError, NotConverged, Refused
from kbpg.facts import NotKnown
from kbpg.layout import PATRONI, PATRONI_STOP
from kbpg.operations import raft_members, raft_sides
from kbpg.operations.candidates import SYNCHRONOUS
from kbpg.operations.clients_wait import Manner, clients_wait
from kbpg.operations.patroni_change import wake
from kbpg.operations.patroni_process import FREEZE
from kbpg.operations.pause_guard import bound
from kbpg.operations.pausing import differing
from kbpg.operations.postgresql_restart import RETURN_DEADLINE
from kbpg.operations.raft_sides import Sides
from kbpg.operations.switchover import checkpoint
from kbpg.operations.waiting_clients import WaitingClients
from kbpg.operations.writable import Search, first_to_lead
from kbpg.patroni import NodeFact, Replica, leader_of, streaming_of
from kbpg.raft_admin import addresses
from kbpg.resources.container import log_lines

ANSWER_DEADLINE = 30.0
"""Seconds for members to answer that may just be starting."""
READY_DEADLINE = 60.0
"""Seconds for a leader to be there, and for replicas to stream and to be counted, before another member goes."""
LEADER_STOP = 10
"""Seconds for the leader's PostgreSQL to stop; after them it is killed, which costs no commit but a recovery."""

# Without a time to stop in: PostgreSQL is down by then, and a frozen Patroni obeys nobody. `restart` is one order to
# Docker, carried out whatever becomes of who gave it. Should this end before it, the watchdog beside Patroni ends the
# frozen one (docs/adr/0016-watchdog.md).
_OVER = r"""
trap '' HUP PIPE TERM
exec >/dev/null
docker exec "$1" sh -c "$2" || echo "PostgreSQL did not stop cleanly" >&2
docker restart -t 0 "$1"
"""
_STOP = f'{FREEZE} && pg_ctl stop -D "$PGDATA" -m fast -s -t {LEADER_STOP}'

Write = Callable[[str], None]
"""Writes the files of Patroni on a host, with the new password; nothing reads them yet."""


def in_the_way(site: Site) -> list[str]:
    """Return why it cannot begin: every member must hear every other, and every replica stream."""
    seen = raft_members.look(site)
    lines = seen.apart
    if not seen.healthy and not lines:
        lines.append(
            "the members of Raft are not those of the inventory, or see no quorum (kbpg raft status)"
        )
    return lines or _not_streaming(site)


def _not_streaming(site: Site) -> list[str]:
    try:
        leader, streaming = _streaming(site)
    except NotKnown as reason:
        return [reason.reason]
    return [f"{n} does not stream" for n in site.context.db_names if n != leader and n not in streaming]


def rotate(site: Site, write: Write, manner: Manner) -> list[str]:
    """Bring all members to the new password, and return what that cost, in lines.

    Raises `NotConverged` where something is in the way of the next one, `HostError`; --resume goes on from there.
    """
    began, lines = time.monotonic(), list[str]()
    while (seen := _answered(site)).old:
        if not lines:
            site.say(
                "until every member of Raft has the new password, a minute or two, nobody takes over from a leader "
                "that dies"
            )
        _require_unpaused(site)
        leader = _leader(site, seen)
        host = raft_sides.next_one(seen, leader, addresses(site.context))
        if host == leader:
            lines.append(_lead_over(site, seen, leader, write, manner))
        else:
            _replica_over(site, seen, host, leader, write)
            lines.append(f"{host} was restarted")
    if seen.silent:
        raise NotConverged(
            f"Raft on {' and '.join(seen.silent)} does not answer",
            detail=list(seen.silent.values()),
            hint="kbpg diagnose",
        )
    _await(site, "the members of Raft are not whole", RETURN_DEADLINE, lambda: not in_the_way(site))
    if lines:
        lines.append(f"automatic failover was off for {time.monotonic() - began:.0f} s")
    return lines


def _require_unpaused(site: Site) -> None:
    """Raise `Refused` under Patroni's pause: a Patroni that starts then leaves PostgreSQL stopped (patroni/ha.py).

    The pause is the cluster's: one node's word is enough, and one that is away may be the next to be mended. Where no
    node says anything it is not known. Raises `NotConverged` then.
    """
    names, node = site.context.db_names, NodeFact(site.context.inventory.ports.patroni)
    odd, silent = differing(site, node, paused=False)
    if odd:
        raise Refused("Patroni is paused: no node may be restarted now", hint=f"kbpg resume, then {RESUME}")
    if len(silent) == len(names):
        raise NotConverged(
            "no node says whether Patroni is paused", detail=tuple(silent.values()), hint="kbpg diagnose"
        )


def _answered(site: Site) -> Sides:
    """Return the sides once every member answers, or at the deadline."""
    ends = time.monotonic() + ANSWER_DEADLINE
    while (seen := raft_sides.look(site)).silent and time.monotonic() < ends:
        time.sleep(INTERVAL)
    return seen


def _leader(site: Site, seen: Sides) -> str:
    """Return who leads; "" where no side has the members for that, so that the next one is what mends it."""
    found = [""]

    def known() -> bool:
        with suppress(NotKnown):
            found[0] = _streaming(site)[0]
        return bool(found[0])

    if seen.may_lead:
        _await(site, "nobody leads", READY_DEADLINE, known)
    return found[0]


def _replica_over(site: Site, seen: Sides, host: str, leader: str, write: Write) -> None:
    """Restart the Patroni of a replica with the new password, and wait until it streams again."""
    if leader:
        if why := raft_sides.why_not_replica(seen, host, leader, addresses(site.context)):
            raise NotConverged(f"{host} is not restarted: {why}", hint="kbpg raft status")
        _await_ready(site, seen, host)
    write(host)
    site.say(f"{host} restarts with the new password")
    site.hosts[host].run(["docker", "restart", "-t", str(PATRONI_STOP), PATRONI], timeout=PATRONI_STOP + 60.0)
    _await(
        site, f"{host} has no new password", READY_DEADLINE, lambda: host in raft_sides.look(site).new, host
    )
    if leader:
        _await(site, f"{host} does not stream", RETURN_DEADLINE, lambda: host in _streaming(site)[1], host)


def _await_ready(site: Site, seen: Sides, host: str) -> None:
    """Wait until commits do not depend on `host` alone, and all stream that can.

    A replica that stayed on the old side follows what it knew, which may be a leader that is none any more.
    """
    crossed = len(seen.new) >= seen.majority
    needed = set(seen.new if crossed else site.context.db_names) - {host}

    def ready() -> bool:
        leader, streaming = _streaming(site)
        if needed - {leader, *streaming}:
            return False
        kinds = {name: each.sync_state for name, each in streaming.items() if each.sync_state in SYNCHRONOUS}
        off = site.context.inventory.cluster.synchronous == "off"
        return off or not raft_sides.unsafe([*kinds], host, any_of="quorum" in kinds.values())

    _await(
        site, f"the others do not stream, or no commit waits for them, without {host}", READY_DEADLINE, ready
    )


def _lead_over(site: Site, seen: Sides, leader: str, write: Write, manner: Manner) -> str:
    """Take the leader to the new side, and the majority with it, while clients wait; return what that was like."""
    if why := raft_sides.why_not_leader(seen):
        raise NotConverged(f"{leader}, which leads, is not restarted: {why}", hint="kbpg raft status")
    _await(
        site,
        f"{' and '.join(seen.new)} does not stream",
        READY_DEADLINE,
        lambda: not set(seen.new) - set(_streaming(site)[1]),
    )
    checkpoint(site, leader)
    with clients_wait(site, leader, "a new password for Raft", manner, stays=True) as clients:
        write(leader)
        site.say(f"{leader} leads and restarts with the new password; clients wait")
        argv = ["setsid", "--wait", "sh", "-c", _OVER, "kbpg-raft", PATRONI, _STOP]
        site.hosts[leader].run(argv, timeout=LEADER_STOP + 60.0)
        leads, text = _taken_up(site, clients, [leader, *seen.new])
    for name, problem in clients.problems.items():
        site.say(f"{name}: {problem}")
    if not leads:
        _await(site, "nobody leads", RETURN_DEADLINE, lambda: bool(_streaming(site)[0]), leader)
    return text


def _taken_up(site: Site, clients: WaitingClients, names: list[str]) -> tuple[str, str]:
    """Wait for one of these to lead, let clients go on, and return who leads ("" for nobody) and how that went."""
    over, ends = Event(), clients.since + bound(site.context)
    for name in names:
        Thread(target=_keep_awake, args=(site, name, over, ends), daemon=True).start()
    try:
        leads = first_to_lead(site, names, ends, Event()) or ""
        late = Search(site, leads, clients.go_on).run(list(clients.each), ends) if leads else [*clients.each]
    finally:
        over.set()
    seconds = time.monotonic() - clients.since
    clients.go_on()
    if late:
        return leads, f"no write reached a leader through {' and '.join(late)} within {seconds:.1f} s"
    return leads, f"{leads} leads; clients waited {seconds:.1f} s"


def _keep_awake(site: Site, name: str, over: Event, ends: float) -> None:
    """Let a Patroni look at the cluster at once, and not in its next round."""
    while not over.wait(INTERVAL) and time.monotonic() < ends:
        with suppress(KbpgError):
            wake(site.context, site.hosts[name])


def _streaming(site: Site) -> tuple[str, dict[str, Replica]]:
    """Return who leads, and what streams from it. Raises `NotKnown`."""
    node = NodeFact(site.context.inventory.ports.patroni)
    facts = site.look(dict.fromkeys(site.context.db_names, (node,)))
    leader = leader_of(facts, node, site.context.db_names)
    return leader, streaming_of(facts, node, leader)


def _await(site: Site, what: str, seconds: float, so: Callable[[], bool], host: str = "") -> None:
    """Wait until it is so. Raises `NotConverged` with `what`, and the log of `host`, at the deadline.

    The rotation comes to no end without every member: raises the `HostError` of one whose connection has ended.
    """
    for _ in site.looks(seconds, each=site.context.db_names):
        with suppress(NotKnown, HostError):
            if so():
                return
    detail = log_lines(site, PATRONI, host) if host else ()
    raise NotConverged(f"{what} after {seconds:g} s", detail=detail, hint="kbpg diagnose")
