"""From a snapshot to findings: every check, then causes before what follows from them, worst first."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbpg.engine.redactor import Redactor
from kbpg.errors import Exit
from kbpg.health import catalogue
from kbpg.health.asking import Items
from kbpg.health.check import CONTAINER_FAULT, Check
from kbpg.health.finding import Action, Finding, Severity
from kbpg.health.looking import DEADLINE, Pass
from kbpg.health.snapshot import Snapshot, take
from kbpg.model import CLUSTER

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.errors import HostError
    from kbpg.hosts.port import Reader

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Diagnosis:
    """The findings, worst first and causes only, and how many checks found nothing; `seconds` for the pass.

    `unknown` are the checks that found nothing either, but lacked an answer: they are not among those that `passed`.
    """

    findings: tuple[Finding, ...]
    passed: int
    unknown: int = 0
    seconds: float = 0.0
    snapshot: Snapshot | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def worst(self) -> Severity:
        """Return the worst severity of all findings, OK without any."""
        return max((finding.severity for finding in self.findings), default=Severity.OK)

    @property
    def healthy(self) -> bool:
        """Return whether there is nothing above a notice."""
        return self.worst <= Severity.NOTICE

    @property
    def exit_code(self) -> Exit:
        """Return 0 for healthy, 1 with a critical finding, 3 with warnings only."""
        return {Severity.CRITICAL: Exit.FAILED, Severity.WARNING: Exit.DIFFERS}.get(self.worst, Exit.OK)

    def of(self, *ids: str) -> list[Finding]:
        """Return the findings of these checks."""
        return [finding for finding in self.findings if finding.id in ids]

    def limited(self, hosts: Iterable[str]) -> Diagnosis:
        """Return the findings of these hosts, and of the cluster as a whole."""
        names = {*hosts, CLUSTER}
        return dataclasses.replace(self, findings=tuple(f for f in self.findings if f.host in names))

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "healthy": self.healthy,
            "worst": str(self.worst),
            "ok": self.passed,
            "unknown": self.unknown,
            "seconds": round(self.seconds, 3),
            "findings": [finding.document() for finding in self.findings],
        }


def examine(
    context: Context,
    hosts: Mapping[str, Reader],
    unreachable: Mapping[str, HostError] | None = None,
    items: Items | None = None,
    begun: Pass | None = None,
    logs: float = DEADLINE,
) -> Diagnosis:
    """Look at every host and return what is wrong. Nothing is changed and nothing is raised for it.

    Where a check wants the log of what is wrong, logs are read too, and all is judged again with them. `hosts` are
    the connected ones, `unreachable` the others with the reason. `items` are what `asking.placed` has found for this
    context, `begun` what was asked of the hosts already, where there is any. The logs may take `logs` seconds, and
    what the pass has left of its own, but no more than a pass.
    """
    started = time.monotonic()
    snapshot = take(context, hosts, unreachable, items, begun)
    left = max(0.0, started + DEADLINE - time.monotonic())
    found = judge_with_logs(snapshot, hosts, min(DEADLINE, logs + left))
    return dataclasses.replace(found, seconds=time.monotonic() - started)


def judge_with_logs(snapshot: Snapshot, hosts: Mapping[str, Reader], deadline: float = DEADLINE) -> Diagnosis:
    """Return what the checks find, once more with the logs that they wanted; its snapshot is the one with them.

    No log is read on a healthy cluster: it tells why something is wrong. That takes `deadline` seconds at most.
    """
    found = judge(snapshot)
    fuller = snapshot.with_logs(hosts, deadline)
    return found if fuller is snapshot else judge(fuller)


def judge(snapshot: Snapshot, checks: Sequence[Check] | None = None) -> Diagnosis:
    """Return what the checks (default: all) find in a snapshot; pure, but that the snapshot notes unread logs."""
    chosen = catalogue.ALL if checks is None else checks
    mask = Redactor.of(snapshot.context).mask
    found: list[Finding] = []
    passed = unknown = 0
    for check in chosen:
        missed = snapshot.facts.missed
        findings = check.findings(snapshot)
        if not findings:
            judged = snapshot.facts.missed == missed
            passed, unknown = passed + judged, unknown + (not judged)
        found += (_masked(finding, mask) for finding in findings)
    return Diagnosis(tuple(_sorted(_causes(found, chosen))), passed, unknown, snapshot=snapshot)


def _causes(found: Sequence[Finding], checks: Sequence[Check]) -> list[Finding]:
    """Return the findings that no other explains; each tells what it explains, also by way of others."""
    ids = {check.id: check.explained_by for check in checks}
    direct = {f.key: _explaining(f, found, (*ids.get(f.id, ()), *_not_ours(f))) for f in found}
    consequences: dict[Key, list[str]] = {}
    roots = []
    for finding in found:
        causes = _roots(finding, direct, frozenset()) or [finding]
        if causes == [finding]:
            roots.append(finding)
            continue
        for cause in causes:
            consequences.setdefault(cause.key, []).append(f"{finding.host}: {finding.title}")
    return [dataclasses.replace(f, explains=tuple(dict.fromkeys(consequences.get(f.key, ())))) for f in roots]


def _not_ours(finding: Finding) -> Sequence[str]:
    """Return what explains whatever a step would mend: of a cluster that kbpg did not start nothing is as it says."""
    steps = finding.repair is not None and finding.repair.action is Action.APPLY_STEP
    return ("cluster-unmanaged",) if steps and finding.id != "cluster-unmanaged" else ()


def _roots(
    finding: Finding, direct: Mapping[Key, Sequence[Finding]], passed: frozenset[Key]
) -> list[Finding]:
    """Return what is at the beginning of the chains of causes; nothing where they only go round."""
    if not direct[finding.key]:
        return [finding]
    passed |= {finding.key}
    ways = [_roots(cause, direct, passed) for cause in direct[finding.key] if cause.key not in passed]
    return list({root.key: root for found in ways for root in found}.values())


def _explaining(finding: Finding, found: Sequence[Finding], ids: Sequence[str]) -> list[Finding]:
    """Return what explains a finding: something about the cluster, or about each host that it is about."""
    causes = [f for f in found if f.id in ids and f.id != finding.id and _behind(f, finding)]
    general = [f for f in causes if f.host == CLUSTER]
    if general:
        return general[:1]
    by_host = [next((f for f in causes if f.host == host), None) for host in finding.about]
    return [f for f in by_host if f] if all(by_host) else []


def _behind(cause: Finding, finding: Finding) -> bool:
    """Return whether what explains such a finding can be behind this one.

    Not the fault of a container, where it is about another one; nor a full disk that the data is not on.
    """
    if cause.id == "disk-full":
        return not cause.subject
    return cause.id not in CONTAINER_FAULT or not cause.part or finding.part in ("", cause.part)


def _masked(finding: Finding, mask: Any) -> Finding:
    """Return the finding without a password or a verifier that a log line may hold."""
    return dataclasses.replace(
        finding, seen=mask(finding.seen), evidence=tuple(mask(line) for line in finding.evidence)
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    """Return them worst first; of the same severity in the order of the catalogue, which is the order found."""
    return sorted(findings, key=lambda finding: -finding.severity)
