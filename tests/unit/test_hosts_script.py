"""Composing many questions into one script, and reading the answers however they arrive."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbpg.hosts.port import Joint
from kbpg.hosts.script import Reading, compose

from .shell_answers import answers_of


@dataclass(frozen=True)
class Ask:
    key: str
    script: str


def executed(*scripts: str, shell: str = "sh") -> tuple[Reading, bytes, bytes]:
    composed = compose([Ask(f"q{number}", script) for number, script in enumerate(scripts)], "boundary")
    done = subprocess.run([shell, "-s"], input=composed.text, capture_output=True, check=True, timeout=20)
    return Reading(composed), done.stdout, done.stderr


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_answers_are_read_however_they_are_cut(shell: str, size: int) -> None:
    reading, stdout, stderr = executed("echo a; echo b >&2", "printf c; exit 9", "echo 'broken", shell=shell)
    done = False
    for start in range(0, len(stderr), size):
        assert not done
        done = reading.add(False, stderr[start : start + size])
    for start in range(0, len(stdout), size):
        assert not done
        done = reading.add(True, stdout[start : start + size])

    assert done
    answers = reading.answers(1.5)
    assert [(answers[key].status, answers[key].stdout) for key in ("q0", "q1")] == [(0, "a\n"), (9, "c")]
    assert answers["q2"].stdout == ""
    assert answers["q2"].status != 0
    assert answers["q0"].stderr == "b\n"
    assert answers["q0"].seconds == 1.5


def test_what_is_being_answered_is_known_meanwhile() -> None:
    reading, stdout, stderr = executed("echo a", "echo b", "echo c")
    assert (reading.current(), reading.complete) == ("q0", False)
    reading.add(True, stdout[: stdout.index(b"b\n")])
    assert (reading.current(), reading.complete) == ("q1", False)
    reading.add(True, stdout[stdout.index(b"b\n") :])
    assert (reading.current(), reading.complete) == ("q2", False)
    assert reading.add(False, stderr)


def test_two_questions_with_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="one key for several questions: a"):
        compose([Ask("a", "true"), Ask("b", "true"), Ask("a", "false")], "boundary")


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_any_text_comes_back_as_it_was(texts: list[str]) -> None:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    reading, stdout, stderr = executed(*(f"printf %s {quoted(text)}" for text in texts))
    reading.add(True, stdout)
    reading.add(False, stderr)
    assert [answer.stdout for answer in reading.answers(0).values()] == texts


@given(st.lists(st.text(st.sampled_from("'\"\\`$(){};&|<>#\n =a"), max_size=12), min_size=1, max_size=4))
def test_no_fragment_breaks_another(scripts: list[str]) -> None:
    # In a directory that is not ours to write to: a fragment may well be a redirection.
    asks = [Ask(f"x{number}", f"set -f; cd /proc/self; {text}") for number, text in enumerate(scripts)]
    composed = compose([*asks, Ask("last", "echo here")], "boundary")
    done = subprocess.run(["sh", "-s"], input=composed.text, capture_output=True, check=False, timeout=20)
    reading = Reading(composed)
    reading.add(True, done.stdout)
    reading.add(False, done.stderr)
    assert reading.complete
    assert reading.answers(0)["last"].stdout == "here\n"


# --- questions that share their processes ------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A question that can be asked with others; `prepared` is what that takes."""

    key: str
    prepared: str
    kind: str = "word"

    @property
    def script(self) -> str:
        return f"echo alone {self.key}; exit 3"

    @staticmethod
    def together(questions: Sequence[Word]) -> Joint:
        return Joint(questions[0].prepared, tuple(f"echo $all {each.key}; s=4" for each in questions))


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("prepared", "said", "status"), [("all=joint", "joint", 4), ("all=joint; false", "alone", 3)]
)
def test_questions_of_one_kind_are_asked_at_once(shell: str, prepared: str, said: str, status: int) -> None:
    asks = [Word("a", prepared), Ask("x", "echo $all"), Word("b", prepared)]
    answers = answers_of(asks, shell=shell)
    assert list(answers) == ["a", "b", "x"]
    assert [(answers[key].stdout, answers[key].status) for key in "ab"] == [
        (f"{said} a\n", status),
        (f"{said} b\n", status),
    ]
    assert answers["x"].stdout == "\n"  # what one fragment sets is not there for another


def test_one_question_of_its_kind_is_asked_by_itself() -> None:
    composed = compose([Word("a", "exit 1"), Ask("b", "true")], "boundary")
    assert b"echo alone a" in composed.text
    assert b"$all" not in composed.text
