"""What `kbpg journal` prints: runs, and the commands of one of them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from kbpg.cli.texts import count, table
from kbpg.console import Console, Line, Style
from kbpg.engine import journals
from kbpg.engine.history import Entry, Record, chosen
from kbpg.errors import Exit, KbpgError, UsageError
from kbpg.options import Options

LONGEST = 160
"""Characters of a command that are shown without -v."""
LANGUAGES = frozenset(("SQL", "PgBouncer", "Raft", "POST", "PUT", "PATCH", "DELETE"))
"""How requests to services begin, which are no shell's words."""
WIDEST = 60
"""Characters of a command line in the list."""
NAMED = 3
"""Hosts that a list names; of more it says how many."""


def runs(options: Options, *, last: int, hosts: Collection[str], changes: bool) -> int:
    """List the `last` runs that ran something on `hosts` (none: any), with `changes` more than looks; return 0."""
    with Console(color=options.color, mask=options.masked) as console:
        names = _names(options)
        found = []
        for record in _records(console, options, names):
            kept = record.only(hosts, acts=changes)
            if kept.entries or not (hosts or changes):
                found.append((record, kept))
            if len(found) == last:
                break
        if options.json:
            listed = [_document(record.only(hosts)) for record, _ in found]
            console.data({"directory": str(options.journal), "runs": listed})
        elif found:
            console.result(_list([record.only(hosts) for record, _ in found], names))
        else:
            console.say([Line(f"nothing of that kind in {options.journal}" if names else _empty(options))])
    return int(Exit.OK)


def show(options: Options, which: str, *, hosts: Collection[str], changes: bool) -> int:
    """Show one run and return 0. Raises `UsageError` where none is meant, or several, `KbpgError` unread."""
    names = _names(options)
    ids = [name.removesuffix(".jsonl") for name in names]
    meant = chosen(which, ids)
    if not meant:
        raise UsageError(f"no run {which} in {options.journal}", hint="kbpg journal lists them")
    if len(meant) > 1:
        raise UsageError(f"{which} is {len(meant)} runs", detail=meant[:10], hint="name one of them")
    try:
        record = journals.read(options.journal, f"{meant[0]}.jsonl")
    except journals.Unreadable as problem:
        raise KbpgError(str(problem)) from problem
    kept = record.only(hosts, acts=changes)
    with Console(color=options.color, mask=options.masked) as console:
        if options.json:
            entries = [_entry(entry) for entry in kept.entries]
            console.data({**_document(record.only(hosts)), "entries": entries})
        else:
            longest = None if options.verbose else LONGEST
            left_out = len(record.entries) - len(kept.entries)
            console.result([*_head(record), Line(), *_commands(kept, longest), *_omitted(left_out)])
    return int(Exit.OK)


def _names(options: Options) -> list[str]:
    """Return the journals' names, newest first. Raises `UsageError` where neither they nor an inventory are."""
    try:
        names = journals.names(options.journal)
    except journals.Unreadable as problem:
        raise KbpgError(str(problem)) from problem
    if not names and not options.inventory.exists():
        hint = "-i PATH names the inventory that the journal is beside"
        raise UsageError(f"{options.inventory}: no such file, and no journal beside it", hint=hint)
    return names


def _empty(options: Options) -> str:
    return f"nothing has run yet: no journal in {options.journal}"


def _records(console: Console, options: Options, names: list[str]) -> Iterator[Record]:
    for record in journals.each(options.journal, names):
        if isinstance(record, Record):
            yield record
        else:
            console.say([Line(f"left out: {record}", Style.WARNING)])


def _list(found: list[Record], names: list[str]) -> list[Line]:
    rows = [("run", "who", "command", "hosts", "acts", "ended", "took")]
    for record in found:
        hosts = ", ".join(record.hosts) if len(record.hosts) <= NAMED else f"{len(record.hosts)} hosts"
        row = (
            _name(record, names),
            _who(record),
            _cut(_command(record), WIDEST),
            hosts,
            str(record.acts),
            _ended(record, briefly=True),
            f"{record.took:.1f} s",
        )
        rows.append(row)
    return table(rows)


