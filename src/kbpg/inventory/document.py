"""YAML into plain values, with the line of each key and value, and nothing a reader could trip over.

Built on PyYAML's event stream rather than its loaders, because kbpg must survive hostile or odd files:
anchors, tags, duplicate keys, deep nesting and several documents are refused with their line. Plain scalars
are read as YAML 1.2 does (only `true` and `false` are booleans); words that YAML 1.1 takes for booleans are
kept as `Word`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_BYTES = 1_000_000
"""Larger files are no inventory: five hosts need about 1 kB."""
MAX_DEPTH = 16
MAX_NODES = 20_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_WORDS = frozenset({"yes", "no", "on", "off", "y", "n"})

Loc = tuple[str | int, ...]


class Word(str):
    """An unquoted yes, no, on, off, y or n: text here, true or false to readers of YAML 1.1."""

    __slots__ = ()


@dataclass(frozen=True)
class Problem:
    """Something wrong at a line (1-based, 0 for the file as a whole) and a path of the inventory."""

    line: int
    loc: Loc
    text: str


class DocumentError(Exception):
    """The file is no YAML that kbpg reads; `problem` says where and why."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line, (), text)


@dataclass
class Node:
    """A value with its line, its text as written (plain scalars), and its children by key or index.

    `key`, `start` and `end` are where its key begins and its value begins and ends, in characters from the start of
    the text; the end is exact for scalars and for what is in brackets (`flow`), a null that is not written has none.
    """

    line: int
    value: object = None
    raw: str | None = None
    children: dict[str | int, Node] = field(default_factory=dict)
    key: int = 0
    start: int = 0
    end: int = 0
    flow: bool = False

    def find(self, loc: Loc) -> tuple[int, Node | None]:
        """Return the line nearest to `loc`, and the node there (None if there is none)."""
        node = self
        for part in loc:
            child = node.children.get(part)
            if child is None:
                return node.line, None
            node = child
        return node.line, node


def read(data: bytes) -> tuple[Node, list[Problem]]:
    """Return the root of one YAML document and its duplicate keys; raises DocumentError."""
    text = _decode(data)
    try:
        return _Composer(text).compose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f" (column {mark.column + 1})" if mark else ""
        what = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise DocumentError(mark.line + 1 if mark else 1, f"not YAML: {what}{where}") from exc


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise DocumentError(1, f"{len(data)} bytes are too many for an inventory, the limit is {MAX_BYTES}")
    if data.startswith(b"\xef\xbb\xbf"):
        raise DocumentError(1, "starts with a byte order mark: save the file as UTF-8 without one")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError(1, "not UTF-8 but UTF-16: save the file as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise DocumentError(line, f"not UTF-8: byte 0x{data[exc.start]:02x}, save the file as UTF-8") from exc
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise DocumentError(
            line, f"the control character U+{ord(control[0]):04X} does not belong in a text file"
        )
    return text


class _Composer:
    """Builds nodes from YAML events, without recursion so deep that Python's stack ends first."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._problems: list[Problem] = []
        self._count = 0

    def compose(self) -> tuple[Node, list[Problem]]:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise DocumentError(_line(event), "a second document starts here: wanted one")
                root = self._node(next(self._events), ())
        if root is None:
            raise DocumentError(1, "the file is empty: wanted cluster:, db: and proxies:")
        return root, self._problems

    def _node(self, event: yaml.Event, loc: Loc) -> Node:
        self._guard(event, loc)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, loc)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, loc)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - the grammar has no other node
        plain = not event.style
        value = plain_value(event.value) if plain else event.value
        return Node(_line(event), value, event.value if plain else None, start=_start(event), end=_end(event))

    def _guard(self, event: yaml.Event, loc: Loc) -> None:
        self._count += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise DocumentError(
                _line(event), "anchors and aliases (& and *) are not supported: write the value out"
            )
        if tag := getattr(event, "tag", None):
            raise DocumentError(_line(event), f"tags are not supported: {tag}")
        if len(loc) > MAX_DEPTH or self._count > MAX_NODES:
            raise DocumentError(_line(event), "nested too deeply or too long for an inventory")

    def _mapping(self, event: yaml.MappingStartEvent, loc: Loc) -> Node:
        node = Node(_line(event), start=_start(event), flow=bool(event.flow_style))
        values: dict[str, object] = {}
        while not isinstance(start := next(self._events), yaml.MappingEndEvent):
            self._guard(start, loc)
            if not isinstance(start, yaml.ScalarEvent):
                raise DocumentError(_line(start), "a key must be text, not a list or a mapping")
            key = start.value
            if key == "<<" and not start.style:
                raise DocumentError(_line(start), "merge keys (<<) are not supported: write the values out")
            child = self._node(next(self._events), (*loc, key))
            child.line, child.key = _line(start), _start(start)
            if key in values:
                first = node.children[key].line
                self._problems.append(
                    Problem(child.line, (*loc, key), f"duplicate key, first given in line {first}")
                )
                continue
            node.children[key] = child
            values[key] = child.value
        node.value, node.end = values, _end(start)
        return node

    def _sequence(self, event: yaml.Event, loc: Loc) -> Node:
        node = Node(_line(event), start=_start(event))
        values: list[object] = []
        while not isinstance(start := next(self._events), yaml.SequenceEndEvent):
            child = self._node(start, (*loc, len(values)))
            node.children[len(values)] = child
            values.append(child.value)
        node.value, node.end = values, _end(start)
        return node


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _start(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark else 0


def plain_value(raw: str) -> object:
    """Return what a plain scalar means: null, true, false, a number, a `Word`, or text."""
    if raw in {"", "~", "null", "Null", "NULL"}:
        return None
    if raw in {"true", "True", "TRUE"}:
        return True
    if raw in {"false", "False", "FALSE"}:
        return False
    if raw.lower() in _WORDS:
        return Word(raw)
    if _INT.fullmatch(raw) and len(raw) < 20:
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw
