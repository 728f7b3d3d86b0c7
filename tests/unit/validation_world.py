"""A healthy cluster's snapshot as something to validate, and reports of it; nothing here opens a connection."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kbpg.credentials import Found
from kbpg.health.validation import access, nodes, proxies
from kbpg.health.validation.acceptance import Acceptance, Outcome, Result, Verdict
from kbpg.health.validation.catalogue import ALL
from kbpg.health.validation.run import Validation, examine
from kbpg.health.validation.subject import HaproxyVersionFact, Subject, pooler_config
from kbpg.report import build
from kbpg.secret import Secret

from .health_world import CREDENTIALS, World

READ = {
    *("nodes", "leader", "synchronous", "rest", "raft", "extension"),
    *(check.id for check in proxies.CHECKS),
    "credentials",
}
"""Ids of the checks that are answered by the one pass alone."""
CHECKS = [c for c in (*nodes.CHECKS, *proxies.CHECKS, *access.CHECKS) if c.id in READ]
CONFIG = {
    "auth_type": "scram-sha-256",
    "pool_mode": "transaction",
    "default_pool_size": "50",
    "reserve_pool_size": "10",
    "max_client_conn": "2000",
    "max_prepared_statements": "200",
}
POOL = {"database": "keybuzz", "user": "kb_app", "pool_mode": "transaction"}


def found(**values: Any) -> Found:
    """Return a credentials file that is as it must be, but for `values`."""
    whole = Found(Path("/c/postgres.env"), Secret(""), CREDENTIALS.values(), {}, {}, 0o600)
    return dataclasses.replace(whole, **values)


def world() -> World:
    """Return a healthy cluster that also answers what only validate asks."""
    world = World()
    for name in world.context.proxy_names:
        world.answers[name][pooler_config(world.context).key] = dict(CONFIG)
        world.answers[name][HaproxyVersionFact().key] = "3.0.11-1"
        world.change(name, world.ask.pooler, pools=(POOL,))
    return world


def subject(broken: World | None = None, file: Found | None = None) -> Subject:
    """Return a cluster to examine; no host of it is connected, so what has to be tried cannot be."""
    chosen = broken or world()
    return Subject(chosen.context, file or found(), {}, chosen.snapshot())


def results(broken: World | None = None, file: Found | None = None) -> dict[str, Result]:
    """Return what the checks say that are answered by the one pass."""
    return {result.id: result for result in examine(subject(broken, file), CHECKS)}


def pretended(broken: World | None = None) -> Validation:
    """Return a whole validation in which everything that has to be tried passes: to look at a report."""
    chosen = subject(broken)

    def made_up(check: Acceptance) -> Acceptance:
        verdict = Verdict(Outcome.PASSED, "made up", ("one line",), {f"{check.id} took": 2.5})
        return dataclasses.replace(check, examine=lambda _: verdict)

    checks = [check if check.id in READ else made_up(check) for check in ALL]
    started = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
    return Validation(chosen, tuple(examine(chosen, checks)), started, 1.25, 2.8)


def document(broken: World | None = None) -> dict[str, Any]:
    """Return the report of such a validation."""
    return build(pretended(broken))
