"""`kbpg failover`, `pause` and `resume`: what they show and ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kbpg.amid import Amid
from kbpg.cli.opening import PATIENCE, working, workplace
from kbpg.console import Console, Line, Style
from kbpg.engine.site import Site
from kbpg.errors import Exit, Refused, UsageError
from kbpg.operations import pausing
from kbpg.operations.failover import fail_over, look
from kbpg.operations.leaderless import (
    Leaderless,
    refuse_loss,
    what_is_lost,
    what_may_be_lost,
    why_not_fail_over,
)
from kbpg.operations.position import most_advanced
from kbpg.options import Options
from kbpg.patroni import NodeStatus
from kbpg.session import read_context


def pause(options: Options, *, paused: bool) -> int:
    """Switch Patroni's maintenance mode on or off, show where that was seen, and return the exit code."""
    with Console(color=options.color, mask=options.masked) as console:
        with _opened(options, console, "pause" if paused else "resume") as site:
            seen = pausing.pause(site) if paused else pausing.resume(site)
        if options.json:
            console.data(
                {
                    "paused": seen.paused,
                    "changed": seen.changed,
                    "confirmed": list(seen.confirmed),
                    "silent": list(seen.silent),
                }
            )
        else:
            console.result(_pause_lines(seen))
    return int(Exit.OK)


def _pause_lines(seen: pausing.Seen) -> list[Line]:
    already = "" if seen.changed else "already "
    where = ", ".join(seen.confirmed)
    lines = [Line(f"{already}{'paused' if seen.paused else 'not paused'}, on {where}", Style.GOOD)]
    lines += [Line(f"not seen on {why}", Style.WARNING) for why in seen.silent.values()]
    if seen.paused:
        lines.append(Line("nobody takes over when the leader fails, until: kbpg resume", Style.WARNING))
    return lines


def failover(options: Options, to: str, *, accept_loss: bool) -> int:
    """Say what would be lost, make `to` the leader if that was agreed to, and return the exit code."""
    context, _ = read_context(options, credentials_exist=True)
    if context.inventory.host(to).role != "db":
        raise UsageError(f"{to} runs no PostgreSQL", hint=f"one of {', '.join(context.db_names)}")
    with Console(color=options.color, mask=options.masked) as console:
        with _opened(options, console, "failover") as site:
            seen = look(site, to)
            console.rest()
            console.say(positions(seen))
            if refusal := why_not_fail_over(seen):
                raise refusal
            console.say(losses(seen, context.inventory.cluster.synchronous))
            if seen.farther and not accept_loss:
                raise refuse_loss(seen)
            if not options.yes:
                raise Refused("nothing was changed", hint="--yes goes ahead")
            console.busy(f"failover to {to}")
            timeline = fail_over(site, seen, accept_loss=accept_loss)
        if options.json:
            console.data(_document(seen, timeline))
        else:
            console.result(_failed_over(seen, timeline))
    return int(Exit.OK)


def positions(seen: Leaderless) -> list[Line]:
    """Return how far each node's data reaches, the most advanced marked, and what Patroni says there."""
    first = most_advanced(seen.positions)
    width = max(len(name) for name in seen.nodes)
    lines = [Line("how far the data reaches", Style.TITLE)]
    for name, position in seen.positions.items():
        node = seen.nodes[name]
        said = f"{node.role}, {node.state}" if isinstance(node, NodeStatus) else node
        best = ", the most advanced" if first and position == seen.positions[first] else ""
        lines.append(Line(f"  {name:<{width}}  {position}{best}; {said}"))
    return lines


def losses(seen: Leaderless, synchronous: str) -> list[Line]:
    """Return what is, and what may be, lost when `seen.host` leads."""
    certain = [Line(f"lost: {text}", Style.BAD) for text in what_is_lost(seen)]
    possible = [Line(f"not known: {text}", Style.WARNING) for text in what_may_be_lost(seen, synchronous)]
    nothing = Line(f"nothing is lost: no node's data reaches farther than that of {seen.host}", Style.GOOD)
    other = Line("Patroni is paused: after kbpg resume a replica takes over by itself", Style.HINT)
    return [*([*certain, *possible] or [nothing]), *([other] if seen.paused else [])]


def _failed_over(seen: Leaderless, timeline: int) -> list[Line]:
    lines = [Line(f"{seen.host} leads and takes writes, on timeline {timeline}", Style.GOOD)]
    if seen.paused:
        lines.append(Line("Patroni is still paused; when the work is done: kbpg resume", Style.WARNING))
    return [*lines, Line("what is still to be mended: kbpg diagnose", Style.HINT)]


def _document(seen: Leaderless, timeline: int) -> dict[str, Any]:
    return {
        "leader": seen.host,
        "timeline": timeline,
        "paused": seen.paused,
        "lost": what_is_lost(seen),
        "unknown": list(seen.unknown),
        "positions": {name: str(position) for name, position in seen.positions.items()},
    }


@contextmanager
def _opened(options: Options, console: Console, doing: str) -> Iterator[Site]:
    """Open what these commands work with: the db hosts that can be reached, under the lock."""
    options.patience = PATIENCE
    context, _ = read_context(options, credentials_exist=True)
    with working(
        options,
        console,
        doing,
        lock=True,
        partial=True,
        credentials_exist=True,
        only=context.db_names,
        amid=Amid.MEND,
    ) as session:
        yield workplace(session, console)
