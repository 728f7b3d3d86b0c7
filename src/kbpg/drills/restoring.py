"""What a drill that was killed left broken is taken back, before anything else is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kbpg.context import Context
from kbpg.drills import note, power
from kbpg.drills.links import Links
from kbpg.drills.mending import perform
from kbpg.drills.undo import Kind
from kbpg.errors import KbpgError
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Writer
from kbpg.hosts.settings import Recorder
from kbpg.options import Options

Say = Callable[[str], None]


def switch_on(left: note.Note, context: Context, controller: Writer, say: Say) -> None:
    """Switch on what the drill switched off: before any host is connected. Raises `KbpgError`."""
    off = [act for act in left.undo if act.kind is Kind.POWER_ON]
    for act in off:
        say(f"a drill ({left.drill}) was broken off: {act.text}")
    if off:
        power.on(context, controller, *(act.host for act in off))


def restore(
    left: note.Note,
    context: Context,
    options: Options,
    recorder: Recorder,
    hosts: Mapping[str, Writer],
    say: Say,
) -> None:
    """Take everything back, and forget the drill where all could be. What could not is said; never raises it."""
    complete = True
    with Links(context.inventory, options, recorder, hosts) as links:
        for act in left.undo:
            try:
                perform(act, context, links, LocalHost(recorder))
            except KbpgError as error:
                complete = False
                say(f"a drill ({left.drill}) was broken off, and not all of it is taken back: {error}")
            else:
                say(f"a drill ({left.drill}) was broken off: {act.text}")
    if complete:
        note.forget(options.state)
