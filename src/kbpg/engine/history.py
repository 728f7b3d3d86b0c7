"""Journals, read: who ran what, on which hosts, and how that ended.

A journal may be of an older kbpg (without the lines that say who and how), cut off, damaged, or not ours at all:
what cannot be read is counted, never an error. Nothing of it is trusted: texts come without control characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

_LOOKS = (
    ("read",),
    ("take the lock",),
    ("docker", "version"),
    ("docker", "inspect"),
    ("docker", "image", "inspect"),
    ("docker", "ps"),
    ("docker", "images"),
    ("docker", "logs"),
    ("systemctl", "is-active"),
    ("test",),
    ("stat",),
    ("apt-cache",),
    ("journalctl",),
    ("PATCH", "/config", '{"kbpg_wakes_patroni": null}'),
)
"""How the commands begin of which it is known that they change nothing; the last one only wakes Patroni."""


@dataclass(frozen=True)
class Entry:
    """One command on a host, or one request to a service there: when it began (UTC), status, seconds, bytes.

    `status` is 0 where it went well, else the exit status, or in words why there is none.
    """

    time: datetime
    host: str
    command: tuple[str, ...]
    status: int | str
    seconds: float
    sent: int = 0
    received: int = 0

    @property
    def looks(self) -> bool:
        """Return whether it is known to have changed nothing; of all others nobody can tell from the journal."""
        return any(self.command[: len(words)] == words for words in _LOOKS)


@dataclass(frozen=True)
class Record:
    """One journal: a run of kbpg.

    `id` is the file's name without its end, `started` in UTC. What begins as None is not in the file: `who`
    (user@host of the controller), `sudo_user` (who became that user), `kbpg` (version), `arguments`, `inventory`; at
    its end `code`, `ending` (why, in words; empty where it is as it should be) and `seconds`. `damaged` are lines
    that cannot be read, `running` whether that kbpg still runs.
    """

    id: str
    started: datetime
    command: str
    who: str | None = None
    sudo_user: str | None = None
    kbpg: str | None = None
    arguments: tuple[str, ...] | None = None
    inventory: str | None = None
    code: int | None = None
    ending: str | None = None
    seconds: float | None = None
    entries: tuple[Entry, ...] = ()
    damaged: int = 0
    running: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that a command ran on, in order."""
        return tuple(dict.fromkeys(entry.host for entry in self.entries))

    @property
    def acts(self) -> int:
        """Return how many commands may have changed something."""
        return sum(not entry.looks for entry in self.entries)

    @property
    def took(self) -> float:
        """Return the seconds from its start to its end, or to that of the last command that is written down."""
        if self.seconds is not None:
            return self.seconds
        ends = [entry.time + timedelta(seconds=entry.seconds) for entry in self.entries]
        return max(0.0, (max(ends, default=self.started) - self.started).total_seconds())

    def only(self, hosts: Iterable[str] = (), *, acts: bool = False) -> Record:
        """Return it with the commands on these hosts alone (none: all), and with `acts` without mere looks."""
        wanted = frozenset(hosts)
        kept = (
            entry
            for entry in self.entries
            if (not wanted or entry.host in wanted) and not (acts and entry.looks)
        )
        return replace(self, entries=tuple(kept))


def parse(name: str, text: str, *, running: bool = False) -> Record:
    """Return the journal of the file `name` (`<UTC time>-<command>-<pid>.jsonl`) that holds `text`.

    Commands are in the order in which they began. Raises `ValueError` for a name of another kind.
    """
    stem = name.removesuffix(".jsonl")
    when, _, rest = stem.partition("-")
    started = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    record = Record(_text(stem), started, _text(rest.rpartition("-")[0]), running=running)
    entries: list[Entry] = []
    for line in text.split("\n"):
        if not line:
            continue
        try:
            record = _taken(record, json.loads(line), entries)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            record = replace(record, damaged=record.damaged + 1)
    return replace(record, entries=tuple(sorted(entries, key=lambda entry: entry.time)))


def _taken(record: Record, line: Any, entries: list[Entry]) -> Record:
    """Return the record with what one line says; a command is added to `entries`."""
    if not isinstance(line, dict):
        raise TypeError(type(line).__name__)
    event = line.get("event")
    if event is None:
        entries.append(_entry(line))
        return record
    if event == "begin":
        return replace(
            record,
            started=_time(line["time"]),
            who=_text(line["who"]),
            sudo_user=_text(line["sudo_user"]) if "sudo_user" in line else None,
            kbpg=_text(line["kbpg"]),
            arguments=_words(line["arguments"]),
            inventory=_text(line["inventory"]),
        )
    if event == "end":
        seconds, code, ending = _seconds(line["seconds"]), _count(line["exit"]), _text(line["ending"])
        return replace(record, seconds=seconds, code=code, ending=ending)
    # of a newer kbpg
    raise ValueError(event)


def _entry(line: dict[str, Any]) -> Entry:
    status = line["status"]
    return Entry(
        _time(line["time"]),
        _text(line["host"]),
        _words(line["command"]),
        _text(status) if isinstance(status, str) else _count(status),
        _seconds(line["seconds"]),
        _count(line.get("sent", 0)),
        _count(line.get("received", 0)),
    )


def _text(value: Any) -> str:
    """Return a text with what is not to be printed escaped, but line ends and tabs; raises `TypeError`."""
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in value)


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return tuple(map(_text, value))


def _count(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(type(value).__name__)
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 1e9:
        raise ValueError("no number of seconds")
    return float(value)


def _time(value: Any) -> datetime:
    """Return a time in UTC; raises `ValueError` and `TypeError`."""
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None or not 2000 <= found.year < 2200:
        raise ValueError("no time with its zone")
    return found.astimezone(UTC)


def chosen(name: str, ids: Sequence[str]) -> list[str]:
    """Return which of the `ids`, newest first, `name` means: `last`, an id or its beginning.

    The time may be written as it is shown, 2026-11-28T06:10:03Z.
    """
    if name == "last":
        return list(ids[:1])
    date, colon, rest = name.partition("Z")
    short = date.replace("-", "").replace(":", "").replace(" ", "T") + colon + rest
    exact = [each for each in ids if each in (name, short)]
    return exact or [each for each in ids if short and each.startswith(short)]
