"""The ssh-agent: its keys, and signatures with them, for which nobody waits for ever."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from kbpg.hosts.lean import paramiko

BROKEN = (OSError, paramiko.SSHException, ValueError)
"""What becomes of talking to an agent that is gone, is silent, refuses, or says what cannot be read."""


class AgentKey(paramiko.AgentKey):
    """A key of the agent's. Where the agent does not sign the signature is empty, and `tell` gets why.

    paramiko asks for it in the connection's own thread, which would end, and the connection with it. The host refuses
    an empty signature as it does a wrong one, and the next key can be tried.
    """

    lost = False
    """Whether the agent can be asked nothing more: an answer of it may still come."""

    def __init__(self, key: paramiko.AgentKey, tell: Callable[[str], object]) -> None:
        super().__init__(key.agent, key.blob, key.comment)
        self._tell = tell

    def text(self) -> str:
        """Return what it is called."""
        return f"agent key {self.comment or self.get_name()}"

    def sign_ssh_data(self, *data: Any, **more: Any) -> Any:
        """Return the signature, b"" where there is none."""
        try:
            return super().sign_ssh_data(*data, **more)
        except BROKEN as exc:
            self.lost = isinstance(exc, OSError)
            self._tell(f"{self.text()}: the agent did not sign ({_reason(exc)})")
            return b""


class _Agent(paramiko.Agent):
    """paramiko's, but each of its answers has a deadline, in seconds. Raises one of `BROKEN`."""

    def __init__(self, path: str, seconds: float) -> None:
        # Not paramiko.Agent's, which connects without a deadline
        super(paramiko.Agent, self).__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(path)
            connect: Any = getattr(self, "_connect")  # noqa: B009 (private, so the stubs leave it out)
            connect(connection)
        except BaseException:
            connection.close()
            raise


def agent_keys(seconds: float, tell: Callable[[str], object]) -> Iterator[AgentKey]:
    """Yield the keys of the agent that `SSH_AUTH_SOCK` names; none where it names none.

    The agent has so many seconds for each answer. What is wrong with it goes to `tell`, and nothing is raised.
    """
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return
    try:
        agent = _Agent(path, seconds)
    except BROKEN as exc:
        tell(f"the agent at {path} gives no keys: {_reason(exc)}")
        return
    try:
        for each in agent.get_keys():
            yield (key := AgentKey(each, tell))
            if key.lost:
                return
    finally:
        agent.close()


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
