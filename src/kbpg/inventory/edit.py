"""Changes to the text of an inventory: a value given, replaced or taken out, every other character as it was.

A loader that writes back what it read would put its own indentation, quotes and line widths into a file that people
keep, and comments move where a section has nothing but comments, as in the shipped inventory. So the text itself is
edited, at the places that `document.py` found, and read again: what it then says must be what it said before, but for
the change. A commented default (`#ttl: 20`) becomes the line of its key.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from kbpg.errors import UsageError
from kbpg.inventory import document
from kbpg.inventory.document import Node, Word

INDENT = 2
"""Columns that a key stands further in than its section, where no other key shows how many."""
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./%+-]*( [A-Za-z0-9_./%+-]+)*|[-+][0-9.]+")
"""What needs no quotes, in brackets either."""


def given(text: str, path: Sequence[str], value: str) -> str:
    """Return `text` with `value`, as somebody typed it, at `path`. Raises `UsageError` where it cannot be edited."""
    root = _read(text)
    scalar = spelled(value)
    node = root.find(tuple(path))[1]
    if node is None:
        found = _with_new(text, root, path, scalar)
    elif isinstance(node.value, (dict, list)):
        raise _no_way(path, value)
    else:
        space = " " if node.start == node.end else ""
        found = text[: node.start] + space + scalar + text[node.end :]
    wanted = _placed(root.value, path, document.plain_value(value) if scalar == value else value)
    return _kept(found, wanted, path, value)


def taken_out(text: str, path: Sequence[str]) -> str:
    """Return `text` without the key at `path`, where it is there. Raises `UsageError` where it cannot be edited."""
    root = _read(text)
    node = root.find(tuple(path))[1]
    parent = root.find(tuple(path[:-1]))[1]
    if node is None or parent is None:
        return text
    if len(path) > 2 and len(parent.children) == 1:  # nothing is left of `parameters`
        return taken_out(text, path[:-1])
    found = _without_in_brackets(text, parent, node) if parent.flow else _without_lines(text, node)
    return _kept(found, _placed(root.value, path, None), path, None)


def spelled(value: str) -> str:
    """Return `value` as a YAML scalar that means what was typed: in quotes where it would read as something else."""
    meant = document.plain_value(value)
    same = isinstance(meant, (Word, bool)) or (meant is not None and str(meant) == value)
    return value if same and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _with_new(text: str, root: Node, path: Sequence[str], scalar: str) -> str:
    """Return `text` with a key that is not there yet, below the sections that are."""
    depth, section = 0, root
    while depth < len(path) and path[depth] in section.children:
        section, depth = section.children[path[depth]], depth + 1
    rest = path[depth:]
    if section.flow or (section is not root and section.value is None and section.start != section.end):
        inner = f"{rest[-1]}: {scalar}"
        for key in reversed(rest[:-1]):
            inner = f"{key}: {{{inner}}}"
        before = text[section.start : section.end].rstrip("} \t\r\n") if section.flow else "{"
        comma = ", " if section.children else ""
        return text[: section.start] + f"{before}{comma}{inner}}}" + text[section.end :]
    return _with_lines(text, root, section, rest, scalar)


def _with_lines(text: str, root: Node, section: Node, rest: Sequence[str], scalar: str) -> str:
    """Return `text` with a line for the key: that of its commented default, else behind all others of its section."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    top = section is root
    outer = -1 if top else _column(text, section.key)
    column = next((_column(text, c.key) for c in section.children.values()), 0 if top else outer + INDENT)
    first = 0 if top else section.line
    last = _section_end(lines, first, outer)
    new = [
        f"{'':{column + INDENT * n}}{key}:{f' {scalar}' if key is rest[-1] else ''}{end}"
        for n, key in enumerate(rest)
    ]
    commented = re.compile(rf" {{{column}}}#{re.escape(rest[0])}:[^#\r\n]*?(?P<note>\s+#.*)?[\r\n]*")
    for number in range(first, last):
        if match := commented.fullmatch(lines[number]):
            new[-1] = new[-1].rstrip("\r\n") + (match["note"] or "").rstrip("\r\n") + end
            return "".join([*lines[:number], *new, *lines[number + 1 :]])
    place = _behind(lines, first, last) if section.children else first
    if place and not lines[place - 1].endswith("\n"):
        lines[place - 1] += end
    return "".join([*lines[:place], *new, *lines[place:]])


def _section_end(lines: Sequence[str], first: int, outer: int) -> int:
    """Return the number of the line before which a section ends that begins after line `first` at column `outer`."""
    for number in range(first, len(lines)):
        line = lines[number]
        if line.strip() and not line.lstrip().startswith("#") and len(line) - len(line.lstrip()) <= outer:
            return number
    return len(lines)


def _behind(lines: Sequence[str], first: int, last: int) -> int:
    """Return the line after the last one that is neither empty nor a comment."""
    while last > first and (not lines[last - 1].strip() or lines[last - 1].lstrip().startswith("#")):
        last -= 1
    return last


def _without_in_brackets(text: str, section: Node, node: Node) -> str:
    later = [child.key for child in section.children.values() if child.key > node.key]
    if later:
        return text[: node.key] + text[min(later) :]
    return text[: node.key].rstrip(" \t\r\n,") + text[node.end :]


def _without_lines(text: str, node: Node) -> str:
    begin = text.rfind("\n", 0, node.key) + 1
    while node.children:  # the end of a block is that of the last value in it
        node = list(node.children.values())[-1]
    end = text.find("\n", node.end)
    return text[:begin] + (text[end + 1 :] if end >= 0 else "")


def _column(text: str, position: int) -> int:
    return position - (text.rfind("\n", 0, position) + 1)


def _placed(tree: object, path: Sequence[str], value: object) -> object:
    """Return a copy of the plain values with `value` at `path`; None takes the key out."""
    found: dict[str, Any] = copy.deepcopy(tree) if isinstance(tree, dict) else {}
    section = found
    for key in path[:-1]:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    if value is None:
        section.pop(path[-1], None)
    else:
        section[path[-1]] = value
    return found


def _kept(text: str, wanted: object, path: Sequence[str], value: str | None) -> str:
    """Return `text` if it reads as `wanted`. Raises `UsageError`."""
    try:
        same = _filled(_read(text).value) == _filled(wanted)
    except UsageError:
        same = False
    if not same:
        raise _no_way(path, value)
    return text


def _filled(tree: object) -> object:
    """Return plain values in which an empty section is the same as none; text and numbers stay apart."""
    if isinstance(tree, dict):
        return {key: _filled(value) for key, value in tree.items()} or None
    if isinstance(tree, list):
        return [_filled(value) for value in tree]
    return tree if isinstance(tree, str) or tree is None else (type(tree), tree)


def _read(text: str) -> Node:
    try:
        root, problems = document.read(text.encode())
    except document.DocumentError as error:
        raise UsageError(f"line {error.problem.line}: {error.problem.text}") from error
    if problems:
        raise UsageError(f"line {problems[0].line}: {problems[0].text}")
    return root


def _no_way(path: Sequence[str], value: str | None) -> UsageError:
    what = "take it out" if value is None else f"give it the value {value}"
    return UsageError(
        f"{'.'.join(path)}: this inventory is not written in a way that kbpg can edit",
        hint=f"{what} by hand, then: kbpg apply-all",
    )
