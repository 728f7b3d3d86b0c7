"""Why a node does not do its part: what PostgreSQL, Patroni and pysyncobj write into the log, read from its end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kbpg.health.snapshot import Snapshot
from kbpg.layout import PATRONI

EVIDENCE_LINES = 6


@dataclass(frozen=True)
class Cause:
    """A cause: the id of its finding, and what the log says that shows it.

    The texts are PostgreSQL 16's (xlogrecovery.c, walreceiver.c, walsender.c, slot.c, auth.c, miscinit.c) and
    Patroni's (postgresql/rewind.py, ha.py).
    """

    id: str
    pattern: re.Pattern[str]


def _cause(id_: str, *texts: str) -> Cause:
    return Cause(id_, re.compile("|".join(texts)))


CAUSES = (
    _cause("replica-no-checkpoint", r"could not locate (a valid|required) checkpoint record"),
    _cause(
        "replica-wal-removed",
        r"requested WAL segment \w+ has already been removed",
        r"can no longer get changes from replication slot",
        r"could not (receive data|start).*has been invalidated",
        r"This slot has been invalidated",
    ),
    _cause(
        "replica-diverged",
        r"requested timeline \d+ is not a child of this server's history",
        r"new timeline \d+ forked off current database system timeline",
        r"highest timeline \d+ of the primary is behind recovery timeline",
        r"requested starting point .* is ahead of the WAL flush position",
        r"pg_rewind (failed|exited|return)",
        r"[Uu]nable to run pg_rewind",
        r"source and target cluster are (from different systems|on the same timeline)",
    ),
    _cause(
        "replica-foreign",
        r"database system identifier differs between the primary and standby",
        r"[Ss]ystem ID mismatch",
        r"belongs to a different cluster",
    ),
    _cause(
        "replica-password",
        r'password authentication failed for user "\w+"',
        r"no password supplied",
    ),
    _cause("replica-slot-missing", r'replication slot "[^"]+" does not exist'),
    _cause("data-permissions", r"has (invalid permissions|wrong ownership)", r"[Pp]ermission denied"),
    _cause("disk-full", r"No space left on device"),
)


STUCK = re.compile(
    r"(?:record with incorrect prev-link|incorrect resource manager data checksum|invalid resource manager ID"
    r"|invalid magic number|unexpected pageaddr|invalid contrecord length).* at (?:LSN )?([0-9A-F]+/[0-9A-F]+)"
)
"""What a standby says of log that is not its leader's (xlogreader.c), again and again at the same place.

Two nodes may have promoted themselves to timelines of one number, the first of them cut off before anybody
followed it. Neither PostgreSQL nor pg_rewind nor Patroni tells such timelines apart: the standby goes on receiving
where it is, and finds records that do not follow its own. Seen when five hosts restarted one after the other.
"""


STREAMED = "started streaming WAL from primary"
"""What a standby says when it is well (walreceiver.c); that the log it asked for is gone, it says after this."""


RAFT_LOG_CODE = "pysyncobj/journal.py"
RAFT_LOG_DAMAGED = re.compile(
    r"ValueError: cannot mmap an empty file|struct\.error: unpack requires a buffer of \d+ bytes"
)
"""How Patroni ends at its start where pysyncobj cannot read its log (`FileJournal` in that file).

