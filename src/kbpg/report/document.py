"""The report as one document of plain values: `report.json`, and what all other forms are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kbpg import __version__
from kbpg.health.diagnose import judge
from kbpg.health.validation.acceptance import Outcome
from kbpg.health.validation.subject import HaproxyVersionFact
from kbpg.prediction import data_loss, recovery_times
from kbpg.report.standing import topology
from kbpg.resources.preflight.system import SystemFact
from kbpg.secret import masked
from kbpg.uri import Kind, uri

if TYPE_CHECKING:
    from kbpg.drills.measured import Measured
    from kbpg.facts import Fact
    from kbpg.health.validation.run import Validation
    from kbpg.health.validation.subject import Subject
    from kbpg.prediction import Recovery

Document = dict[str, Any]


def build(validation: Validation, drills: Mapping[str, Measured] | None = None) -> Document:
    """Return the report of a validation; the keys are documented in docs/json.md and stay.

    `drills` are what drills measured last, by fault (`prediction.Fault`). Passwords are masked in every text.
    """
    subject = validation.subject
    inventory = subject.context.inventory
    document = {
        "kbpg": __version__,
        "cluster": inventory.cluster.name,
        "inventory": str(inventory.path),
        "started": validation.started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(validation.seconds, 3),
        "reading_seconds": round(validation.looking, 3),
        "passed": validation.passed,
        "counts": {outcome.value: validation.count(outcome) for outcome in Outcome},
        "checks": [result.document() for result in validation.results],
        "findings": [finding.document() for finding in judge(subject.snapshot).findings],
        "topology": topology(subject),
        "recovery": _recovery(subject, drills or {}),
        "connection_strings": _strings(subject),
        "versions": _versions(subject),
    }
    told: Document = masked(document, validation.mask)
    return told


def _recovery(subject: Subject, drills: Mapping[str, Measured]) -> Document:
    inventory = subject.context.inventory
    snapshot = subject.snapshot
    rows = subject.known(snapshot.ask.views.streaming, snapshot.leader)[0] if snapshot.leader else None
    replicas = None if rows is None else sum(row[2] in ("sync", "quorum") for row in rows)
    timers, haproxy = inventory.timers, inventory.haproxy
    return {
        "faults": [_fault(each, drills.get(each.fault.value)) for each in recovery_times(inventory)],
        "loss": data_loss(inventory, replicas).document(),
        "timers": {
            "ttl": timers.ttl,
            "loop_wait": timers.loop_wait,
            "retry_timeout": timers.retry_timeout,
            "primary_start_timeout": timers.primary_start_timeout,
            "haproxy_check_milliseconds": haproxy.check_interval,
        },
    }


def _fault(recovery: Recovery, drilled: Measured | None) -> Document:
    if drilled is None:
        return {**recovery.document(), "measured": None}
    measured = {key: value for key, value in asdict(drilled).items() if key != "seconds"}
    return {**recovery.document(drilled.seconds), "measured": measured}


def _strings(subject: Subject) -> list[Document]:
    context = subject.context
    found: list[Document] = []
    for kind in Kind:
        line = uri(context.inventory, context.credentials, kind)
        found.append({"user": context.credentials.app_user, "kind": kind.value, "uri": line})
    for kind in (Kind.POOLED, Kind.DIRECT):
        if kind is Kind.POOLED and not context.inventory.pgbouncer.superuser_access:
            continue
        line = uri(context.inventory, context.credentials, kind, user="superuser")
        found.append({"user": context.credentials.superuser, "kind": kind.value, "uri": line})
    return found


def _versions(subject: Subject) -> list[Document]:
    """Return what runs where, next to what the inventory wants; "" where it wants nothing."""
    ask, context = subject.snapshot.ask, subject.context
    wanted, db, proxies = context.inventory.versions, context.db_names, context.proxy_names
    hosts = [*db, *proxies]

    def of(component: str, want: str, fact: Fact[Any], names: Iterable[str], text: Any) -> Document:
        answers = {name: subject.known(fact, name)[0] for name in names}
        found = {name: text(answer) if answer else None for name, answer in answers.items()}
        return {"component": component, "wanted": want, "hosts": found}

    return [
        of("PostgreSQL", str(wanted.postgresql), ask.views.node, db, lambda rows: str(rows[0][3]).split()[0]),
        of("Patroni", wanted.patroni, ask.node, db, lambda node: node.version),
        of("pgvector", wanted.pgvector, ask.extensions, db, lambda rows: dict(rows).get("vector")),
        of("HAProxy", "", HaproxyVersionFact(), proxies, str),
        of("PgBouncer", "", ask.pooler, proxies, lambda p: p.version.removeprefix("PgBouncer ") or None),
        of("Docker", "", SystemFact(), hosts, lambda s: s.docker),
        of("system", "", SystemFact(), hosts, lambda s: s.name),
    ]
