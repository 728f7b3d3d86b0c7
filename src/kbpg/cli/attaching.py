"""`kbpg psql` and `kbpg logs`: a program on a host, and the user's own terminal or pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kbpg.cli.opening import opened
from kbpg.cli.status import PATIENCE
from kbpg.console import Console, Line, Style
from kbpg.errors import Exit, KbpgError, Refused, UsageError
from kbpg.facts import NotKnown
from kbpg.hosts.attached import attached, interact
from kbpg.hosts.session import STDOUT
from kbpg.operations import logs as log
from kbpg.operations import psql as client
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.patroni import NodeFact, leader_of
from kbpg.session import Session, read_context

if TYPE_CHECKING:
    from kbpg.hosts.ssh import SshHost

_CHUNK = 1 << 15


def psql(options: Options, words: Sequence[str], *, host: str | None, pooled: bool) -> int:
    """Run psql on `host` (None: the leader), joined to this terminal or pipe; return 0 if psql did, else 1."""
    context, _ = read_context(options, credentials_exist=True)
    if host is not None and context.inventory.host(host).role != "db":
        raise UsageError(f"{host} runs no PostgreSQL", hint=f"--host one of {', '.join(context.db_names)}")
    try:
        return _psql(options, words, host, pooled=pooled)
    except BrokenPipeError:
        return _left()


def _left() -> int:
    """Take it for the end that whoever reads the output has seen enough, as `head` does."""
    # The interpreter's own flush at its end must not complain
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return int(Exit.OK)


def _psql(options: Options, words: Sequence[str], host: str | None, *, pooled: bool) -> int:
    context, _ = read_context(options, credentials_exist=True)
    options.patience = None if host else PATIENCE
    with (
        Console(color=options.color, mask=options.masked) as console,
        opened(
            options,
            console,
            "psql",
            lock=False,
            partial=host is None,
            credentials_exist=True,
            only=(host,) if host else context.db_names,
        ) as session,
    ):
        target = cast("SshHost", session.hosts[host or _leader(session)])
        status = _run_psql(session, target, words, pooled=pooled)
    return int(Exit.OK if status == 0 else Exit.FAILED)


def _leader(session: Session) -> str:
    """Return the host that leads. Raises `Refused` where none is seen to."""
    context = session.context
    node = NodeFact(context.inventory.ports.patroni)
    site = site_of(context, session.hosts, session.controller, lambda place, text: None)
    facts = site.look(dict.fromkeys(context.db_names, (node,)))
    try:
        return leader_of(facts, node, context.db_names)
    except NotKnown as reason:
        raise Refused(
            f"no leader to connect to: {reason.reason}",
            detail=[str(error) for error in session.unreachable.values()],
            hint="--host HOST connects to a node whatever it is; kbpg status",
        ) from None


def _run_psql(session: Session, host: SshHost, words: Sequence[str], *, pooled: bool) -> int:
    from kbpg.hosts.terminal import Terminal

    context = session.context
    screen = Terminal() if sys.stdin.isatty() and sys.stdout.isatty() else None
    kind = screen.kind if screen else None
    if pooled:
        file = client.leave_password(context, host)
        argv = client.pooled(context, words, terminal=kind, password_file=file)
    else:
        argv = client.direct(context, words, terminal=kind)
    # What was typed may hold a password: the journal gets the word alone
    shown = ("psql", "--pooled") if pooled else ("psql",)
    if screen:
        return interact(host, argv, shown=shown, terminal=screen)
    with attached(host, argv, shown=shown, stdin=_input(words)) as running:
        for stream, data in running.output:
            _write(sys.stdout if stream == STDOUT else sys.stderr, data)
        return running.status


def _input(words: Sequence[str]) -> bytes | Iterator[bytes]:
    """Return what psql is to read: nothing from a terminal where the commands are given."""
    if sys.stdin.isatty() and words:
        return b""
    return iter(lambda: os.read(sys.stdin.fileno(), _CHUNK), b"")


def _write(stream: object, data: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode(errors="replace"))  # type: ignore[attr-defined]
    else:
        buffer.write(data)
        buffer.flush()


def logs(
    options: Options, host: str, component: str, *, follow: bool, since: str | None, lines: int | None
) -> int:
    """Show a container's log and return the exit code; Ctrl-C is how following it ends."""
    context, _ = read_context(options)
    container = log.container_of(context, host, component)
    argv = log.command(container, follow=follow, since=since, lines=lines)
    try:
        with Console(color=options.color, mask=options.masked) as console:
            _show_log(console, options, host, argv)
    except BrokenPipeError:
        return _left()
    except (KeyboardInterrupt, KbpgError) as error:
        if not follow or not _interrupted(error):
            raise
    return int(Exit.OK)


def _interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind it: it closes the connection, an error to whoever still reads."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _show_log(console: Console, options: Options, host: str, argv: Sequence[str]) -> None:
    with opened(options, console, "logs", lock=False, only=(host,)) as session:
        if session.found is None:
            console.say([Line("no credentials file: passwords cannot be masked", Style.WARNING)])
        target = cast("SshHost", session.hosts[host])
        with attached(target, argv, shown=("docker", "logs", *argv[4:])) as running:
            pieces = (data for _, data in running.output)
            for line in log.masked_lines(pieces, options.mask):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        if running.status:
            raise KbpgError(f"{host}: docker logs ended with exit code {running.status}")
