"""What `kbpg raft` does and shows."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from kbpg.amid import Amid
from kbpg.cli.opening import working, workplace
from kbpg.console import Console, Line, Style
from kbpg.errors import Exit, Refused, UsageError
from kbpg.inventory import load
from kbpg.layout import layout
from kbpg.operations import raft_members
from kbpg.operations.raft_lost import Before, why_not_rebuild
from kbpg.operations.raft_rebuild import Rebuild
from kbpg.options import Options
from kbpg.raft import RaftStatus
from kbpg.raft_admin import Consensus
from kbpg.session import Session

HEADINGS = ("member", "address", "state", "leader", "quorum", "term", "commit", "log", "partners")
CONFIRMATION = "rebuild"
"""What has to be typed: more than a y, because the database stops everywhere."""


def status(options: Options) -> int:
    """Show all members side by side, and return the exit code: 0 when they are one, 1 otherwise."""
    with Console(color=options.color, mask=options.masked) as console:
        with working(
            options, console, "raft status", lock=False, partial=True, credentials_exist=True
        ) as session:
            found = raft_members.look(workplace(session, console))
        if options.json:
            console.data(found.document())
        else:
            console.result(shown(found))
    return int(Exit.OK if found.healthy else Exit.FAILED)


def remove(options: Options, address: str) -> int:
    """Remove a member for good, show what is left, and return the exit code."""
    if not re.fullmatch(r"\S+:\d{1,5}", address):
        raise UsageError(f"not an address with a port: {address}", hint="such as 10.0.0.123:7000")
    with Console(color=options.color, mask=options.masked) as console:
        with working(
            options,
            console,
            "raft remove-member",
            lock=True,
            partial=True,
            credentials_exist=True,
            amid=Amid.MEND,
        ) as session:
            console.rest()
            question = f"remove {address} from the consensus? a host that comes back with it has to join anew"
            if not options.yes and not (sys.stdin.isatty() and console.ask(question)):
                raise Refused("nothing was removed", hint="--yes goes ahead without asking")
            found = raft_members.remove_member(workplace(session, console), address)
        if options.json:
            console.data({"removed": address, **found.document()})
        else:
            console.result([Line(f"{address} is no member any more", Style.GOOD), Line(), *shown(found)])
    return int(Exit.OK)


def rebuild(options: Options, without: tuple[str, ...]) -> int:
    """Rebuild the consensus and return the exit code; says what it found and will do, and asks first."""
    inventory = load(options.inventory)
    names = [host.name for host in inventory.db]
    for name in without:
        if inventory.host(name).role != "db":
            raise UsageError(f"{name} is no member of the consensus", hint=f"members: {', '.join(names)}")
    with Console(color=options.color, mask=options.masked) as console:
        with working(
            options, console, "raft rebuild", lock=True, partial=True, credentials_exist=True, amid=Amid.MEND
        ) as session:
            site = workplace(session, console)
            work = Rebuild(site, without)
            before = work.look()
            console.rest()
            console.say(intended(before))
            _refuse(why_not_rebuild(before))
            if not options.yes and not _typed():
                raise Refused("nothing was changed", hint="--yes goes ahead without asking")
            console.busy("raft rebuild")
            leader = work.run(_again(work, before))
            found = raft_members.look(site)
        if options.json:
            console.data({"leader": leader, **found.document()})
        else:
            console.result(
                [Line(f"{leader} leads, and the others have joined it", Style.GOOD), Line(), *shown(found)]
            )
            console.say(_afterwards(session, without))
    return int(Exit.OK)


def _refuse(why: str | None) -> None:
    """Raise `Refused` where there is a reason against the rebuild."""
    if why:
        raise Refused(f"not rebuilt: {why}", hint="kbpg raft status shows all members side by side")


def _again(work: Rebuild, shown: Before) -> Before:
    """Return what is so now: nobody limits the time for an answer, and a host may have come back meanwhile.

    Raises `Refused` where nothing may be stopped any more, or where more would be stopped than was agreed to.
    """
    now = work.look()
    _refuse(why_not_rebuild(now))
    if shown.half_done and not now.half_done:
        _refuse(f"{', '.join(shown.leaders)} led when this was asked, and does not now; run it again")
    return now


def _typed() -> bool:
    """Ask for the word to be typed; no where nobody is there to type it."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f'type "{CONFIRMATION}" to go on: ')
    sys.stderr.flush()
    return sys.stdin.readline().strip() == CONFIRMATION


