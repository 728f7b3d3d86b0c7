"""The TCP connection under an SSH connection, and why there is none."""

from __future__ import annotations

import errno
import socket

from kbpg.errors import Unreachable
from kbpg.hosts.config import Target

DEAD_AFTER = 15
"""Seconds of silence after which a host counts as lost."""


def dial(target: Target) -> socket.socket:
    """Connect to the target's SSH port. Raises `Unreachable`."""
    try:
        sock = socket.create_connection((target.host, target.port), timeout=target.connect_timeout)
    except (OSError, UnicodeError) as exc:
        raise _unreachable(target, exc) from exc
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Written data that nobody acknowledges is beyond the reach of pings: the writer itself is stuck.
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, user_timeout, DEAD_AFTER * 1000)
    return sock


def _unreachable(target: Target, exc: OSError | UnicodeError) -> Unreachable:
    if isinstance(exc, (socket.gaierror, UnicodeError)):
        return Unreachable(
            target.name,
            f"the name {target.host} cannot be resolved",
            hint="check `ssh.host` in the inventory and HostName in ~/.ssh/config",
        )
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(
            target.name, f"{target.where} refused the connection", hint="is sshd running there, on that port?"
        )
    if isinstance(exc, TimeoutError):
        return Unreachable(
            target.name,
            f"no answer from {target.where} within {target.connect_timeout:g} s",
            hint="is the host up, and does a firewall let the controller in?",
        )
    if exc.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return Unreachable(
            target.name,
            f"no route to {target.where}",
            hint="is the controller on that network? `ssh.jump` reaches hosts through another one",
        )
    return Unreachable(target.name, f"cannot connect to {target.where}: {exc.strerror or exc}")
