"""`kbpg destroy`: what it shows, what it asks, what it says is left."""

from __future__ import annotations

import sys
from typing import Any

from kbpg.cli.opening import PATIENCE, opened, workplace
from kbpg.console import Console, Line, Style
from kbpg.errors import Exit, Refused, UsageError
from kbpg.layout import layout
from kbpg.operations import destroying
from kbpg.operations.destroying import Before, Removed, Wanted, why_not_destroy
from kbpg.options import Options
from kbpg.session import Session, read_context


def destroy(options: Options, wanted: Wanted, *, confirm: str | None) -> int:
    """Remove the cluster and return the exit code; says what that will be, and asks first."""
    context, _ = read_context(options, credentials_exist=True)
    name = context.inventory.cluster.name
    if confirm is not None and confirm != name:
        raise UsageError(f"--confirm {confirm}: the cluster's name is {name}")
    options.patience = PATIENCE
    with Console(color=options.color, mask=options.masked) as console:
        console.busy("connecting to the hosts")
        with opened(options, console, "destroy", lock=True, partial=True, credentials_exist=True) as session:
            removed = _destroy(session, console, options, wanted, confirm)
        if options.json:
            console.data(_document(session, wanted, removed))
        else:
            console.result(_done(session, wanted, removed))
    return int(Exit.OK)


def _destroy(
    session: Session, console: Console, options: Options, wanted: Wanted, confirm: str | None
) -> Removed:
    site = workplace(session, console)
    console.busy("reading the hosts")
    before = destroying.look(site)
    console.rest()
    console.say(found(session, before, wanted))
    if refusal := why_not_destroy(site, before, wanted):
        raise refusal
    _agreed(session, console, options, wanted, confirm)
    console.busy("destroy")
    # Once more: nobody limits the time for an answer, and another may lead by now, or clients be back
    return destroying.destroy(site, destroying.look(site), wanted)


def _agreed(
    session: Session, console: Console, options: Options, wanted: Wanted, confirm: str | None
) -> None:
    """Ask. Raises `Refused` where nobody agrees; --yes alone is no agreement to lose data."""
    name, terminal = session.context.inventory.cluster.name, sys.stdin.isatty()
    if not wanted.with_data:
        if not options.yes and not (terminal and console.ask("remove all this? the data stays")):
            raise Refused("nothing was removed", hint="--yes goes ahead without asking")
        return
    if confirm is not None:
        return
    if not terminal:
        raise Refused("nothing was removed", hint=f"--confirm {name} goes ahead without asking")
    sys.stderr.write(f'the data of {name} will be gone for good; type "{name}" to go on: ')
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise Refused("nothing was removed: that is not the cluster's name")


def found(session: Session, before: Before, wanted: Wanted) -> list[Line]:
    """Return what is on the hosts, and what will become of it."""
    name, paths = session.context.inventory.cluster.name, layout(session.context)
    lines = [Line(f"cluster {name}", Style.TITLE)]
    for host, has in before.stock.items():
        parts = [f"container {each}" for each in has.containers]
        parts += (
            [] if wanted.keep_images else [f"image {each}" for each, label in has.images.items() if label]
        )
        if has.data and has.data.present:
            fate = "removed" if wanted.with_data else "kept"
            parts.append(f"{has.size >> 20} MB of data in {paths.data}, {fate}")
        lines.append(Line(f"  {host}: {', '.join(parts) or 'nothing but files of configuration'}"))
    lines += [
        Line(f"  {host}: cannot be reached, what it has stays there", Style.WARNING) for host in before.away
    ]
    lines += [Line(f"  {count} clients {way}", Style.WARNING) for way, count in before.clients.items()]
    return lines


def _done(session: Session, wanted: Wanted, removed: Removed) -> list[Line]:
    lines = [Line(f"{host}: removed {', '.join(items)}") for host, items in removed.items.items()]
    return [*lines, Line(), *(Line(text, Style.HINT) for text in _left(session, wanted))]


def _left(session: Session, wanted: Wanted) -> list[str]:
    """Return what is still there, and what it is for."""
    context = session.context
    credentials, paths = context.inventory.credentials_path, layout(context)
    if wanted.with_data:
        left = [f"{credentials} is left; a new cluster would take its passwords from there"]
    else:
        left = [
            f"kept: the data in {paths.data} and Raft's memory, on the db hosts",
            f"kept: {credentials}, from now on the only copy of the passwords: keep it",
            "kbpg apply-all brings the same cluster back",
        ]
    return [*left, "not touched: Docker, base images, kernel settings until the next boot"]


def _document(session: Session, wanted: Wanted, removed: Removed) -> dict[str, Any]:
    return {
        "cluster": session.context.inventory.cluster.name,
        "data": "removed" if wanted.with_data else "kept",
        "removed": removed.items,
        "unreachable": list(session.unreachable),
        "left": _left(session, wanted),
    }
