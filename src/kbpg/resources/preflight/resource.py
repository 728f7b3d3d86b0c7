"""The preflight of one host: all checks at once, and nothing is ever changed by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kbpg.adoption.proof import Proof
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.errors import PreflightFailed
from kbpg.facts import Fact, Facts, Knowledge, NotKnown
from kbpg.firewall.fact import RulesFact
from kbpg.inventory import Host
from kbpg.model import Change, Resource, Want
from kbpg.resources.directory import DirectoryFact
from kbpg.resources.hardware import HardwareFact
from kbpg.resources.preflight.born import node_fact
from kbpg.resources.preflight.checks import CHECKS, Check, ports_fact
from kbpg.resources.preflight.clock import clock_fact
from kbpg.resources.preflight.data import data_fact, record_fact
from kbpg.resources.preflight.disk import DiskFact
from kbpg.resources.preflight.subject import Needs, Problem, Subject
from kbpg.resources.preflight.system import SystemFact

OK = "ok"


class Preflight(Resource):
    """The host meets every check of its role; a difference is a list of problems."""

    id = "preflight"

    def __init__(
        self, context: Context, host: Host, needs: Needs, *, checks: Sequence[Check] = CHECKS
    ) -> None:
        self._context, self._host, self._needs = context, host, needs
        self._checks = [check for check in checks if host.role in check.roles]

    def _subject(self, facts: Facts) -> Subject:
        return Subject(self._context.inventory, self._host, self._needs, facts, self._context)

    def asks(self, place: str, context: Context) -> Iterable[tuple[str, Fact[object]]]:
        """Ask this host for itself, and the others for what has to agree."""
        inventory = context.inventory
        own: list[Fact[object]] = [HardwareFact(), self._needs.containers, ports_fact(self._needs)]
        own += [DiskFact(path) for path in self._needs.directories]
        own += [DirectoryFact(path) for path in self._needs.mounts]
        own += [RulesFact()] if inventory.prepare.firewall == "managed" else []
        yield from ((place, fact) for fact in own)
        for host in inventory.hosts:
            yield host.name, SystemFact()
            yield host.name, clock_fact(inventory.prepare.max_clock_skew)
        for host in inventory.db:
            yield host.name, record_fact(inventory)
            if self._host.role == "db":
                yield host.name, data_fact(inventory)
                yield host.name, node_fact(inventory)
                if context.adopting:
                    yield from (
                        (host.name, fact) for fact in Proof(context, Facts(Knowledge(), "")).questions()
                    )

    def want(self, facts: Facts) -> Want:
        """Return every check as ok."""
        return {check.name: OK for check in self._checks}

    def have(self, facts: Facts) -> Want:
        """Return every check as ok, or its problem in words."""
        found = self._problems(facts)
        return {name: problem.text if problem else OK for name, problem in found.items()}

    def _problems(self, facts: Facts) -> dict[str, Problem | None]:
        subject = self._subject(facts)
        try:
            subject.see(SystemFact())
        except NotKnown as silence:
            # One line, not one a check: a host that tells nothing tells nothing everywhere.
            names = {check.name: None for check in self._checks}
            return {**names, "host": Problem(f"cannot be looked at: {silence.reason}", "see `kbpg status`")}
        return {check.name: _judged(check, subject) for check in self._checks}

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return each problem, with what was wanted, and below it how to look at it and what to do."""
        lines = []
        for name, problem in self._problems(facts).items():
            if problem:
                lines.append(f"{name}: {problem.text}")
                lines += [f"  {line}" for line in problem.detail]
                lines.append(f"  hint: {problem.hint}")
        return lines

    def fix(self, site: Site, change: Change) -> None:
        """Never: a person has to. Raises `PreflightFailed`."""
        raise PreflightFailed(f"{site.place} is not fit", detail=self.diff(change, site.facts))


def _judged(check: Check, subject: Subject) -> Problem | None:
    try:
        return check.judge(subject)
    except NotKnown as silence:
        return Problem(f"cannot be judged: {silence.reason}", "look at the host, then run kbpg again")