def _name(record: Record, names: list[str]) -> str:
    """Return what `show` takes for it: when it started, or the whole id where several did then."""
    stamp = record.id.partition("-")[0]
    if sum(name.startswith(stamp) for name in names) > 1:
        return record.id
    return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%SZ'):%Y-%m-%dT%H:%M:%SZ}"


def _who(record: Record) -> str:
    if record.who is None:
        return "?"
    return f"{record.who} (sudo: {record.sudo_user})" if record.sudo_user else record.who


def _command(record: Record) -> str:
    words = record.arguments
    return (
        f"kbpg {shlex.join(words).replace(shlex.quote('***'), '***')}" if words else f"kbpg {record.command}"
    )


def _ended(record: Record, *, briefly: bool = False) -> str:
    if record.code is not None:
        why = f": {record.ending}" if record.ending and not briefly else ""
        return f"exit {record.code}{why}"
    if record.running:
        return "still runs"
    if record.who is None:
        return "?" if briefly else "unknown: written by a kbpg that did not note it"
    return "cut off" if briefly else "cut off: killed, or the machine went down; nobody noted its end"


def _head(record: Record) -> list[Line]:
    version = f" (kbpg {record.kbpg})" if record.kbpg else ""
    ended = f"{_ended(record)}, after {record.took:.1f} s"
    values = {
        "run": record.id,
        "started": f"{record.started:%Y-%m-%d %H:%M:%S} UTC",
        "who": _flat(f"{_who(record)}{version}"),
        "command": _flat(_command(record)),
        "inventory": _flat(record.inventory or "?"),
        "hosts": _flat(", ".join(record.hosts) or "none"),
        "commands": f"{len(record.entries)}, {record.acts} of them may have changed something",
        "ended": _flat(ended),
    }
    lines = [Line(f"{name:<10} {value}") for name, value in values.items()]
    if record.damaged:
        lines.append(Line(f"damaged    {count(record.damaged, 'line')} could not be read", Style.WARNING))
    return lines


def _commands(record: Record, longest: int | None) -> list[Line]:
    width = max((len(entry.host) for entry in record.entries), default=0)
    lines = []
    for entry in record.entries:
        ended = "" if entry.status == 0 else f"  → {_flat(_status(entry.status))}"
        text = _spoken(entry.command)
        shown = text if longest is None else _cut(text, longest)
        head = f"{entry.time:%H:%M:%S.%f}"[:-3] + f"  {_flat(entry.host):<{width}}  {entry.seconds:7.2f} s"
        style = Style.BAD if ended else Style.QUIET if entry.looks else Style.PLAIN
        lines.append(Line(f"{head}  {shown}{ended}", style))
    return lines


def _spoken(command: tuple[str, ...]) -> str:
    """Return a command as a shell would have it, a request to a service as it is."""
    plain = len(command) < 2 or command[0] in LANGUAGES
    return _flat(" ".join(command) if plain else shlex.join(command))


def _omitted(number: int) -> list[Line]:
    return [Line(f"{count(number, 'command')} left out", Style.QUIET)] if number else []


def _status(status: int | str) -> str:
    return f"exit {status}" if isinstance(status, int) else status


def _flat(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def _cut(text: str, longest: int) -> str:
    text = _flat(text)
    return text if len(text) <= longest else f"{text[:longest]} …"


def _document(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "started": _iso(record.started),
        "who": record.who,
        "sudo_user": record.sudo_user,
        "kbpg": record.kbpg,
        "command": record.command,
        "arguments": None if record.arguments is None else list(record.arguments),
        "inventory": record.inventory,
        "hosts": list(record.hosts),
        "commands": len(record.entries),
        "acts": record.acts,
        "exit": record.code,
        "ending": record.ending,
        "running": record.running,
        "seconds": round(record.took, 3),
        "damaged": record.damaged,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "time": _iso(entry.time),
        "host": entry.host,
        "command": list(entry.command),
        "looks": entry.looks,
        "status": entry.status,
        "seconds": entry.seconds,
        "sent": entry.sent,
        "received": entry.received,
    }


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
