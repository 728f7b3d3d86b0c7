"""Every check, causes before what follows from them. docs/findings.md is made of this."""

from __future__ import annotations

from kbpg.health.check import Check
from kbpg.health.checks import (
    archive,
    certificates,
    containers,
    drift,
    haproxy,
    hosts,
    images,
    patroni,
    pauses,
    pgbouncer,
    pgvector,
    postgres,
    raft,
    reads,
    replication,
    security,
    settings,
    storage,
    streaming,
    unfinished,
)

ALL: tuple[Check, ...] = (
    *hosts.CHECKS,
    *unfinished.CHECKS,
    *images.CHECKS,
    *containers.CHECKS,
    *storage.CHECKS,
    *raft.CHECKS,
    *patroni.CHECKS,
    *settings.CHECKS,
    *streaming.CHECKS,
    *replication.CHECKS,
    *archive.CHECKS,
    *postgres.CHECKS,
    *pgvector.CHECKS,
    *haproxy.CHECKS,
    *pgbouncer.CHECKS,
    *reads.CHECKS,
    *pauses.CHECKS,
    *certificates.CHECKS,
    *security.CHECKS,
    *drift.CHECKS,
)
