"""A command that a person is attached to: it has no deadline, and its output comes as it is written.

It changes nothing on its own account, so it is not under the lock. The journal gets `shown`, not what was typed.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kbpg.errors import HostError
from kbpg.hosts.become import BEGIN, SILENT, at_terminal

if TYPE_CHECKING:
    from kbpg.hosts.ssh import SshHost
    from kbpg.hosts.terminal import Terminal
    from kbpg.secret import Secret

START_TIMEOUT = 30.0
"""Seconds until the command is started."""


class Attached:
    """A running command; `status` is its exit status once `output` has ended."""

    def __init__(self, output: Iterator[tuple[int, bytes]]) -> None:
        self.output = output
        self.status = -1


@contextlib.contextmanager
def attached(
    host: SshHost, argv: Sequence[str], *, shown: Sequence[str], stdin: bytes | Iterable[bytes] | None = None
) -> Iterator[Attached]:
    """Run `argv` as root on `host`; `stdin` None keeps its standard input open, so its end means: let go.

    `output` yields (1 or 2, bytes). At the end of the context the command loses its input and its output.
    Raises `ConnectionLost`, `HostError`.
    """
    link, line = host._link, shlex.join((*host._become, *argv))
    with (
        link.recorded(shown) as record,
        link.session(line, START_TIMEOUT, lambda: shlex.join(shown)) as session,
    ):
        record.session = session
        session.expire_at(math.inf)
        if stdin is not None:
            session.feed(stdin)
        running = Attached(iter(()))

        def output() -> Iterator[tuple[int, bytes]]:
            yield from session.output()
            running.status = record.status = session.status()

        running.output = output()
        yield running


def interact(host: SshHost, argv: Sequence[str], *, shown: Sequence[str], terminal: Terminal) -> int:
    """Run `argv` as root on `host` in a terminal of its own, joined to `terminal`; return its exit status.

    Raises `ConnectionLost` when the connection ends before the command does, `HostError`.
    """
    from kbpg.hosts.lean import paramiko

    link, password = host._link, host._password
    line = at_terminal(argv) if password else shlex.join((*host._become, *argv))
    with link.recorded(shown) as record:
        try:
            channel = link.transport.open_session(timeout=START_TIMEOUT)
            with contextlib.closing(channel):
                columns, rows = terminal.size()
                channel.get_pty(terminal.kind, columns, rows)
                channel.exec_command(line)
                if password:
                    _let_in(channel, host, password)
                terminal.join(channel, link)
                if not channel.exit_status_ready() or channel.exit_status < 0:
                    raise link.lost(shlex.join(shown))
                record.status = int(channel.exit_status)
        except (paramiko.SSHException, EOFError) as exc:
            if not link.alive:
                raise link.lost(shlex.join(shown)) from exc
            raise HostError(host.name, f"sshd gives no terminal: {exc}") from exc
        return int(record.status)


def _let_in(channel: Any, host: SshHost, password: Secret) -> None:
    """Give sudo its password, as `at_terminal` wants it. Raises `HostError`."""
    channel.settimeout(START_TIMEOUT)
    for wanted, answer in ((SILENT, password.reveal()), (BEGIN, BEGIN)):
        shown = bytearray()
        while f"{wanted}\r\n".encode() not in shown:
            try:
                data = channel.recv(1 << 15)
            except TimeoutError:
                data = b""
            if not data:
                said = host._link.journal.mask(shown.decode(errors="replace"))
                raise HostError(host.name, "sudo did not start the command", detail=said.split("\r\n"))
            shown += data
        channel.sendall(f"{answer}\n".encode())
    channel.settimeout(None)
