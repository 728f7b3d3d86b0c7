"""A finding: what was seen, why it matters, and the command that mends it. Values; nothing is done here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any


class Severity(IntEnum):
    """How bad it is, worst last. A notice is a known risk that is mitigated: it does not make a cluster unhealthy."""

    OK = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    def __str__(self) -> str:
        return self.name.lower()


class Action(StrEnum):
    """What kbpg can do about a finding; the parameters that come with each are named here."""

    START_DOCKER = "start-docker"
    """Start the Docker daemon of the host."""
    START_CONTAINER = "start-container"
    """`container`: start it as it is, without changing an option."""
    APPLY_STEP = "apply-step"
    """`step` (two digits): converge that step; only the finding's host, unless that is the cluster."""
    OWN_DATA = "own-data"
    """`path`: give the data directory back to its owner, with its mode, and start the container `container`."""
    REINITIALIZE = "reinitialize"
    """`leader`: clone this replica anew from it, through Patroni. Removes this replica's data."""
    RESTART_PATRONI = "restart-patroni"
    """Restart the Patroni container of this replica (never of two nodes at once)."""
    RESTART_POSTGRESQL = "restart-postgresql"
    """Restart PostgreSQL through Patroni, because a parameter waits for it."""
    RESET_PARAMETER = "reset-parameter"
    """`name`: ALTER SYSTEM RESET on this node; with `restart`, a restart of PostgreSQL, which the parameter needs."""
    RESUME_PATRONI = "resume-patroni"
    """End Patroni's pause."""
    RESUME_REPLAY = "resume-replay"
    """End the pause of this replica's replay."""
    RESUME_POOLER = "resume-pooler"
    """RESUME on this PgBouncer's console."""
    RECONNECT_POOLER = "reconnect-pooler"
    """RECONNECT on this PgBouncer's console."""
    CREATE_SLOT = "create-slot"
    """`leader`, `slot`: create the physical replication slot on the leader."""
    REMOVE_RAFT_MEMBER = "remove-raft-member"
    """`member` ("address:port"): remove it from the consensus."""
    RENEW_RAFT_LOG = "renew-raft-log"
    """Move the damaged Raft log of this replica aside, and let its partners give it another."""


@dataclass(frozen=True)
class Repair:
    """What kbpg can do itself: pure data, executed by `health.repair`.

    `will` says in one sentence what will be done, `risk` what it can cost ("none" where it costs nothing).
    """

    action: Action
    host: str
    will: str
    risk: str = "none"
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "action": self.action.value,
            "host": self.host,
            "will": self.will,
            "risk": self.risk,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    `id` is the check's, the heading of its page in docs/findings.md. `host` is an inventory name, "cluster" or
    "controller"; `subject` tells findings of one check on one host apart (a role, a file). `remedy` is a command
    line to paste. `about` are the hosts whose failure would explain it (for a member that cannot reach a partner:
    the partner), `part` the container; `explains` are the findings that this one is the cause of, in words.
    """

    id: str
    severity: Severity
    host: str
    title: str
    seen: str
    why: str
    remedy: str
    evidence: tuple[str, ...] = ()
    repair: Repair | None = None
    about: tuple[str, ...] = ()
    part: str = ""
    subject: str = ""
    explains: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what identifies it between two diagnoses: the check, the host, the subject."""
        return self.id, self.host, self.subject

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it; the keys are documented in docs/json.md and stay."""
        return {
            "id": self.id,
            "severity": str(self.severity),
            "host": self.host,
            "subject": self.subject,
            "title": self.title,
            "seen": self.seen,
            "why": self.why,
            "evidence": list(self.evidence),
            "remedy": self.remedy,
            "repair": self.repair.document() if self.repair else None,
            "explains": list(self.explains),
        }
