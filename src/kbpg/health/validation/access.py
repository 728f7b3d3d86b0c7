"""Who gets in and how: connection strings, the credentials file, wrong passwords, weak methods."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import psycopg

from kbpg import sql
from kbpg.facts import REFUSED, Login
from kbpg.health.validation import handshake
from kbpg.health.validation.acceptance import Acceptance, Verdict, failed, judged
from kbpg.health.validation.aside import each
from kbpg.pki import too_open
from kbpg.secret import Secret
from kbpg.uri import Kind, uri

if TYPE_CHECKING:
    from kbpg.health.validation.subject import Subject

WEAK = frozenset({"trust", "password", "md5", "ident", "pam", "ldap", "radius"})
"""Methods of pg_hba.conf that let in without a password, or send one that can be read or replayed."""


def works(kind: Kind, *, admin: bool) -> Callable[[Subject], Verdict]:
    """Return the check that a user gets in through every proxy by this kind of connection string."""

    def examine(subject: Subject) -> Verdict:
        ports = subject.context.inventory.ports
        port = ports.pgbouncer if kind is Kind.POOLED else ports.primary
        login = subject.login(port, admin=admin)
        refused = kind is Kind.POOLED and admin and not subject.context.inventory.pgbouncer.superuser_access
        if refused:
            return _kept_out(subject, login)
        found, problems = _as(subject, login)
        wrong = [f"{p}: leads to a replica" for p, (_, replica) in found.items() if replica]
        wrong += [f"{p}: logged in as {who}" for p, (who, _) in found.items() if who != login.user]
        inventory = subject.context.inventory
        evidence = [uri(inventory, subject.context.credentials, kind, user=_which(admin))]
        if inventory.cluster.load_balancer:
            evidence.append(
                f"{inventory.cluster.load_balancer} is outside kbpg: the proxies behind it were tried"
            )
        evidence += [f"{proxy}: logged in as {who}, takes writes" for proxy, (who, _) in found.items()]
        return judged([*problems, *wrong], f"{login.user} gets in through {len(found)} proxies", evidence)

    return examine


def _which(admin: bool) -> Literal["app", "superuser"]:
    return "superuser" if admin else "app"


def _as(subject: Subject, login: Login) -> tuple[dict[str, tuple[str, bool]], list[str]]:
    """Log in through every proxy; return who one is there and whether it is a replica, and what went wrong."""

    def look(proxy: str) -> tuple[str, bool]:
        with sql.connect(subject.hosts[proxy], login, pooled=True) as connection:
            who, replica = sql.ask(connection, "select current_user::text, pg_is_in_recovery()")[0]
        return str(who), bool(replica)

    names = subject.context.proxy_names
    lost = subject.without(names)
    found, reasons = each([name for name in names if name not in lost], look)
    return found, [f"{proxy}: {reason}" for proxy, reason in {**lost, **reasons}.items()]


def _kept_out(subject: Subject, login: Login) -> Verdict:
    """Judge whether the superuser is refused by PgBouncer, as `pgbouncer.superuser_access: false` wants it."""
    found, reasons = _as(subject, login)
    problems = [f"{proxy}: lets {who} in, against the inventory" for proxy, (who, _) in found.items()]
    return judged(problems, f"{login.user} is refused, as pgbouncer.superuser_access wants it", reasons)


def credentials(subject: Subject) -> Verdict:
    """Judge whether the credentials file has every name, and is its owner's alone, as the keys beside it are."""
    path, found = subject.context.inventory.credentials_path, subject.found
    if found is None:
        return failed(f"{path}: no such file")
    problems = [f"{', '.join(found.missing)} missing"] if found.missing else []
    if found.mode != 0o600:
        problems.append(
            f"mode is {found.mode:04o}, wanted 0600" if found.mode is not None else "mode unknown"
        )
    problems += [too_open(key, mode) for key, mode in subject.context.pki.exposed.items()]
    count = len(found.names)
    evidence = [f"{path}, {count - len(found.missing)} of {count} names"]
    evidence += [f"mode {found.mode:04o}"] if found.mode is not None else []
    return judged(problems, f"all {count} names, mode 0600", evidence)


def wrong_password(subject: Subject) -> Verdict:
    """Judge whether a wrong password is refused on every port, for both users."""
    ports = subject.context.inventory.ports
    wrong = Secret(secrets.token_urlsafe(24))
    attempts = {
        (proxy, port, admin): replace(subject.login(port, admin=admin), password=wrong, former=None)
        for proxy in subject.context.proxy_names
        for port in (ports.primary, ports.pgbouncer)
        for admin in (False, True)
    }
    lost = subject.without(subject.context.proxy_names)

    def attempt(key: tuple[str, int, bool]) -> str:
        try:
            with sql.connect(subject.hosts[key[0]], attempts[key], pooled=True):
                return ""
        except psycopg.OperationalError as error:
            return sql.short(error)

    said, reasons = each([key for key in attempts if key[0] not in lost], attempt)
    problems = [f"{proxy}: {reason}" for proxy, reason in lost.items()]
    where = {key: f"{key[0]} port {key[1]}, {login.user}" for key, login in attempts.items()}
    problems += [f"{where[key]}: {reason}" for key, reason in reasons.items()]
    problems += [f"{where[key]}: a wrong password was accepted" for key, text in said.items() if not text]
    problems += [f"{where[key]}: {text}" for key, text in said.items() if text and REFUSED not in text]
    evidence = [f"{where[key]}: {text}" for key, text in said.items() if REFUSED in text]
    return judged(problems, f"refused in {len(evidence)} of {len(attempts)} attempts", evidence)


