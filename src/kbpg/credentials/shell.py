"""The part of a POSIX shell's grammar that a credentials file may use, read without running anything.

A line is blank, a comment, or one assignment, `export` in front of it or not. A value is a row of bare,
'single' and "double" quoted pieces (POSIX.1-2024, XCU 2.2). What a shell would expand or run is refused: kbpg
and the shell that sources the file must always see the same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kbpg.secret import Secret

BLANK = " \t"
_START = re.compile(r"[ \t]*(?P<export>export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=")
_OPERATORS = "&|;<>()"
_PATTERNS = "*?[{"
_ESCAPED_IN_DOUBLE_QUOTES = '$`"\\'
_IN_SINGLE_QUOTES = "wanted the value in single quotes"


class ShellSyntaxError(Exception):
    """A line that a shell would not take as one plain assignment.

    `name` is the name assigned to, None where there is none. The text never holds a part of the value.
    """

    def __init__(self, name: str | None, text: str) -> None:
        super().__init__(text)
        self.name = name
        self.text = text


@dataclass(frozen=True)
class Assignment:
    """One assignment; `start` and `end` are where the value, with its quotes, stands in the line."""

    name: str
    value: Secret
    start: int
    end: int


def assignment(line: str) -> Assignment | None:
    """Return the assignment in `line` (without its line end), None for a blank line or a comment.

    Raises ShellSyntaxError.
    """
    content = line.lstrip(BLANK)
    if not content or content.startswith("#"):
        return None
    found = _START.match(line)
    if not found:
        raise ShellSyntaxError(None, "not an assignment: wanted NAME=value, with no space around the =")
    reader = _Reader(line, found.end(), found["name"], exported=bool(found["export"]))
    value = reader.value()
    rest = line[reader.at :].lstrip(BLANK)
    if rest and not rest.startswith("#"):
        raise ShellSyntaxError(
            found["name"], f"the value ends at a space and more follows: {_IN_SINGLE_QUOTES}"
        )
    return Assignment(found["name"], Secret(value), found.end(), reader.at)


def quote(value: str) -> str:
    """Return `value` in single quotes, as every POSIX shell reads it back. It holds no line end, no NUL."""
    return "'" + value.replace("'", "'\\''") + "'"


class _Reader:
    """Reads one value, from just behind the = to the first unquoted blank."""

    def __init__(self, line: str, at: int, name: str, *, exported: bool) -> None:
        self.line = line
        self.at = at
        self.name = name
        # `export` is a command: its arguments undergo pathname and brace expansion, an assignment does not.
        self.special = _OPERATORS + (_PATTERNS if exported else "")

    def value(self) -> str:
        pieces: list[str] = []
        while self.at < len(self.line) and self.line[self.at] not in BLANK:
            pieces.append(self._piece())
        return "".join(pieces)

    def _piece(self) -> str:
        char = self.line[self.at]
        if char == "'":
            return self._single_quoted()
        if char == '"':
            return self._double_quoted()
        if char == "\\":
            return self._escaped()
        self._refuse_expansion(char)
        if char in self.special:
            raise self._refused(f"an unquoted {char}, which means something to a shell: {_IN_SINGLE_QUOTES}")
        if char == "~" and self.line[self.at - 1] in "=:":
            raise self._refused(f"an unquoted ~, which a shell may expand: {_IN_SINGLE_QUOTES}")
        self.at += 1
        return char

    def _single_quoted(self) -> str:
        end = self.line.find("'", self.at + 1)
        if end < 0:
            raise self._unclosed("single")
        piece = self.line[self.at + 1 : end]
        self.at = end + 1
        return piece

    def _double_quoted(self) -> str:
        pieces: list[str] = []
        self.at += 1
        while self.at < len(self.line):
            char = self.line[self.at]
            following = self.line[self.at + 1 : self.at + 2]
            if char == '"':
                self.at += 1
                return "".join(pieces)
            if char == "\\" and following and following in _ESCAPED_IN_DOUBLE_QUOTES:
                self.at += 1
                char = following
            else:
                self._refuse_expansion(char)
            pieces.append(char)
            self.at += 1
        raise self._unclosed("double")

    def _escaped(self) -> str:
        if self.at + 1 == len(self.line):
            raise self._refused("a \\ at the end of the line: wanted the whole value in one line")
        self.at += 2
        return self.line[self.at - 1]

    def _refuse_expansion(self, char: str) -> None:
        if self.line.startswith(("$'", '$"'), self.at) and char == "$":
            raise self._refused(f"$ before a quote, which not every shell knows: {_IN_SINGLE_QUOTES}")
        if char in "$`":
            raise self._refused(f"an unescaped {char}, which a shell expands: {_IN_SINGLE_QUOTES}")

    def _unclosed(self, kind: str) -> ShellSyntaxError:
        return self._refused(f"a {kind} quote is not closed in its line: wanted the whole value in one line")

    def _refused(self, text: str) -> ShellSyntaxError:
        return ShellSyntaxError(self.name, text)
