"""What plan and apply print: outcomes as lines of text, readable without colour."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from kbpg.cli.folding import Folded, fold
from kbpg.console import Line, Style
from kbpg.engine.outcome import Outcome, Report
from kbpg.model import Impact, Status

CHANGES = (Status.DIFFERS, Status.UNKNOWN)
"""What a plan lists: apply would change it, or cannot know yet whether it will."""
_WORST = (Status.FAILED, Status.UNKNOWN, Status.NOT_ATTEMPTED, Status.DIFFERS, Status.CHANGED, Status.OK)

Names = Collection[tuple[str, str]]
"""Places and resource ids."""


def planned(report: Report, unmet: Sequence[Outcome] = ()) -> list[Line]:
    """Return a plan: by step and place what would change, and the sum in the last line."""
    lines: list[Line] = []
    differing = [outcome for outcome in report.of(*CHANGES) if outcome not in unmet]
    for label in dict.fromkeys(outcome.step.label for outcome in (*unmet, *differing)):
        lines.append(Line(label, Style.TITLE))
        lines += _by_places([o for o in unmet if o.step.label == label], _unmet)
        lines += _by_places([o for o in differing if o.step.label == label], _change)
        lines.append(Line())
    notes = [Line(f"note: {text}", Style.QUIET) for text in remarks(report)]
    return [*lines, *notes, *([Line()] if notes else []), summary(report, unmet)]


def remarks(report: Report) -> list[str]:
    """Return what is worth a line though nothing would change."""
    return [text for outcome in report.of(Status.OK) for text in outcome.lines]


def summary(report: Report, unmet: Sequence[Outcome] = ()) -> Line:
    """Return the last line of a plan."""
    certain = [outcome for outcome in report.of(Status.DIFFERS) if outcome not in unmet]
    unknown = [outcome for outcome in report.of(Status.UNKNOWN) if outcome not in unmet]
    parts = []
    if unmet:
        parts.append(f"{count(len(unmet), 'requirement')} not met, apply would stop before any change")
    if certain:
        impact = max(outcome.impact for outcome in certain)
        parts.append(f"{count(len(certain), 'change')} (impact: {impact})")
    if unknown:
        parts.append(f"{len(unknown)} not known yet")
    if not parts:
        parts.append("nothing would change")
    parts.append(f"{len(report.of(Status.OK))} ok")
    style = Style.BAD if unmet else Style.WARNING if certain or unknown else Style.GOOD
    return Line(f"plan: {', '.join(parts)}", style)


def _by_places(outcomes: Sequence[Outcome], show: Callable[[Folded], list[Line]]) -> list[Line]:
    groups: dict[str, list[Folded]] = {}
    for folded in fold(outcomes):
        groups.setdefault(folded.where, []).append(folded)
    lines = []
    for where, members in groups.items():
        lines.append(Line(f"  {where}"))
        lines += [line for folded in members for line in show(folded)]
    return lines


def _change(folded: Folded) -> list[Line]:
    impact = f" [{folded.impact}]" if folded.status is Status.DIFFERS else ""
    shown = () if folded.lines in (("create",), ("remove",)) else folded.lines
    words = {"+": "create ", "-": "remove ", "~": "", "?": ""}
    style = {"+": Style.ADDED, "-": Style.REMOVED, "~": Style.WARNING, "?": Style.QUIET}[folded.symbol]
    head = Line(f"    {folded.symbol} {words[folded.symbol]}{folded.resource}{impact}", style)
    return [head, *(difference(text, 8) for text in shown)]


def _unmet(folded: Folded) -> list[Line]:
    head = Line(f"    ! {folded.resource}", Style.BAD)
    return [head, *(Line(f"        {text}") for text in folded.lines)]


def difference(text: str, indent: int) -> Line:
    """Return one line of a difference, coloured when it is an added or a removed one."""
    style = {"+": Style.ADDED, "-": Style.REMOVED}.get(text[:1], Style.PLAIN)
    return Line(f"{'':{indent}}{text}", style)


def changed(outcomes: Iterable[Outcome]) -> list[Line]:
    """Return what a finished stage has changed."""
    lines: list[Line] = []
    for folded in fold(o for o in outcomes if o.status is Status.CHANGED):
        impact = "" if folded.impact is Impact.NONE else f" [{folded.impact}]"
        # A state that had to be waited for says nothing once it is there
        hidden = folded.lines == ("create",) or "".join(folded.lines).startswith("not known yet")
        lines.append(Line(f"  {folded.symbol} {folded.where} · {folded.resource}{impact}", Style.WARNING))
        lines += [] if hidden else [difference(text, 6) for text in folded.lines]
    return lines


def failed(outcomes: Iterable[Outcome]) -> list[Line]:
    """Return failures as blocks: where and what, the reason, what was run, the last lines of a log, a hint."""
    lines: list[Line] = []
    for folded in fold(outcomes):
        lines.append(Line(f"{folded.where} · {folded.step.label} · {folded.resource}", Style.BAD))
        for text in folded.lines:
            hint = text.startswith("hint: ")
            lines.append(Line(text, Style.HINT) if hint else Line(f"  {text}"))
    return lines


def failures(report: Report) -> list[Line]:
    """Return every failure, how each host ended in the step that failed, and how to go on."""
    broken = report.of(Status.FAILED)
    if not broken:
        return []
    step = broken[0].step
    ended: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        if outcome.step is step:
            ended.setdefault(outcome.place, []).append(outcome)
    rows = [("host", "outcome", ""), *((place, *_ending(outcomes)) for place, outcomes in ended.items())]
    return [
        *failed(broken),
        Line(),
        Line(f"{step.label} on every host", Style.TITLE),
        *table(rows),
        Line(),
        Line(f"hint: {_go_on(report)}", Style.HINT),
    ]


def _go_on(report: Report) -> str:
    if report.of(Status.CHANGED):
        return "what was done stays done; run the same command again to go on"
    return "nothing was changed; run the same command again when the cause is mended"


def _ending(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    worst = min(outcomes, key=lambda outcome: _WORST.index(outcome.status))
    if worst.status is Status.FAILED:
        return str(worst.status), worst.resource
    if worst.status is Status.NOT_ATTEMPTED:
        return str(worst.status), next(iter(worst.lines), "")
    return str(worst.status), counts(outcomes)


def counts(outcomes: Iterable[Outcome]) -> str:
    """Return how many ended how: `31 ok, 2 changed`."""
    statuses = [outcome.status for outcome in outcomes]
    known = (
        Status.OK,
        Status.CHANGED,
        *(status for status in _WORST if status not in (Status.OK, Status.CHANGED)),
    )
    parts = [f"{statuses.count(status)} {status}" for status in known if status in statuses]
    return ", ".join(parts) or "nothing to do"


def steps(report: Report, seconds: float) -> list[Line]:
    """Return the table of the steps and the seconds each took; `seconds` is all of it."""
    rows = [("step", "seconds", "")]
    for label, took in report.seconds.items():
        mine = [outcome for outcome in report.outcomes if outcome.step.label == label]
        rows.append((label, f"{took:7.1f}", counts(mine)))
    rows.append(("all", f"{seconds:7.1f}", counts(report.outcomes)))
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> list[Line]:
    """Return rows with aligned columns, the first being the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [Line(texts[0], Style.TITLE), *(Line(text) for text in texts[1:])]


def pairs(values: Mapping[str, str]) -> list[Line]:
    """Return names and values, aligned and indented."""
    width = max(map(len, values), default=0)
    return [Line(f"  {name:<{width}}  {value}") for name, value in values.items()]


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
