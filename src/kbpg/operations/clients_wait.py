"""A pause of all clients, begun at a moment when nobody else has to wait long for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kbpg.engine.site import Site
from kbpg.errors import NotConverged
from kbpg.operations.open_transactions import await_quiet
from kbpg.operations.waiting_clients import PATIENCE, WaitingClients, serving

ATTEMPTS = 3
"""Times that PAUSE is given, each after a moment without long transactions."""


@dataclass(frozen=True)
class Manner:
    """How clients are made to wait.

    `cut`: transactions that do not end are cut. `lenient`: a PgBouncer that cannot be paused is left out, and said.
    `without`: proxies to leave out.
    """

    cut: bool = False
    lenient: bool = False
    without: Sequence[str] = ()


LENIENT = Manner(lenient=True)
"""The manner of a rollout, which may be what mends a PgBouncer."""


@contextmanager
def clients_wait(
    site: Site, on: str, doing: str, manner: Manner, *, stays: bool = False
) -> Iterator[WaitingClients]:
    """Let the clients of the connected PgBouncers wait for the length of the context, whatever happens in it.

    `on` leads now, and `stays` the leader or does not; `doing` is for the note on the proxies. Raises `NotConverged`
    where transactions do not end, `HostError`; nobody waits then.
    """
    proxies = serving(site, manner.without)
    for _ in range(ATTEMPTS):
        if not manner.cut:
            await_quiet(site, on, proxies)
        with WaitingClients(site, proxies, doing, "" if stays else on, lenient=manner.lenient) as clients:
            if clients.pause(cut=manner.cut):
                yield clients
                return
    raise NotConverged(
        f"transactions did not end within {PATIENCE:g} s, {ATTEMPTS} times, so nothing was done",
        hint="run the same command again; kbpg switchover --cut-transactions does not wait for them",
    )
