"""Many questions in one execution: the sh script that asks them, and the reading of what it prints.

Each fragment runs by `eval` in a subshell of its own: `exit`, an unbalanced quote, a heredoc or a changed
variable stays inside it, and a fork costs less than another `sh`. After each one, a boundary nobody can guess
is printed on both streams, so standard output and standard error stay apart without temporary files. Questions
that can be asked together (`port.Sociable`) share one subshell, and the processes that answer them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from kbpg.hosts.port import Output, Question, Sociable

_PREAMBLE = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; LC_ALL=C.UTF-8; export PATH LC_ALL"
"""Administration tools are found, and messages come in English, whatever the login's environment is."""


@dataclass(frozen=True)
class Script:
    """A composed script: `text` goes to `sh -s`, `keys` are its questions in the order of their answers."""

    text: bytes
    keys: tuple[str, ...]
    boundary: str


class Reading:
    """The answers to a script as they come in."""

    def __init__(self, script: Script) -> None:
        self._keys = script.keys
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._mark = re.compile(rb"\n" + script.boundary.encode() + rb" (\d+)\n")
        self._error_mark = f"\n{script.boundary}\n".encode()

    def add(self, is_stdout: bool, data: bytes) -> bool:
        """Take in what was printed; return whether the last answer is there."""
        (self._stdout if is_stdout else self._stderr).extend(data)
        return self._stderr.endswith(self._error_mark) and self.complete

    @property
    def complete(self) -> bool:
        """Return whether every question has been answered, on both streams."""
        wanted = len(self._keys)
        return self._answered() == wanted and self._stderr.count(self._error_mark) == wanted

    def current(self) -> str:
        """Return the key of the question that is being answered, or of the first of those that are asked together."""
        return self._keys[min(self._answered(), len(self._keys) - 1)]

    def last_words(self) -> str:
        """Return the last of what was printed, for the message when the script broke off."""
        return bytes(self._stderr or self._stdout)[-500:].decode(errors="replace")

    def answers(self, seconds: float) -> dict[str, Output]:
        """Return each question's answer, by key; bytes that are not UTF-8 are replaced."""
        parts = self._mark.split(bytes(self._stdout))
        errors = bytes(self._stderr).split(self._error_mark)
        return {
            key: Output(
                status=int(parts[2 * index + 1]),
                stdout=parts[2 * index].decode(errors="replace"),
                stderr=errors[index].decode(errors="replace"),
                seconds=seconds,
            )
            for index, key in enumerate(self._keys)
        }

    def _answered(self) -> int:
        return len(self._mark.findall(self._stdout))


def compose(questions: Sequence[Question], boundary: str) -> Script:
    """Return the script that answers `questions`; `boundary` is a random word.

    Raises `ValueError` when two questions have one key.
    """
    keys = [question.key for question in questions]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"one key for several questions: {', '.join(twice)}")
    told = f"told() {{ printf '\\n%s %s\\n' {boundary} $1; printf '\\n%s\\n' {boundary} >&2; }}"
    lines = [_PREAMBLE, told]
    groups = _groups(questions)
    for group in groups:
        lines += _alone(group[0]) if len(group) == 1 else _together(cast("Sequence[Sociable]", group))
    order = tuple(question.key for group in groups for question in group)
    return Script("\n".join([*lines, "exit 0", ""]).encode(), order, boundary)


def _groups(questions: Iterable[Question]) -> list[list[Question]]:
    """Return questions of one kind together, in the order of the first of each; any other by itself."""
    groups: dict[tuple[str | None, str | None], list[Question]] = {}
    for question in questions:
        kind = cast("Sociable", question).kind if hasattr(question, "together") else None
        groups.setdefault((kind, None) if kind else (None, question.key), []).append(question)
    return list(groups.values())


def _alone(question: Question) -> list[str]:
    return [f"(eval {shlex.quote(question.script)}) </dev/null", "told $?"]


def _together(questions: Sequence[Sociable]) -> list[str]:
    joint = questions[0].together(questions)
    shorts = [f"{short}; told $s" for short in joint.shorts]
    alone = [line for question in questions for line in _alone(question)]
    return [f"(if {joint.prepare}; then", *shorts, "else", *alone, "fi) </dev/null"]