def strong_only(subject: Subject) -> Verdict:
    """Judge whether nothing but SCRAM is offered, configured or stored."""
    problems, evidence = _rules(subject)
    more, lines = _offers(subject)
    weak, stored = _verifiers(subject)
    problems, evidence = [*problems, *more, *weak], [*evidence, *lines, *stored]
    for proxy in subject.context.proxy_names:
        config, reason = subject.known(subject.pooler_config, proxy)
        kind = config.get("auth_type") if config else None
        if kind != "scram-sha-256":
            problems.append(f"{proxy}: PgBouncer's auth_type is {kind or f'not known: {reason}'}")
        else:
            evidence.append(f"{proxy}: PgBouncer's auth_type is {kind}")
    return judged(
        problems, "every server offers SCRAM-SHA-256 alone and refuses a plaintext password", evidence
    )


def _rules(subject: Subject) -> tuple[list[str], list[str]]:
    """Return what is weak in the rules that PostgreSQL has loaded on each node, and which methods they have."""
    problems, evidence = [], []
    for name in subject.context.db_names:
        rows, reason = subject.known(subject.snapshot.ask.views.rules, name)
        if rows is None:
            problems.append(f"{name}: {reason}")
            continue
        methods = [str(row[4]) for row in rows if row[4]]
        problems += [f"{name}: pg_hba.conf: {row[5]}" for row in rows if row[5]]
        problems += [
            f"{name}: pg_hba.conf lets {row[2]} in by {row[4]} from {row[3] or row[0]}"
            for row in rows
            if row[4] in WEAK
        ]
        counted = ", ".join(f"{methods.count(each)} {each}" for each in sorted(set(methods)))
        evidence.append(f"{name}: pg_hba_file_rules: {counted}")
    return problems, evidence


def _offers(subject: Subject) -> tuple[list[str], list[str]]:
    """Return where a server asks for something else than SCRAM, and what each asks for."""
    ports, names = subject.context.inventory.ports, subject.context.proxy_names
    database, user = subject.context.inventory.cluster.database, subject.context.credentials.app_user
    admin = subject.context.credentials.superuser
    places = [(name, port, user) for name in names for port in (ports.primary, ports.pgbouncer)]
    places += [(name, ports.postgresql, admin) for name in subject.context.db_names]
    lost = subject.without([*names, *subject.context.db_names])

    def ask(place: tuple[str, int, str]) -> handshake.Offer:
        name, port, who = place
        return handshake.offered(subject.hosts[name], port, who, database)

    offers, reasons = each([place for place in places if place[0] not in lost], ask)
    problems = [f"{name}: {reason}" for name, reason in lost.items()]
    problems += [f"{place[0]} port {place[1]}: {reason}" for place, reason in reasons.items()]
    problems += [f"{p[0]} port {p[1]} offers {o}" for p, o in offers.items() if not o.scram_only]
    return problems, [f"{p[0]} port {p[1]} offers {o}" for p, o in offers.items() if o.scram_only]


def _verifiers(subject: Subject) -> tuple[list[str], list[str]]:
    """Return the roles whose stored password is no SCRAM verifier, and how many have one."""
    if subject.snapshot.leader is None:
        return ["the roles are not known: no leader"], []
    roles, reason = subject.known(subject.snapshot.ask.roles, subject.snapshot.leader)
    if roles is None:
        return [f"the roles are not known: {reason}"], []
    able = {name: str(role["verifier"] or "") for name, role in roles.items() if role["login"]}
    weak = [name for name, verifier in able.items() if not verifier.startswith("SCRAM-SHA-256$")]
    problems = [f"role {name} has no SCRAM password" for name in weak]
    return problems, [f"{len(able) - len(weak)} of {len(able)} roles that log in have a SCRAM verifier"]


def _string(kind: Kind, *, admin: bool) -> Acceptance:
    words = "pooled" if kind is Kind.POOLED else "direct"
    user = "{admin}" if admin else "{app}"
    return Acceptance(
        f"connect-{'admin' if admin else 'app'}-{words}",
        f"connection string works with {user}, {words}",
        "Access",
        works(kind, admin=admin),
        ("leader",),
    )


CHECKS = (
    *(_string(kind, admin=admin) for admin in (False, True) for kind in (Kind.DIRECT, Kind.POOLED)),
    Acceptance("credentials", "credentials file complete, 0600", "Access", credentials),
    Acceptance("wrong-password", "wrong password refused", "Access", wrong_password, ("leader",)),
    Acceptance("strong-only", "MD5 and plaintext authentication refused", "Access", strong_only),
)
