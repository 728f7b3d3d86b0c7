"""`kbpg status`: the cluster on one screen, once or again and again."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kbpg.cli.ahead import import_psycopg
from kbpg.cli.live import screen
from kbpg.cli.opening import warns
from kbpg.connecting import connect_all
from kbpg.console import Console, Line
from kbpg.credentials.model import PASSWORDS
from kbpg.errors import Exit
from kbpg.options import Options
from kbpg.pki import too_open
from kbpg.secret import masked
from kbpg.session import Session, open_session
from kbpg.status.asking import take
from kbpg.status.screen import document, lines
from kbpg.status.standing import Standing
from kbpg.status.staying import Connect, Connected, Staying

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 2.5
"""Seconds for each stage of a host's login, where the inventory allows more: others want to see the rest now."""
KINDS = ("db", "proxies")
"""The inventory's lists of hosts."""

Show = Callable[[Standing], None]


def status(options: Options, *, every: float | None = None) -> int:
    """Show the cluster and return the exit code: 0 if a leader serves, else 1.

    With `every`, show it again after so many seconds, until Ctrl-C, and return 0.
    """
    options.patience = PATIENCE
    try:
        with Console(color=options.color, mask=options.masked) as console:
            console.busy("connecting to the hosts")
            ask = console.asking
            with open_session(
                options,
                doing="status",
                lock=False,
                partial=True,
                credentials_exist=True,
                lenient=True,
                ask=ask,
                tell=warns(console),
                meanwhile=import_psycopg,
            ) as session:
                for path, mode in session.context.pki.exposed.items():
                    warns(console)(f"{too_open(path, mode)}; kbpg diagnose says what mends it")
                console.busy("reading the hosts")
                if every is None:
                    return _once(console, session, options)
                _watch(console, session, options, every)
    except KeyboardInterrupt:
        if every is None:
            raise
    except BrokenPipeError:
        if every is None:
            raise
        # Whoever read has seen enough; the interpreter's own flush at its end must not complain
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return int(Exit.OK)


def _once(console: Console, session: Session, options: Options) -> int:
    standing = take(session.context, session.hosts, session.unreachable, missing=_missing(session))
    if options.json:
        console.data(document(standing))
    else:
        console.result(lines(standing))
    return int(Exit.OK if standing.serves else Exit.FAILED)


def _watch(console: Console, session: Session, options: Options, every: float) -> None:
    with ExitStack() as stack:
        known = cast("Mapping[str, Connected]", session.hosts)
        hosts = Staying(known, session.unreachable, _again(session, options, stack))
        stack.callback(hosts.close)
        show = stack.enter_context(_output(console, options))
        while True:
            started = time.monotonic()
            connected, lost = hosts.now()
            standing = take(session.context, connected, lost, missing=_missing(session))
            show(standing)
            time.sleep(max(0.0, started + every - time.monotonic()))


@contextmanager
def _output(console: Console, options: Options) -> Iterator[Show]:
    """Yield what shows one refresh: in place on a terminal, else a block of lines, or a line of JSON."""
    console.rest()
    if options.json:
        yield lambda standing: print(
            json.dumps(masked(document(standing), options.masked), ensure_ascii=False), flush=True
        )
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        with screen(color=options.color and not os.environ.get("NO_COLOR")) as draw:
            yield lambda standing: draw(
                Line(options.masked(line.text), line.style) for line in lines(standing)
            )
    else:
        yield lambda standing: console.result([*lines(standing), Line()])


def _again(session: Session, options: Options, stack: ExitStack) -> Connect:
    """Return what connects to one host again; nobody is asked about its key in the middle of a screen."""
    inventory = session.context.inventory

    def connect(name: str) -> Connected:
        host = inventory.host(name)
        alone = inventory.model_copy(
            update={kind: [each for each in getattr(inventory, kind) if each is host] for kind in KINDS}
        )
        hosts, errors = connect_all(alone, options, session.journal, None, stack)
        if errors:
            raise errors[name]
        return hosts[name]

    return connect


def _missing(session: Session) -> Collection[str]:
    """Return the names of passwords that are not the cluster's: they were made up in memory just now."""
    if session.unknown is not None:
        return session.unknown
    return session.found.missing if session.found else PASSWORDS.keys()
