"""Certificates: those that the hosts show to clients, kbpg's own, and the authority's are not about to expire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kbpg.health.check import Check, Seen
from kbpg.health.finding import Severity
from kbpg.health.snapshot import Snapshot
from kbpg.model import CONTROLLER
from kbpg.pki.model import CA, CLIENT, RENEWED, certificate_file
from kbpg.resources.file import FileFact
from kbpg.steps.authority import CERTIFICATE, on_host

if TYPE_CHECKING:
    from cryptography import x509

    from kbpg.inventory import Host


def expiring(snapshot: Snapshot) -> Iterable[Seen]:
    """Yield what has expired, or has less than `RENEWED` left, by the controller's clock.

    A certificate that ends with its authority is told of there: a new one would not last any longer.
    """
    if snapshot.taken is None:
        return
    now = datetime.fromtimestamp(snapshot.taken, UTC)
    last = _authority_ends(snapshot)
    bound = last is not None and last - now < RENEWED
    if last is not None and bound:
        yield _of_authority(snapshot, last, now)
    ends = _client_ends(snapshot)
    if ends is not None and ends - now < RENEWED and not (bound and ends == last):
        yield _of_client(snapshot, ends, now)
    for host in snapshot.hosts:
        path = on_host(snapshot.context, host, CERTIFICATE)
        found = snapshot.facts.known(FileFact(path), host.name)
        ends = _end(found.text) if found and found.text else None
        if ends is not None and ends - now < RENEWED and not (bound and ends == last):
            yield _of_host(snapshot, host, ends, now)


def _of_host(snapshot: Snapshot, host: Host, ends: datetime, now: datetime) -> Seen:
    own = snapshot.inventory.tls.certificates
    return Seen(
        host.name,
        f"{on_host(snapshot.context, host, CERTIFICATE)} {_when(ends, now)}",
        (f"issued by your own authority: put a new one into {own} first",) if own else (),
        "{kbpg} apply-all" if own else "",
        severity=Severity.CRITICAL if ends <= now else Severity.WARNING,
    )


def _of_client(snapshot: Snapshot, ends: datetime, now: datetime) -> Seen:
    """Tell of kbpg's own; where the certificates are the user's, nobody else can make a new one."""
    file, directory = certificate_file(CLIENT), _directory(snapshot)
    own = snapshot.inventory.own_certificates_path is not None
    return Seen(
        CONTROLLER,
        f"{directory}/{file} {_when(ends, now)}",
        remedy=f"put a new {file} and its key into {directory}" if own else "",
        why="once it has, Patroni takes no command of kbpg's: no switchover, restart, reinit or new setting",
        severity=_severity(snapshot, ends, now),
        subject=file,
    )


def _of_authority(snapshot: Snapshot, ends: datetime, now: datetime) -> Seen:
    """Tell of the authority: its successor has to be with the clients before."""
    file, directory = certificate_file(CA), _directory(snapshot)
    if snapshot.inventory.own_certificates_path is not None:
        remedy = (
            f"put a {file} with the new authority and certificates that it issued into {directory}, then "
            "{kbpg} apply-all, and give it to the clients"
        )
    else:
        remedy = "set tls: off in the inventory, then {kbpg} apply-all; docs/tls.md has the steps after that"
    return Seen(
        CONTROLLER,
        f"{directory}/{file}, the authority's certificate, {_when(ends, now)}",
        ("what it issued ends with it: credentials renew-tls does not help",),
        remedy,
        "once it has, clients and the cluster's own programs trust no certificate of the cluster any more, and "
        "plan and apply-all are refused",
        severity=_severity(snapshot, ends, now),
        subject=file,
    )


def _severity(snapshot: Snapshot, ends: datetime, now: datetime) -> Severity:
    """Return how bad it is: where nothing speaks TLS, nothing stops either."""
    late = ends <= now and snapshot.inventory.tls.mode != "off"
    return Severity.CRITICAL if late else Severity.WARNING


def _when(ends: datetime, now: datetime) -> str:
    if ends <= now:
        return f"expired on {ends:%Y-%m-%d}"
    return f"expires on {ends:%Y-%m-%d}, in {(ends - now).days} days"


def _directory(snapshot: Snapshot) -> str:
    return str(snapshot.inventory.own_certificates_path or snapshot.inventory.pki_path)


def _client_ends(snapshot: Snapshot) -> datetime | None:
    """Return until when the certificate on the controller is good; None where it was made in memory just now."""
    pki = snapshot.context.pki
    made = certificate_file(CLIENT) in pki.fresh
    return None if made else _end(pki.client.certificate.decode("ascii", "replace"))


def _authority_ends(snapshot: Snapshot) -> datetime | None:
    """Return until when the authority is good; of several, the first to end that issued something in use."""
    pki = snapshot.context.pki
    if certificate_file(CA) in pki.fresh:
        return None
    found = list(_certificates(pki.ca))
    if len(found) > 1:
        from kbpg.pki.reading import issued  # imports cryptography

        leaves = (pki.client, *pki.hosts.values())
        used = [each for leaf in leaves for each in _certificates(leaf.certificate)]
        found = [root for root in found if any(each != root and issued(each, root) for each in used)] or found
    return min((each.not_valid_after_utc for each in found), default=None)


def _end(text: str) -> datetime | None:
    """Return until when a certificate is valid, None for a text that is none: drift tells of that."""
    return next((each.not_valid_after_utc for each in _certificates(text.encode())), None)


def _certificates(pem: bytes) -> Iterator[x509.Certificate]:
    from kbpg.pki.reading import UnusableError, certificates  # imports cryptography

    try:
        yield from certificates(pem)
    except UnusableError:
        return


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
