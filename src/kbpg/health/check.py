"""A check: a pure function from a snapshot to what it sees, and all that is the same for everything it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kbpg.facts import NotKnown
from kbpg.health.finding import Action, Finding, Repair, Severity
from kbpg.health.snapshot import Snapshot
from kbpg.model import Impact

HOST_FAULT = ("host-unreachable", "ssh-refused", "docker-down")
"""What explains anything else about the same host."""
CONTAINER_FAULT = (
    *HOST_FAULT,
    "image-missing",
    "container-missing",
    "container-stopped",
    "container-restarting",
    "port-taken",
    "nofile-low",
    "address-missing",
    "raft-log-damaged",
)
"""What explains that a program on the host does not answer."""
NODE_FAULT = (
    *CONTAINER_FAULT,
    "patroni-silent",
    "data-permissions",
    "data-foreign",
    "data-unreadable",
    "data-shared",
    "identity-differs",
    "raft-password",
    "replica-no-checkpoint",
    "replica-diverged",
    "replica-foreign",
    "replica-password",
    "replica-slot-missing",
    "replica-wal-removed",
    "replica-not-streaming",
    "postgres-down",
)
"""What explains that a db host does not do its part."""
UNFINISHED = ("raft-rebuild-unfinished", "cluster-unmanaged")
"""What explains that much is not as the inventory says."""
LEADERLESS = ("raft-rebuild-unfinished", "raft-no-quorum", "no-leader", "two-leaders")
"""What explains that nothing gets through to a leader."""
POOLED_FAULT = (
    "pgbouncer-target",
    "pgbouncer-auth-query",
    "database-missing",
    "role-missing",
    "role-password",
)
"""What keeps an application's login through PgBouncer from working, while the programs on the way run."""


@dataclass(frozen=True)
class Seen:
    """What a check saw at one place, in words and lines; what is left out comes from the check.

    `remedy`: a command in place of the check's. `about`: the hosts whose failure would explain it, `host` itself
    when nothing is given. `subject` tells several at one host apart, `part` is the container it is about.
    """

    host: str
    seen: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    why: str = ""
    repair: Repair | None = None
    severity: Severity | None = None
    about: tuple[str, ...] = ()
    subject: str = ""
    part: str = ""


RESTARTS = "what runs there is restarted; a leader after a switchover, so that its clients reconnect"
"""The risk of a step that would restart something, whatever it was chosen for."""

Examine = Callable[[Snapshot], Iterable[Seen]]


@dataclass(frozen=True)
class Check:
    """An entry of the catalogue.

    `remedy` is a template: `{kbpg}` is the command with its inventory, `{host}` the finding's host.
    `explained_by` are the ids of the findings that are its cause where both are seen. `part` is
    the container that it is about: what is wrong with another one of the host does not explain it.
    """

    id: str
    title: str
    severity: Severity
    why: str
    remedy: str
    examine: Examine = field(repr=False)
    explained_by: tuple[str, ...] = HOST_FAULT
    part: str = ""

    def findings(self, snapshot: Snapshot) -> list[Finding]:
        """Return what it finds. Never raises: what it cannot judge is a finding too."""
        found: list[Finding] = []
        try:
            found += (self._finding(snapshot, seen) for seen in self.examine(snapshot))
        except NotKnown:
            # What could not be read is what other checks are about; `judge` does not count this one as passed
            pass
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            found.append(self._failed(error))
        return found

    def _finding(self, snapshot: Snapshot, seen: Seen) -> Finding:
        remedy = seen.remedy or self.remedy.replace("{host}", seen.host)
        return Finding(
            id=self.id,
            severity=self.severity if seen.severity is None else seen.severity,
            host=seen.host,
            title=self.title,
            seen=seen.seen,
            why=seen.why or self.why,
            remedy=remedy.replace("{kbpg}", snapshot.kbpg),
            # What a host answered may be anything; here it still counts as this check's failure
            evidence=tuple(map(str, seen.evidence)),
            repair=_with_impact(seen.repair, snapshot),
            about=seen.about or (seen.host,),
            part=seen.part or self.part,
            subject=seen.subject or seen.part,
        )

    def _failed(self, error: Exception) -> Finding:
        return Finding(
            id="check-failed",
            severity=Severity.WARNING,
            host="cluster",
            title="a check could not be made",
            seen=f"the check `{self.id}` met an answer it was not written for: {type(error).__name__}: {error}",
            why="whether this is in order is not known",
            remedy="kbpg diagnose --json, and report it with its output",
            subject=self.id,
        )


def _with_impact(repair: Repair | None, snapshot: Snapshot) -> Repair | None:
    """Return the repair with the risk of all that its step changes: a step is applied as a whole."""
    if repair is None or repair.action is not Action.APPLY_STEP:
        return repair
    if snapshot.impact(int(repair.parameters["step"]), repair.host) < Impact.RESTART:
        return repair
    return replace(repair, risk=RESTARTS if repair.risk == "none" else f"{repair.risk}; {RESTARTS}")
