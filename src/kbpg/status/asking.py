"""One bounded pass over all hosts, at the end of which is a `Standing`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from kbpg.health.looking import look
from kbpg.status.answers import together
from kbpg.status.questions import Questions
from kbpg.status.standing import Standing

if TYPE_CHECKING:
    from kbpg.context import Context
    from kbpg.errors import HostError
    from kbpg.hosts.port import Reader

DEADLINE = 2.0
"""Seconds for the whole pass; what hangs longer counts as not answering. Healthy, it takes 0.2."""


def take(
    context: Context,
    hosts: Mapping[str, Reader],
    lost: Mapping[str, HostError],
    *,
    missing: Collection[str] = (),
    deadline: float = DEADLINE,
) -> Standing:
    """Ask every connected host at once, `deadline` seconds at most, and return how the cluster stands.

    `lost` are the other hosts with their errors; nothing is asked that needs a password which is `missing`
    in the credentials file.
    """
    ask = Questions.of(context, missing)
    wanted = {name: ask.on_db() for name in context.db_names if name in hosts}
    wanted |= {name: ask.on_proxy() for name in context.proxy_names if name in hosts}
    facts = look(hosts, wanted, deadline=deadline)
    return together(context, facts, ask, lost)
