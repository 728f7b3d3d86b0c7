"""What `kbpg config` does and shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kbpg.cli import documents, texts
from kbpg.cli.closing import command
from kbpg.cli.limiting import EDIT
from kbpg.cli.opening import working, workplace
from kbpg.cli.progress import Progress
from kbpg.cli.spoken import unspoken
from kbpg.console import Console, Line, Style
from kbpg.context import Context
from kbpg.engine.outcome import Outcome
from kbpg.engine.run import Run
from kbpg.errors import Exit, Refused
from kbpg.inventory.assignment import Assignment, assignments
from kbpg.inventory.store import Edit, edit
from kbpg.model import Status
from kbpg.operations import config_set, config_show
from kbpg.operations.config_set import Applied, Verified
from kbpg.operations.config_show import Row, Shown
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.pki import demand_written
from kbpg.session import Session
from kbpg.steps import ALL


def show(options: Options) -> int:
    """Show the configuration and return the exit code: 0 when cluster and inventory agree, 3 otherwise."""
    with Console(color=options.color, mask=options.masked) as console:
        with working(
            options, console, "config show", lock=False, partial=True, credentials_exist=True
        ) as session:
            found = config_show.look(workplace(session, console), list(session.unreachable))
        if options.json:
            console.data(found.document())
        else:
            console.result(shown(found))
    return int(Exit.OK if found.agrees else Exit.DIFFERS)


def change(options: Options, words: Sequence[str], unset: Sequence[str]) -> int:
    """Set settings and return the exit code; raises `InputError` before anything is touched."""
    wanted = assignments(words, unset)
    edited = edit(options.inventory, wanted)
    with (
        Console(color=options.color, mask=options.masked) as console,
        working(
            options,
            console,
            "config set",
            lock=True,
            partial=False,
            credentials_exist=True,
            besides=lambda context, hosts, controller: [f"config set needs every host; {EDIT}"],
        ) as session,
    ):
        session.learn(unspoken(words))
        demand_written(session.context.pki, session.context.inventory.pki_path)
        work = _Work(session, console, edited, wanted)
        return work.done(as_json=options.json)


class _Work:
    """One `config set`, on an open session."""

    def __init__(
        self, session: Session, console: Console, edited: Edit, wanted: Sequence[Assignment]
    ) -> None:
        self._session, self._console = session, console
        self._edit, self._wanted = edited, wanted
        self._progress = Progress(console)
        self._old = session.context
        self._new = replace(session.context, inventory=edited.inventory)
        self._site = site_of(self._new, session.hosts, session.controller, self._progress.note)

    def done(self, *, as_json: bool) -> int:
        """Do it, show how it ended, return the exit code."""
        steps = config_set.steps_for(self._wanted)
        trials = config_set.tried(self._site, self._wanted)
        self._require(config_set.in_the_way(self._run(self._new, quiet=True).plan(steps)))
        applied = config_set.apply(
            self._site, self._edit, steps, lambda: self._run(self._new), lambda: self._run(self._old)
        )
        if applied.report.failed:
            return self._gone_back(applied, as_json=as_json)
        self._console.busy("looking at what is in force")
        verified = config_set.verify(self._site, trials)
        left = self._run(self._new, quiet=True).plan(ALL).of(Status.DIFFERS, Status.UNKNOWN, Status.FAILED)
        if as_json:
            self._console.data(self._document(applied, verified, left))
        else:
            self._console.result(self._ended(verified, left))
        return int(Exit.FAILED if verified.problems else Exit.OK)

    def _require(self, in_the_way: Sequence[Outcome]) -> None:
        """Raise `Refused` if anything is in the way; what it is has been shown then."""
        if in_the_way:
            self._console.rest()
            self._console.say([*texts.failed(in_the_way), Line()])
            hint = f"mend it first: {command(self._new, 'diagnose')}"
            raise Refused("nothing was changed: the cluster is not in a state to be changed", hint=hint)

    def _run(self, context: Context, *, quiet: bool = False) -> Run:
        listener = None if quiet else self._progress
        return Run(context, self._session.hosts, self._session.controller, listener)

    def _gone_back(self, applied: Applied, *, as_json: bool) -> int:
        self._console.rest()
        self._console.say(texts.failed(applied.report.of(Status.FAILED)))
        if applied.back and applied.back.failed:
            self._console.say(texts.failed(applied.back.of(Status.FAILED)))
        self._console.say([Line(), *stands(applied, self._edit, command(self._new, "apply-all"))])
        if as_json:
            self._console.data(self._document(applied, Verified(), ()))
        return int(Exit.FAILED)

    def _ended(self, verified: Verified, left: Sequence[Outcome]) -> list[Line]:
        path = self._edit.path
        written = (
            f"{path}: {', '.join(map(str, self._wanted))}"
            if self._edit.changes
            else f"{path} said so already"
        )
        lines = [Line(), Line(written), *in_force(verified)]
        lines += [Line(f"not in force on {problem}", Style.BAD) for problem in verified.problems]
        if not verified.problems:
            lines.append(Line("in force on every node, nothing waits for a restart", Style.GOOD))
        if left:
            what = texts.count(len(left), "other thing")
            lines.append(Line(f"apply-all would change {what}: {command(self._new, 'plan')}", Style.WARNING))
        else:
            lines.append(Line("inventory and cluster agree: apply-all would change nothing", Style.GOOD))
        return lines

    def _document(self, applied: Applied, verified: Verified, left: Sequence[Outcome]) -> dict[str, Any]:
        back = applied.back
        return {
            "settings": {each.name: each.value for each in self._wanted},
            "inventory": str(self._edit.path),
            "written": self._edit.changes and not applied.report.failed,
            "failed": applied.report.failed or bool(verified.problems),
            "brought_back": None if not applied.report.failed else bool(back and not back.failed),
            "outcomes": documents.outcomes(
                outcome for outcome in applied.report.outcomes if outcome.status is not Status.OK
            ),
            "in_force": {host: dict(values) for host, values in verified.in_force.items()},
            "pending_restart": {host: list(names) for host, names in verified.pending.items()},
            "problems": list(verified.problems),
            "left": documents.outcomes(left),
        }


def stands(applied: Applied, edited: Edit, apply_all: str) -> list[Line]:
    """Return in which state a change that failed has left the inventory and the cluster."""
    if applied.not_restored:
        return [
            Line(f"{edited.path} could not be brought back: {applied.not_restored.message}", Style.BAD),
            Line(f"hint: look at it, then: {apply_all}", Style.HINT),
        ]
    if applied.back is None:
        return [
            Line(
                f"{edited.path} has these settings, as before; the cluster does not have them yet", Style.BAD
            ),
            Line(f"hint: when the cause is mended: {apply_all}", Style.HINT),
        ]
    if applied.back.failed:
        return [
            Line(f"{edited.path} is as it was; the cluster could not be brought back to it", Style.BAD),
            Line(f"hint: kbpg diagnose says what is wrong; then: {apply_all}", Style.HINT),
        ]
    return [
        Line(f"not set: {edited.path} is as it was, and the cluster was brought back to it", Style.WARNING)
    ]


def in_force(verified: Verified) -> list[Line]:
    """Return a table of the settings, with a column for each node."""
    hosts = list(verified.in_force)
    names = list(dict.fromkeys(name for values in verified.in_force.values() for name in values))
    if not names:
        return []
    rows = [["setting", *hosts]]
    rows += [[name, *(verified.in_force[host].get(name, "unknown") for host in hosts)] for name in names]
    return texts.table(rows)


def shown(found: Shown) -> list[Line]:
    """Return the settings with what the inventory wants beside those that differ, then the pending restarts."""
    width = max((len(row.key) for row in found.rows), default=0)
    values = max((len(row.cluster or "none") for row in found.rows), default=0)
    lines = [Line(f"{'setting':<{width}}  {'cluster':<{values}}  inventory", Style.TITLE)]
    lines += [_row(row, width, values) for row in found.rows]
    lines.append(Line())
    for host, names in found.pending.items():
        if names:
            lines.append(Line(f"{host}: waits for a restart: {', '.join(names)}", Style.WARNING))
    lines += [Line(f"{host}: {why}", Style.WARNING) for host, why in found.silent.items()]
    if found.unknown:
        lines.append(Line(f"what the inventory wants is not known: {found.unknown}", Style.WARNING))
    differ = [row for row in found.rows if row.differs]
    if differ:
        lines.append(
            Line(
                f"{texts.count(len(differ), 'setting')} differ: apply-all makes them as the inventory",
                Style.WARNING,
            )
        )
    if found.agrees:
        lines.append(Line("cluster and inventory agree, nothing waits for a restart", Style.GOOD))
    return lines


def _row(row: Row, width: int, values: int) -> Line:
    third = "left alone" if row.left_alone else (row.inventory or "none") if row.differs else ""
    style = Style.QUIET if row.left_alone else Style.WARNING if row.differs else Style.PLAIN
    return Line(f"{row.key:<{width}}  {row.cluster or 'none':<{values}}  {third}", style)