It is empty, cut off, or has zeros in it: it is mapped into memory and never synced, so a host that loses power may
leave it so.
"""
TRACE_LINES = 4
"""Lines of a traceback from the one that names a file to the error, at most: code and markers are between."""
IN_A_ROUND = re.compile(r"INFO: (Lock owner|no action)")
"""What Patroni says in its rounds (ha.py): the start before them went well."""


NO_WAY = "could not connect to the primary server"


@dataclass(frozen=True)
class Replica:
    """A standby that does not stream: its cause ("" where the log shows none), and the lines that show it."""

    host: str
    cause: str
    said: str
    evidence: tuple[str, ...]


def replica(snapshot: Snapshot, host: str) -> Replica | None:
    """Return why the node does not stream; None where it does, leads, or cannot be judged."""
    leader, node = snapshot.leader, snapshot.node(host)
    if leader is None or host == leader or node is None:
        return None
    status = snapshot.node(leader)
    streaming = {each.name for each in status.replicas if each.state == "streaming"} if status else set()
    if host in streaming:
        return None
    log = [line for line in snapshot.log(host, PATRONI) if line.strip()]
    for index in range(len(log) - 1, len(log) - 1 - len(_since_streaming(log)), -1):
        for cause in CAUSES:
            if cause.pattern.search(log[index]):
                lines = log[max(0, index - 1) : index + EVIDENCE_LINES - 1]
                return Replica(host, cause.id, message(log[index]), tuple(lines))
    return _by_facts(snapshot, host, leader, log)


def _by_facts(snapshot: Snapshot, host: str, leader: str, log: list[str]) -> Replica:
    slot = slot_name(host)
    rows = snapshot.facts.known(snapshot.ask.views.slots, leader)
    slots = {str(row[0]): row for row in rows or ()}
    tail = tuple(log[-EVIDENCE_LINES:])
    if rows is not None and slot not in slots:
        return Replica(host, "replica-slot-missing", f'{leader} has no replication slot "{slot}"', tail)
    if rows is not None and slots[slot][3] == "lost":
        return Replica(host, "replica-wal-removed", f'the log that slot "{slot}" kept was removed', tail)
    mine, its = snapshot.node(host), snapshot.node(leader)
    if mine and its and mine.timeline > its.timeline > 0:
        said = f"it is on timeline {mine.timeline}, and {leader} on {its.timeline}"
        return Replica(host, "replica-diverged", said, tail)
    since = _since_streaming(log)
    failed = [line for line in since if NO_WAY in line]
    if failed:  # what cannot be read at the end of what was received is then no sign of anything
        return Replica(host, "", message(failed[-1]), tail)
    return _stuck(host, since) or Replica(host, "", "", tail)


def _since_streaming(log: list[str]) -> list[str]:
    """Return the lines after the last that says that the standby is well: what stands before it was over."""
    last = max((index for index, line in enumerate(log) if STREAMED in line), default=-1)
    return log[last + 1 :]


def _stuck(host: str, log: list[str]) -> Replica | None:
    """Return the standby whose log does not go on as the leader's does, though it reaches the leader."""
    found = [(match[1], line) for line in log if (match := STUCK.search(line))]
    if len(found) < 2 or len({place for place, _ in found}) > 1:
        return None
    said = f"its log does not go on as the leader's does: {message(found[-1][1])}"
    return Replica(host, "replica-diverged", said, tuple(line for _, line in found[-EVIDENCE_LINES:]))


def damaged_raft_log(snapshot: Snapshot, host: str) -> tuple[str, tuple[str, ...]] | None:
    """Return how Patroni's last start ended on a log of Raft that it cannot read, and the lines; None otherwise."""
    log = [line for line in snapshot.log(host, PATRONI) if line.strip()]
    for index in range(len(log) - 1, -1, -1):
        if RAFT_LOG_DAMAGED.search(log[index]):
            first = max(0, index - TRACE_LINES)
            named = [at for at in range(first, index) if RAFT_LOG_CODE in log[at]]
            return (message(log[index]), tuple(log[named[-1] : index + 1])) if named else None
        if IN_A_ROUND.search(log[index]):
            return None
    return None


def slot_name(member: str) -> str:
    """Return the replication slot of a member (slot_name_from_member_name of patroni/dcs/__init__.py)."""

    def replaced(found: re.Match[str]) -> str:
        char = found[0]
        return "_" if char in "-." else f"u{ord(char):04d}"

    return re.sub("[^a-z0-9_]", replaced, member.lower())[:63]


def message(line: str) -> str:
    """Return the message of a log line, without time, process and level."""
    found = re.search(r"(?:FATAL|ERROR|PANIC|LOG|WARNING|CRITICAL|INFO|DETAIL|HINT):\s+(.*)", line)
    return (found[1] if found else line).strip()