def shown(found: Consensus) -> list[Line]:
    """Return the members side by side, each with its partners, and what is wrong."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    rows += [_row(found, name, address) for name, address in found.members.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        Line("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)), style)
        for row, style in zip(rows, [Style.TITLE, *[Style.PLAIN] * len(found.members)], strict=True)
    ]
    lines += [
        Line(f"ghost: {ghost}, counted by {', '.join(names)}, is no host of the inventory", Style.WARNING)
        for ghost, names in found.ghosts.items()
    ]
    end = Line("all members agree", Style.GOOD)
    if not found.with_quorum:
        mistaken = [name for name, status in found.answering.items() if status.has_quorum and status.leader]
        why = f" (the leader that {', '.join(mistaken)} name sees none)" if mistaken else ""
        end = Line(f"no quorum: nothing can be written{why}", Style.BAD)
    elif not found.healthy:
        end = Line(f"not whole: {_odd(found)}", Style.WARNING)
    return [*lines, Line(), end]


def _odd(found: Consensus) -> str:
    silent = [name for name in found.members if name not in found.answering]
    away = {partner for status in found.answering.values() for partner in status.away}
    parts = [f"{', '.join(silent)} does not answer"] if silent else []
    parts += [f"{', '.join(sorted(away))} is not connected everywhere"] if away else []
    return "; ".join(parts) or "the members do not count the same members"


def _row(found: Consensus, name: str, address: str) -> tuple[str, ...]:
    status = found.seen.get(name, "was not asked")
    if not isinstance(status, RaftStatus):
        return (name, address, "silent", *["-"] * 5, status)
    partners = " ".join(
        f"{partner}{'' if up else ' (away)'}" for partner, up in sorted(status.partners.items())
    )
    quorum = "yes" if status.has_quorum else "no"
    numbers = (str(status.term), str(status.commit_index), str(status.log_length))
    return (name, address, status.state, status.leader or "nobody", quorum, *numbers, partners or "none")


def intended(before: Before) -> list[Line]:
    """Return what was found before a rebuild, and what it will do."""
    lines = [*shown(before.consensus), Line()]
    lines += [
        Line(f"{name}: container {state}, {before.positions[name]}") for name, state in before.states.items()
    ]
    lines += [Line(f"{name}: cannot be reached", Style.WARNING) for name in before.lost]
    lines += _at_large(before)
    if before.started:
        lines.append(Line(f"a rebuild of {before.started} was left half-way; this one goes on with it"))
    steps = _steps(before)
    return [*lines, *(Line(f"  {number}. {text}") for number, text in enumerate(steps, 1))]


def _at_large(before: Before) -> list[Line]:
    """Return what must be so of the hosts that are gone, and who sees it; nothing where all can be stopped."""
    if not before.at_large or before.half_done:
        return []
    names = ", ".join(before.at_large)
    seen = (
        f"HAProxy on {', '.join(before.has_up)} was asked whether {names} is up"
        if before.has_up
        else f"no proxy can be asked whether {names} is up"
    )
    risk = f"{names} must be switched off: a leader there, out of sight from here, would go on beside the new one"
    return [Line(f"{seen}; nobody else here can tell", Style.WARNING), Line(risk, Style.WARNING)]


def _steps(before: Before) -> list[str]:
    joining = "let the others join it one by one, each when the one before streams"
    if before.half_done:
        return [f"go on with {', '.join(before.leaders)}, which leads already", joining]
    if before.chosen is None:
        return []
    return [
        f"stop Patroni and PostgreSQL on {', '.join(n for n in before.states if n not in before.bare)}",
        "move the Raft directories aside; the data directories stay as they are",
        f"start {before.chosen} alone, whose data reaches farthest, and wait until it leads",
        joining,
    ]


def _afterwards(session: Session, without: Sequence[str]) -> list[Line]:
    raft = layout(session.context).raft
    old = (
        f"the old Raft directories are beside the new, to be removed on each db host: rm -rf {raft}.before-*"
    )
    return [
        Line(old, Style.HINT),
        *(
            Line(
                f"before {name} comes back: rm -rf {raft} there, it remembers the old consensus",
                Style.WARNING,
            )
            for name in without
        ),
    ]
