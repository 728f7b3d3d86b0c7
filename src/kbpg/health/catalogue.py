"""Every check, causes before what follows from them. docs/findings.md is made of this."""

from __future__ import annotations

from kbpg.health.check import Check
from kbpg.health.checks import hosts

ALL: tuple[Check, ...] = (*hosts.CHECKS,)
