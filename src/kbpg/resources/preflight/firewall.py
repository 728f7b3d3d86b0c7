"""Whether a host can have the firewall's rules."""

from __future__ import annotations

from kbpg.firewall.fact import RulesFact
from kbpg.resources.preflight.subject import Problem, Subject
from kbpg.resources.preflight.system import SystemFact


def firewall(subject: Subject) -> Problem | None:
    """The kernel's rules can be set, or `nft` may be installed (`prepare.firewall: managed`)."""
    if subject.inventory.prepare.firewall != "managed":
        return None
    seen, rules = subject.see(SystemFact()), subject.see(RulesFact())
    if rules.error:
        return Problem(rules.error, "on the host: `nft list tables`; or set prepare.firewall: off")
    if rules.nft or seen.debian:
        return None
    return Problem(
        f"no nft, and kbpg cannot install it on {seen.name}: wanted nftables",
        "install nftables on the host, or set prepare.firewall: off",
    )
