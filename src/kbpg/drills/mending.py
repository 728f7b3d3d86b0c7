"""The acts that take faults back, done on hosts. See `undo.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kbpg.context import Context
from kbpg.drills import disk, network, power
from kbpg.drills.links import Links
from kbpg.drills.undo import Kind, Undo
from kbpg.drills.workload import DATABASE
from kbpg.errors import HostError, KbpgError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Writer
from kbpg.layout import HAPROXY, OWNER, PATRONI, PGBOUNCER, layout
from kbpg.operations.patroni_process import CONTINUE
from kbpg.operations.place import site_of
from kbpg.patroni import NodeFact, leader_of

BOOT = 90.0
"""Seconds for a host to come back and answer over SSH."""
ANSWERS = 30.0
"""Seconds for a host that was not switched off to be reached."""
# As it was before: the same owner and mode as step 01 gives it
_RAFT_BACK = (
    '[ -d "$1" ] || install -d -o "${2%:*}" -g "${2#*:}" -m 0700 "$1"; rm -rf "$1".drill-*; docker start "$3"'
)


def perform(undo: Undo, context: Context, links: Links, controller: Writer) -> None:
    """Do it. Raises `KbpgError`."""
    if undo.kind is Kind.POWER_ON:
        power.on(context, controller, undo.host)
        links.forget(undo.host)
        links.within(undo.host, BOOT, lambda host: host.run(["true"]))
    elif undo.kind is Kind.DATABASE:
        _drop(context, links, controller)
    elif undo.kind is Kind.LARGE:
        _leave_small_disk(context, links, controller, undo.host)
    else:
        links.within(undo.host, ANSWERS, lambda host: _ON_HOST[undo.kind](context, host))


def _start(context: Context, host: Writer) -> None:
    db = host.name in context.db_names
    host.run(["docker", "start", *((PATRONI,) if db else (HAPROXY, PGBOUNCER))])


def _go_on(context: Context, host: Writer) -> None:
    name = PATRONI if host.name in context.db_names else PGBOUNCER
    host.run(["docker", "exec", name, "sh", "-c", CONTINUE])


def _rejoin(context: Context, host: Writer) -> None:
    network.rejoin(host)


def _raft(context: Context, host: Writer) -> None:
    host.run(["sh", "-c", _RAFT_BACK, "kbpg-drill", layout(context).raft, OWNER, PATRONI])


def _room(context: Context, host: Writer) -> None:
    disk.make_room(context, host)


_ON_HOST: Mapping[Kind, Callable[[Context, Writer], None]] = {
    Kind.START: _start,
    Kind.CONTINUE: _go_on,
    Kind.REJOIN: _rejoin,
    Kind.RAFT: _raft,
    Kind.DISK: _room,
}


def _leave_small_disk(context: Context, links: Links, controller: Writer, host: str) -> None:
    """Let a node run on its own data again, which is behind: another one has to lead. Raises `KbpgError`."""
    if _leader(context, links, controller) == host:
        raise KbpgError(f"{host} leads on a small file system", hint="kbpg switchover, and this again")
    links.ask(host, lambda found: disk.make_large(context, found))


def _leader(context: Context, links: Links, controller: Writer) -> str:
    """Return who leads. Raises `KbpgError` without one."""
    node = NodeFact(context.inventory.ports.patroni)
    site = site_of(context, links.connected, controller, lambda place, text: None)
    try:
        facts = site.look({name: [node] for name in context.db_names if name in site.hosts})
        return leader_of(facts, node, context.db_names)
    except NotKnown as reason:
        raise KbpgError(str(reason), hint="kbpg diagnose") from None


def _drop(context: Context, links: Links, controller: Writer) -> None:
    """Drop the drill's database on the leader, whoever is connected to it. Raises `KbpgError`."""
    from psycopg.sql import SQL, Identifier

    from kbpg import sql

    leader = _leader(context, links, controller)
    drop = SQL("drop database if exists {} with (force)").format(Identifier(DATABASE))
    try:
        links.ask(leader, lambda host: sql.execute(host, context.superuser(), drop))
    except HostError as error:
        raise KbpgError(f"database {DATABASE} is still there: {error}") from error
