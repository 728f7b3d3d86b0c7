"""Every drill, in the order in which `kbpg drill all` runs them. Help, documentation and report derive from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kbpg.context import Context
from kbpg.drills import faults, small_disk
from kbpg.drills.ground import Ground
from kbpg.drills.undo import Undo
from kbpg.errors import UsageError
from kbpg.prediction import Fault


def _no_preparation(ground: Ground, target: str) -> None:
    pass


@dataclass(frozen=True)
class Drill:
    """A fault, what it is made on, and what takes it back.

    `aim` chooses the target ("" for the whole cluster). `undo` are the acts that take the fault back. They belong to
    the drill where it `mends`, `hold` seconds after clients go on, or after the fault where nobody `recovers` before.
    Else the cluster has to recover by itself, and they are for a drill that is killed. `goal` is the longest time
    without an acknowledged write, in seconds with the timers of `failover: fast`; None where there is none. `lab`:
    only on lab hosts. `power`: hosts are switched off. `inside`: a client is connected to the target's PostgreSQL
    itself. `planned`: it is over when `strike` is.
    """

    name: str
    title: str
    summary: str
    aim: Callable[[Ground], str]
    strike: Callable[[Ground, str], None]
    undo: Callable[[Context, str], tuple[Undo, ...]]
    predicted: Fault | None
    goal: float | None
    mends: bool = False
    recovers: bool = True
    hold: float = 2.0
    lab: bool = False
    power: bool = False
    inside: bool = False
    planned: bool = False
    prepare: Callable[[Ground, str], None] = _no_preparation
    finish: Callable[[Ground, str], None] = _no_preparation


ALL = (
    Drill(
        "postmaster-crash",
        "PostgreSQL crashes on the leader",
        "PostgreSQL's first process is killed with -9 on the leader",
        Ground.leader,
        faults.postmaster_crash,
        faults.start_again,
        Fault.CRASH,
        3.0,
    ),
    Drill(
        "patroni-crash",
        "Patroni crashes on the leader",
        "Patroni is killed with -9 on the leader; its container ends, PostgreSQL with it, and Docker starts it",
        Ground.leader,
        faults.patroni_crash,
        faults.start_again,
        Fault.PATRONI,
        3.0,
    ),
    Drill(
        "leader-poweroff",
        "the leader's host loses power",
        "the leader's host is switched off, and on again after a replica leads",
        Ground.leader,
        faults.power_cut,
        faults.switch_on,
        Fault.POWER,
        23.0,
        mends=True,
        power=True,
    ),
    Drill(
        "leader-partition",
        "the leader's host is cut off the network",
        "packets between the leader's host and every other host are dropped, in silence, until a replica leads",
        Ground.leader,
        faults.partition,
        faults.rejoin,
        Fault.NETWORK,
        23.0,
        mends=True,
        inside=True,
        hold=5.0,
    ),
    Drill(
        "patroni-frozen",
        "Patroni stands still on the leader",
        "Patroni is stopped (SIGSTOP) on the leader for 30 s, while PostgreSQL there goes on",
        Ground.leader,
        faults.patroni_frozen,
        faults.go_on,
        Fault.FROZEN,
        None,
        mends=True,
        inside=True,
        hold=30.0,
    ),
    Drill(
        "replica-poweroff",
        "a replica's host loses power",
        "the host of the replica that is next in line is switched off for some seconds",
        Ground.replica,
        faults.power_cut,
        faults.switch_on,
        Fault.REPLICA,
        2.0,
        mends=True,
        power=True,
        hold=8.0,
    ),
    Drill(
        "proxy-poweroff",
        "a proxy loses power",
        "the first proxy is switched off for some seconds; clients know both addresses",
        Ground.proxy,
        faults.power_cut,
        faults.switch_on,
        Fault.PROXY,
        2.0,
        mends=True,
        power=True,
        hold=5.0,
    ),
    Drill(
        "pgbouncer-crash",
        "PgBouncer crashes on a proxy",
        "PgBouncer is killed with -9 on the first proxy; Docker starts it again",
        Ground.proxy,
        faults.pgbouncer_crash,
        faults.start_again,
        Fault.POOLER,
        2.0,
    ),
    Drill(
        "raft-member-loss",
        "a replica loses its Raft log",
        "Patroni on a replica ends, and comes back some seconds later without its Raft log and snapshots",
        Ground.replica,
        faults.raft_member_loss,
        faults.start_without_raft,
        Fault.REPLICA,
        2.0,
        mends=True,
        hold=5.0,
    ),
    Drill(
        "switchover",
        "planned switchover",
        "kbpg switchover, to the best replica",
        Ground.leader,
        faults.planned_switchover,
        faults.nothing,
        Fault.SWITCHOVER,
        2.5,
        planned=True,
    ),
    Drill(
        "rolling-restart",
        "PostgreSQL is restarted on every node",
        "kbpg restart: one node after the other, the leader last, after a switchover",
        Ground.everything,
        faults.rolling_restart,
        faults.nothing,
        Fault.SWITCHOVER,
        2.5,
        planned=True,
    ),
    Drill(
        "disk-full",
        "the leader's disk fills up",
        "the file system of the leader's data is filled to the last byte, and has room again 15 s later",
        Ground.replica,
        faults.disk_full,
        faults.make_room,
        None,
        None,
        mends=True,
        lab=True,
        hold=15.0,
        recovers=False,
        prepare=small_disk.begin,
        finish=small_disk.end,
    ),
    Drill(
        "all-hosts-reboot",
        "every host loses power",
        "all hosts are switched off at one moment, and on again",
        Ground.everything,
        faults.power_cut,
        faults.switch_on,
        None,
        None,
        mends=True,
        recovers=False,
        lab=True,
        power=True,
    ),
)

RANDOM = "random"
"""No drill but an order: for some minutes one after the other, as a seed decides."""


def named(name: str) -> Drill:
    """Return the drill of that name. Raises `UsageError`."""
    for drill in ALL:
        if drill.name == name:
            return drill
    raise UsageError(f"no drill {name}", hint=f"drills: {', '.join(drill.name for drill in ALL)}")
