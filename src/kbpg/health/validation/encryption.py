"""TLS on every hop: who speaks it, whether it is verified, and that nobody gets in without."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from kbpg import pooler, sql
from kbpg.health.validation import handshake
from kbpg.health.validation.acceptance import Acceptance, Outcome, Verdict, judged
from kbpg.health.validation.aside import each
from kbpg.hosts.secured import secured

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject
    from kbpg.hosts.port import Reader

Place = tuple[str, int]
"""A host and one of its ports."""
SESSIONS = (
    "select a.backend_type, coalesce(a.usename, ''), s.ssl, coalesce(s.version, '')"
    " from pg_catalog.pg_stat_ssl s join pg_catalog.pg_stat_activity a using (pid) where a.client_addr is not null"
)
POOLED = {"CLIENTS": "PgBouncer's client", "SERVERS": "PgBouncer's server connection"}
TIMEOUT = handshake.TIMEOUT


def _required(examine: Callable[[Subject], Verdict]) -> Callable[[Subject], Verdict]:
    """Return the check, for a cluster whose inventory wants TLS."""

    def unless_off(subject: Subject) -> Verdict:
        if subject.context.inventory.tls.mode == "off":
            return Verdict(
                Outcome.PASSED, "tls: off in the inventory: data travel in clear, passwords never do"
            )
        return examine(subject)

    return unless_off


def _doors(subject: Subject) -> list[Place]:
    """Return the ports that speak PostgreSQL's protocol."""
    context = subject.context
    ports = context.inventory.ports
    proxies = [
        (name, port)
        for name in context.proxy_names
        for port in (ports.primary, ports.replicas, ports.pgbouncer)
    ]
    return [*proxies, *((name, ports.postgresql) for name in context.db_names)]


def _webs(subject: Subject) -> list[Place]:
    """Return the ports that speak HTTP."""
    context = subject.context
    ports = context.inventory.ports
    return [
        *((name, ports.patroni) for name in context.db_names),
        *((name, ports.stats) for name in context.proxy_names),
    ]


def _shown(place: Place) -> str:
    return f"{place[0]} port {place[1]}"


def plaintext(subject: Subject) -> Verdict:
    """Judge whether a client that does not speak TLS is refused on every port."""
    lost = subject.without([*subject.context.proxy_names, *subject.context.db_names])
    user, database = subject.context.credentials.app_user, subject.context.inventory.cluster.database
    doors, webs = _doors(subject), _webs(subject)

    def attempt(place: Place) -> str:
        host = subject.hosts[place[0]]
        return (
            handshake.refusal(host, place[1], user, database)
            if place in doors
            else _web_refusal(host, place[1])
        )

    said, reasons = each([place for place in (*doors, *webs) if place[0] not in lost], attempt)
    problems = [f"{name}: {reason}" for name, reason in lost.items()]
    problems += [f"{_shown(place)}: {reason}" for place, reason in reasons.items()]
    problems += [f"{_shown(place)} goes on without TLS" for place, text in said.items() if not text]
    evidence = [f"{_shown(place)}: {text}" for place, text in said.items() if text]
    return judged(problems, f"refused on {len(evidence)} of {len(doors) + len(webs)} ports", evidence)


def _web_refusal(host: Reader, port: int) -> str:
    """Return how a request without TLS is refused, "" where it is answered. Raises OSError, HostError."""
    with host.dial(port, timeout=TIMEOUT) as stream:
        stream.settimeout(TIMEOUT)
        try:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = stream.recv(64)
        except ConnectionError:
            return "the connection was closed"
    if not answer:
        return "the connection was closed"
    return "" if answer.startswith(b"HTTP/") and b" 400 " not in answer else "no answer in HTTP"


def verified(subject: Subject) -> Verdict:
    """Judge whether every server proves who it is to whoever knows the authority, and to nobody else."""
    lost = subject.without([*subject.context.proxy_names, *subject.context.db_names])
    doors = _doors(subject)
    stranger = ssl.create_default_context()

    def attempt(place: Place) -> str:
        host = subject.hosts[place[0]]
        trust = host.trust
        if trust is None:
            return "nobody said whom to trust"
        _shake(host, place, trust.anyone, place in doors)
        try:
            _shake(host, place, stranger, place in doors)
        except ssl.SSLCertVerificationError as error:
            return f"TLS with the authority; without it: {error.verify_message}"
        raise ssl.SSLError("is trusted without the cluster's authority")

    said, reasons = each([place for place in (*doors, *_webs(subject)) if place[0] not in lost], attempt)
    problems = [f"{name}: {reason}" for name, reason in lost.items()]
    problems += [f"{_shown(place)}: {reason}" for place, reason in reasons.items()]
    evidence = [f"{_shown(place)}: {text}" for place, text in said.items()]
    return judged(problems, f"{len(said)} ports prove who they are by the cluster's authority", evidence)


def _shake(host: Reader, place: Place, context: ssl.SSLContext, postgresql: bool) -> None:
    """Shake hands and hang up. Raises `ssl.SSLError`, OSError, HostError, `NoResult`."""
    with host.dial(place[1], timeout=TIMEOUT) as stream:
        stream.settimeout(TIMEOUT)
        how = handshake.encrypted if postgresql else secured
        how(stream, context, host.address)


def in_use(subject: Subject) -> Verdict:
    """Judge, by what the servers say of their connections, whether each is encrypted."""
    context = subject.context
    login = subject.login(context.inventory.ports.postgresql, admin=True)
    lost = subject.without([*context.proxy_names, *context.db_names])

    def sessions(name: str) -> list[tuple[str, str, bool, str]]:
        if name in context.db_names:
            with sql.connect(subject.hosts[name], login) as connection:
                return [(str(a), str(b), bool(c), str(d)) for a, b, c, d in sql.ask(connection, SESSIONS)]
        with sql.connect(subject.hosts[name], pooler.console(context), pooled=True) as connection:
            return [
                (kind, str(row["user"]), bool(row["tls"]), str(row["tls"]).split("/")[0])
                for what, kind in POOLED.items()
                for row in pooler.rows(connection, what)
            ]

    names = [name for name in (*context.db_names, *context.proxy_names) if name not in lost]
    said, reasons = each(names, sessions)
    problems = [f"{name}: {reason}" for name, reason in {**lost, **reasons}.items()]
    evidence = []
    for name, rows in said.items():
        problems += [f"{name}: {kind} {user} in clear" for kind, user, encrypted, _ in rows if not encrypted]
        counted = Counter(f"{kind} {user}, {version}" for kind, user, encrypted, version in rows if encrypted)
        evidence += [f"{name}: {count} × {what}" for what, count in sorted(counted.items())]
    total = sum(len(rows) for rows in said.values())
    return judged(problems, f"all {total} connections are encrypted", evidence)


CHECKS = (
    Acceptance(
        "tls-only", "connections without TLS refused", "Encryption", _required(plaintext), ("leader",)
    ),
    Acceptance(
        "tls-verified", "certificates are the cluster's", "Encryption", _required(verified), ("leader",)
    ),
    Acceptance("tls-in-use", "every connection encrypted", "Encryption", _required(in_use), ("leader",)),
)
