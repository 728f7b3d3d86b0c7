"""The acceptance list, in the order in which it is gone through."""

from __future__ import annotations

from kbpg.health.validation import access, cancelling, encryption, live, nodes, proxies, reading
from kbpg.health.validation.acceptance import Acceptance

ALL: tuple[Acceptance, ...] = (
    *nodes.CHECKS,
    *proxies.CHECKS,
    *access.CHECKS,
    *encryption.CHECKS,
    *live.CHECKS,
    *reading.CHECKS,
    *cancelling.CHECKS,
    live.LAST,
)
"""What is tried on a table of its own comes last, and its removal at the very end."""
