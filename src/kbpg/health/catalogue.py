"""Every check, causes before what follows from them. docs/findings.md is made of this."""

from __future__ import annotations

from kbpg.health.check import Check
from kbpg.health.checks import (
    containers,
    drift,
    haproxy,
    hosts,
    patroni,
    pgbouncer,
    postgres,
    raft,
    replication,
    security,
    storage,
)

ALL: tuple[Check, ...] = (
    *hosts.CHECKS,
    *containers.CHECKS,
    *storage.CHECKS,
    *raft.CHECKS,
    *patroni.CHECKS,
    *replication.CHECKS,
    *postgres.CHECKS,
    *haproxy.CHECKS,
    *pgbouncer.CHECKS,
    *security.CHECKS,
    *drift.CHECKS,
)
