"""Asking one Patroni for a change, as kbpg or, where it was not kbpg that configured it, as it wants to be asked."""

from __future__ import annotations

import http.client
from functools import partial
from typing import Any

from kbpg import rest
from kbpg.context import Context
from kbpg.errors import HostError
from kbpg.facts import NotKnown
from kbpg.hosts.port import Reader
from kbpg.operations.tls_change import in_clear
from kbpg.patroni import REST_USER
from kbpg.rest import Response
from kbpg.secret import Secret

UNAUTHORIZED = 401
NO_TLS = "see on the host who listens there; a change of tls that was broken off is ended by kbpg apply-all"


class PatroniRefused(HostError):
    """Patroni answered, with an HTTP status that says that it does not do what it was asked for."""


class NotLetIn(PatroniRefused):
    """Patroni takes none of the passwords that kbpg knows."""


def ask(
    context: Context,
    host: Reader,
    method: str,
    path: str,
    body: Any,
    timeout: float = 30.0,
    *,
    anyway: bool = False,
) -> Response:
    """Return Patroni's answer to a request that changes something.

    While a rotation of passwords is not ended, the one of before is tried too: Patroni goes on with it from a reload
    until its next round. A node that is about to be adopted may have another user for its REST API: it is asked again
    with its own. `anyway` also without the lock. Raises `OSError`, `http.client.HTTPException` or `HostError`, as
    `rest.request` does.
    """
    port = context.inventory.ports.patroni

    def asked(login: tuple[str, Secret]) -> Response:
        return rest.request(
            host,
            method,
            port,
            path,
            body,
            login=login,
            in_clear=partial(in_clear, context, host),
            timeout=timeout,
            anyway=anyway,
        )

    login = (REST_USER, context.credentials.rest_password)
    former = (REST_USER, context.former.rest_password) if context.former else login
    answer = asked(login)
    if answer.status == UNAUTHORIZED and former != login:
        answer = asked(former)
    if answer.status != UNAUTHORIZED:
        return answer
    own = _own_login(context, host)
    return answer if own is None or own in (login, former) else asked(own)


def _own_login(context: Context, host: Reader) -> tuple[str, Secret] | None:
    """Return whom this node's own configuration lets in, None where it does not tell."""
    # here, because it knows the steps' layout, which is above this module
    from kbpg.adoption.in_use import PatroniInUseFact

    fact = PatroniInUseFact(f"{context.inventory.cluster.base_dir}/patroni/secrets.yml")
    try:
        found = fact.parse(host.read([fact])[fact.key])
    except NotKnown:
        return None
    return found.rest if found else None


def change_by_rest(
    context: Context,
    host: Reader,
    method: str,
    path: str,
    body: Any,
    timeout: float = 30.0,
    *,
    anyway: bool = False,
) -> None:
    """Ask Patroni on `host` for a change, `anyway` also without the lock.

    Raises `PatroniRefused` with its answer when it refuses, `NotLetIn` for 401, `LockLost` where it was not asked,
    and another `HostError` where it did not answer, or not to the end: it may do it all the same.
    """
    try:
        answer = ask(context, host, method, path, body, timeout, anyway=anyway)
    except (OSError, http.client.HTTPException) as error:
        hint = NO_TLS if isinstance(error, rest.NoTls) else None
        raise HostError(host.name, f"Patroni did not answer {method} {path}: {error}", hint=hint) from error
    if answer.status >= 300:
        kind = NotLetIn if answer.status == UNAUTHORIZED else PatroniRefused
        raise kind(host.name, f"Patroni refused {method} {path} with {answer.status}: {answer.body}")


def wake(context: Context, host: Reader) -> None:
    """Let Patroni on `host` look at the cluster now, and not in its next round. Raises `HostError`.

    With Raft nothing wakes a replica when somebody else gets the lock (`Raft._on_set`, patroni/dcs/raft.py, compares
    a path with a time), so it would follow a new leader up to loop_wait later, and commits would wait for it. A PATCH
    that changes nothing wakes it (`do_PATCH_config`, patroni/api.py): there is no such key to remove. So it is done
    without the lock, too: clients may be waiting for it.
    """
    change_by_rest(context, host, "PATCH", "/config", {"kbpg_wakes_patroni": None}, 5.0, anyway=True)
