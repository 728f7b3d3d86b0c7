"""The faults, each a function of the ground and its target: what breaks, or what is done while clients work."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.drills import disk, network, power, processes
from kbpg.drills.ground import Ground
from kbpg.drills.undo import Kind, Undo
from kbpg.layout import PATRONI, PGBOUNCER, layout
from kbpg.operations.rolling_restart import restart_nodes
from kbpg.operations.switchover import switchover

STOP = "60"
"""Seconds for a clean end of Patroni and PostgreSQL."""
# Its log and snapshots are put aside, not removed, until it is back in the consensus
_LOSE_RAFT = 'docker stop --time "$2" "$3" >/dev/null && mv "$1" "$1.drill-aside"'


def postmaster_crash(ground: Ground, target: str) -> None:
    """PostgreSQL's first process is killed on the leader."""
    ground.links.ask(target, processes.crash_postmaster)


def patroni_crash(ground: Ground, target: str) -> None:
    """Patroni is killed on the leader; its container ends and Docker starts it again."""
    ground.links.ask(target, processes.crash_patroni)


def patroni_frozen(ground: Ground, target: str) -> None:
    """Patroni stands still on the leader, while PostgreSQL there goes on."""
    ground.links.ask(target, processes.freeze_patroni)


def pgbouncer_crash(ground: Ground, target: str) -> None:
    """PgBouncer is killed on one proxy."""
    ground.links.ask(target, lambda host: processes.crash_container(host, PGBOUNCER))


def power_cut(ground: Ground, target: str) -> None:
    """The target loses its power; without a target every host does, all at once."""
    names = (target,) if target else tuple(host.name for host in ground.context.inventory.hosts)
    power.off(ground.context, ground.controller, *names)


def partition(ground: Ground, target: str) -> None:
    """The target is cut off from every other host."""
    peers = [str(host.address) for host in ground.context.inventory.hosts if host.name != target]
    ground.links.ask(target, lambda host: network.cut(host, peers))


def raft_member_loss(ground: Ground, target: str) -> None:
    """A replica's Patroni ends, and its Raft log is lost."""
    words = (layout(ground.context).raft, STOP, PATRONI)
    ground.links.ask(
        target, lambda host: host.run(["sh", "-c", _LOSE_RAFT, "kbpg-drill", *words], timeout=90)
    )


def planned_switchover(ground: Ground, target: str) -> None:
    """The leader hands over."""
    switchover(ground.site, leaving=target)


def rolling_restart(ground: Ground, target: str) -> None:
    """PostgreSQL is restarted on one node after the other, the leader last."""
    restart_nodes(ground.site, ground.context.db_names)


def disk_full(ground: Ground, target: str) -> None:
    """The disk that the leader's data is on fills up."""
    ground.links.ask(target, lambda host: disk.fill(ground.context, host))


# --- what takes them back ----------------------------------------------------------------------------------


def nothing(context: Context, target: str) -> tuple[Undo, ...]:
    """Nothing is left to be taken back."""
    return ()


def start_again(context: Context, target: str) -> tuple[Undo, ...]:
    """Start the target's containers, should Docker not have done it."""
    return (Undo(Kind.START, target),)


def go_on(context: Context, target: str) -> tuple[Undo, ...]:
    """Let the stopped program go on."""
    return (Undo(Kind.CONTINUE, target),)


def switch_on(context: Context, target: str) -> tuple[Undo, ...]:
    """Switch the target on, or every host."""
    names = (target,) if target else tuple(host.name for host in context.inventory.hosts)
    return tuple(Undo(Kind.POWER_ON, name) for name in names)


def rejoin(context: Context, target: str) -> tuple[Undo, ...]:
    """Give the target its network back."""
    return (Undo(Kind.REJOIN, target),)


def start_without_raft(context: Context, target: str) -> tuple[Undo, ...]:
    """Start Patroni with an empty Raft log: its partners send it what it needs."""
    return (Undo(Kind.RAFT, target),)


def make_room(context: Context, target: str) -> tuple[Undo, ...]:
    """Give the disk its space back, and the node its own disk."""
    return (Undo(Kind.DISK, target), Undo(Kind.LARGE, target))
