"""Asking one Patroni for a change, as kbpg or, where it was not kbpg that configured it, as it wants to be asked."""

from __future__ import annotations

from typing import Any

from kbpg import rest
from kbpg.context import Context
from kbpg.facts import NotKnown
from kbpg.hosts.port import Reader
from kbpg.patroni import REST_USER
from kbpg.rest import Response
from kbpg.secret import Secret

UNAUTHORIZED = 401


def ask(context: Context, host: Reader, method: str, path: str, body: Any, timeout: float = 30.0) -> Response:
    """Return Patroni's answer to a request that changes something.

    A node that is about to be adopted may have another user for its REST API: it is asked again with its own.
    Raises `OSError`, `http.client.HTTPException` or `HostError`, as `rest.request` does.
    """
    login, port = (REST_USER, context.credentials.rest_password), context.inventory.ports.patroni
    answer = rest.request(host, method, port, path, body, login=login, timeout=timeout)
    if answer.status != UNAUTHORIZED:
        return answer
    own = _own_login(context, host)
    if own is None or own == login:
        return answer
    return rest.request(host, method, port, path, body, login=own, timeout=timeout)


def _own_login(context: Context, host: Reader) -> tuple[str, Secret] | None:
    """Return whom this node's own configuration lets in, None where it does not tell."""
    from kbpg.adoption.in_use import (
        PatroniInUseFact,
    )  # it knows the steps' layout, which is above this module

    fact = PatroniInUseFact(f"{context.inventory.cluster.base_dir}/patroni/secrets.yml")
    try:
        found = fact.parse(host.read([fact])[fact.key])
    except NotKnown:
        return None
    return found.rest if found else None
