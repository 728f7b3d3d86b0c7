"""How a command that has a console opens its session: what `-v` shows, who is asked, what is said of hosts away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Required, TypedDict, Unpack

from kbpg.amid import Amid
from kbpg.cli import closing
from kbpg.cli.progress import Progress
from kbpg.console import Console, Line, Style
from kbpg.context import Context
from kbpg.engine.site import Site
from kbpg.hosts.port import Writer
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.session import Besides, Session, open_session

PATIENCE = 4.0
"""Seconds for each stage of a host's login, where the inventory allows more: one that is off must not keep what is to
be said of the others from whoever waits. Where questions hang as well, such as one that wants the leader who is
off, health.looking's DEADLINE and LOGS come on top: ADR 0024."""


class How(TypedDict, total=False):
    """What a command chooses; `open_session` says what each of them is."""

    lock: Required[bool]
    partial: bool
    credentials_exist: bool
    renewing: bool
    lenient: bool
    only: Collection[str]
    amid: Amid
    meanwhile: Callable[[Context], object]
    connected: Callable[[Context, Writer], object]
    besides: Besides


def warns(console: Console) -> Callable[[str], None]:
    """Return what prints a warning, as `open_session` wants it."""
    return lambda text: console.say([Line(text, Style.WARNING)])


@contextmanager
def opened(options: Options, console: Console, doing: str, **how: Unpack[How]) -> Iterator[Session]:
    """Open a session as `open_session` does, raising as it does; a terminal is asked about unknown host keys."""
    watcher = Progress(console) if options.verbose else None
    ask = console.asking
    tell = warns(console)
    with open_session(options, doing=doing, watcher=watcher, ask=ask, tell=tell, **how) as session:
        yield session


@contextmanager
def working(
    options: Options, console: Console, doing: str, then: str = "", **how: Unpack[How]
) -> Iterator[Session]:
    """Open a session, and say which hosts are left out; a terminal then shows `then` (`doing`) as going on."""
    console.busy("connecting to the hosts")
    with opened(options, console, doing, **how) as session:
        console.say(closing.left_out(session.unreachable))
        console.busy(then or doing)
        yield session


def workplace(session: Session, console: Console) -> Site:
    """Return where an operation works, what it notes printed."""
    return site_of(session.context, session.hosts, session.controller, Progress(console).note)
