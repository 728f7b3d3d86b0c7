"""Connecting to all hosts of an inventory side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from kbpg.errors import HostError, KbpgError
from kbpg.hosts.settings import Ask, Recorder, SshSettings
from kbpg.inventory import Inventory
from kbpg.options import Options
from kbpg.side_by_side import side_by_side
from kbpg.trust import Trust, directory_of

if TYPE_CHECKING:
    from kbpg.hosts.ssh import SshHost


def _ssh(inventory: Inventory, name: str, patience: float | None) -> SshSettings:
    """Return how the inventory wants a host reached; what it leaves open stays open, for `~/.ssh/config`."""
    ssh = inventory.ssh_for(inventory.host(name))
    return dataclasses.replace(ssh, connect_timeout=min(ssh.connect_timeout, patience or ssh.connect_timeout))


def connect_all(
    inventory: Inventory,
    options: Options,
    journal: Recorder,
    ask: Ask | None,
    stack: ExitStack,
    only: Collection[str] = (),
    meanwhile: Callable[[], object] = lambda: None,
    connected: Callable[[SshHost], object] = lambda host: None,
) -> tuple[dict[str, SshHost], dict[str, HostError]]:
    """Connect to every host side by side; return those that answered, and the others' errors.

    With `only`, to no others. Questions are asked in the caller's thread; Ctrl-C there waits for no host. `meanwhile`
    is called in it while the hosts are dialled; what it raises is raised at once, and nobody stays connected.
    `connected` is called with each host that is there, in the thread that dialled it; what it raises is raised here.
    """
    from kbpg.hosts.ssh import connect  # after the inventory is known to be right: paramiko is 0.1 s

    trust = Trust(directory_of(inventory), inventory.tls.mode)

    def attempt(name: str, address: str, ask: Ask | None) -> SshHost | HostError:
        try:
            host = connect(
                name,
                address,
                _ssh(inventory, name, options.patience),
                journal=journal,
                ask=ask,
                accept_new=options.accept_new_host_keys,
                passwords=options.passwords,
            )
        except HostError as error:
            return error
        host.trust = trust
        try:
            connected(host)
        except BaseException:
            host.close()
            raise
        return host

    def close(result: SshHost | HostError) -> None:
        if not isinstance(result, HostError):
            result.close()

    jobs = {
        host.name: partial(attempt, host.name, str(host.address))
        for host in inventory.hosts
        if not only or host.name in only
    }
    hosts: dict[str, SshHost] = {}
    errors: dict[str, HostError] = {}
    for name, result in side_by_side(jobs, ask=ask, undo=close, meanwhile=meanwhile).items():
        if isinstance(result, HostError):
            errors[name] = result
        else:
            hosts[name] = result
            stack.callback(result.close)
    return hosts, errors


def refuse(
    unreachable: Mapping[str, HostError], limit: frozenset[str], besides: Callable[[], Sequence[str]] = tuple
) -> None:
    """Raise one error for all hosts that are needed and cannot be reached.

    `besides` is asked then for more that is wrong: lines below it.
    """
    needed = [error for name, error in unreachable.items() if not limit or name in limit]
    if not needed:
        return
    more = tuple(besides())
    if len(needed) == 1:
        needed[0].detail += more
        raise needed[0]
    detail = [line for error in needed for line in (str(error), *(f"  {line}" for line in error.detail))]
    hints = list(dict.fromkeys(error.hint for error in needed if error.hint))
    raise KbpgError(
        f"{len(needed)} hosts cannot be used", detail=[*detail, *more], hint="; ".join(hints) or None
    )
