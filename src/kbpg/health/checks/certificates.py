"""Certificates as the hosts show them to clients: not about to expire."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from kbpg.health.check import Check, Seen
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.pki.model import RENEWED
from kbpg.resources.file import FileFact
from kbpg.steps.authority import CERTIFICATE, on_host


def expiring(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield the hosts whose certificate has expired, or has less than `RENEWED` left, by the controller's clock."""
    if snapshot.taken is None:
        return
    now = datetime.fromtimestamp(snapshot.taken, UTC)
    for host in snapshot.hosts:
        path = on_host(snapshot.context, host, CERTIFICATE)
        found = snapshot.facts.known(FileFact(path), host.name)
        ends = _end(found.text) if found and found.text else None
        if ends is None or ends - now >= RENEWED:
            continue
        late = ends <= now
        when = (
            f"expired on {ends:%Y-%m-%d}"
            if late
            else f"expires on {ends:%Y-%m-%d}, in {(ends - now).days} days"
        )
        own = snapshot.inventory.tls.certificates
        yield Seen(
            host.name,
            f"{path} {when}",
            (f"issued by your own authority: put a new one into {own} first",) if own else (),
            "{kbpg} apply-all" if own else "",
            severity=Severity.CRITICAL if late else Severity.WARNING,
        )


def _end(text: str) -> datetime | None:
    """Return until when a certificate is valid, None for a text that is none: drift tells of that."""
    from kbpg.pki.reading import UnusableError, certificates  # imports cryptography

    try:
        return certificates(text.encode())[0].not_valid_after_utc
    except UnusableError:
        return None


CHECKS = (
    Check(
        "certificate-expires",
        "a certificate is about to expire",
        Severity.WARNING,
        "once it has, clients that verify it, and the cluster's own programs, no longer connect",
        "{kbpg} credentials renew-tls",
        expiring,
    ),
)
