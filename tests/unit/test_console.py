"""The console: what reaches which stream, with and without colour, and who waits for whom."""

from __future__ import annotations

import io
import json
import re
import threading
import time

import pytest

from kbpg.console import Console, Line, Style, plain
from kbpg.secret import Secret

LINES = [
    Line("03 haproxy", Style.TITLE),
    Line("-maxconn 5000", Style.REMOVED),
    Line("+maxconn [6000]", Style.ADDED),
    Line(),
    Line("said :smile: [bold]plainly[/]  "),
]
TEXT = "03 haproxy\n-maxconn 5000\n+maxconn [6000]\n\nsaid :smile: [bold]plainly[/]\n"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def consoles(*, color: bool = True, terminal: bool = True) -> tuple[Console, io.StringIO, io.StringIO]:
    kind = Terminal if terminal else io.StringIO
    out, err = kind(), kind()
    return Console(mask=masked, color=color, out=out, err=err), out, err


def masked(text: str) -> str:
    return text.replace("hunter22", "***")


def test_text_without_colour() -> None:
    assert plain(LINES) == TEXT


def test_a_pipe_gets_plain_text() -> None:
    console, out, err = consoles(terminal=False)
    with console:
        console.busy("reading the hosts")
        console.say(LINES)
        console.result(LINES)
    assert (out.getvalue(), err.getvalue()) == (TEXT, TEXT)


@pytest.mark.parametrize("terminal", [False, True])
def test_whatever_is_printed_is_masked(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is quoted in a failure may say a password."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    console, out, err = consoles(terminal=terminal)
    with console:
        console.busy("asks hunter22")
        console.say([Line("said hunter22", Style.BAD)])
        console.result([Line("found hunter22")])
        console.ask("really hunter22?")
        console.data({"outcomes": [{"lines": ["said hunter22"], "number": 1, "none": None}]})
    assert "hunter22" not in out.getvalue() + err.getvalue()
    assert "said ***" in err.getvalue()
    assert '"said ***"' in out.getvalue()


def test_a_terminal_gets_the_same_text_in_colour() -> None:
    console, out, _ = consoles()
    with console:
        console.result(LINES)
    assert ESCAPES.sub("", out.getvalue()) == TEXT
    assert "\x1b[31m-maxconn 5000\x1b[0m" in out.getvalue()
    assert "\x1b[32m+maxconn [6000]\x1b[0m" in out.getvalue()
    assert "\x1b[1m03 haproxy\x1b[0m" in out.getvalue()


@pytest.mark.parametrize("way", ["option", "NO_COLOR", "dumb"])
def test_no_colour_where_none_is_wanted(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    if way == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    console, out, err = consoles(color=way != "option")
    with console:
        console.result(LINES)
        console.say(LINES)
    assert (out.getvalue(), err.getvalue()) == (TEXT, TEXT)


def test_long_lines_are_left_whole() -> None:
    console, out, _ = consoles()
    with console:
        console.result([Line("x" * 500, Style.GOOD)])
    assert "x" * 500 in out.getvalue()


def test_a_spinner_says_what_goes_on_and_leaves_nothing() -> None:
    console, out, err = consoles()
    with console:
        console.busy("02 patroni · containers")
        deadline = time.monotonic() + 5
        while "02 patroni · containers  0 s" not in err.getvalue():
            assert time.monotonic() < deadline, "no spinner within 5 s"
            time.sleep(0.02)
        console.say([Line("  db-1: sending the image", Style.QUIET)])
    text = err.getvalue()
    assert "db-1: sending the image" in text
    assert text.endswith("\x1b[2K"), "the spinner's line is cleared"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is shown again"
    assert out.getvalue() == ""


def test_a_spinner_without_colour() -> None:
    console, _, err = consoles(color=False)
    with console:
        console.busy("reading the hosts")
        console.say(LINES)
    assert not re.search(r"\x1b\[[0-9;]*m", err.getvalue())
    for line in TEXT.splitlines():
        assert line in err.getvalue()


def test_many_threads_speak_in_whole_lines() -> None:
    console, _, err = consoles(terminal=False)

    def speak(name: str) -> None:
        for _ in range(50):
            console.say([Line(name * 40), Line(name * 40)])

    threads = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    lines = err.getvalue().splitlines()
    assert len(lines) == 400
    assert all(
        first == second and len(set(first)) == 1
        for first, second in zip(lines[::2], lines[1::2], strict=True)
    )


def test_a_document_is_the_whole_of_standard_output() -> None:
    console, out, _ = consoles()
    with console:
        console.busy("reading")
        console.data({"name": "ü", "list": [1]})
    assert json.loads(out.getvalue()) == {"name": "ü", "list": [1]}
    assert "\x1b" not in out.getvalue()
    assert "ü" in out.getvalue()


@pytest.mark.parametrize(("answer", "accepted"), [("yes\n", True), ("Y\n", True), ("\n", False), ("", False)])
def test_only_yes_is_yes(answer: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    console, out, err = consoles()
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with console:
        console.busy("connecting")
        assert console.ask("trust it?") is accepted
    assert err.getvalue().endswith("trust it? [y/N] ")
    assert out.getvalue() == ""


@pytest.mark.parametrize(("typed", "told"), [("a word", Secret("a word")), ("", None), (EOFError(), None)])
def test_a_secret_is_asked_for_and_not_shown(
    typed: str | Exception, told: Secret | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        if isinstance(typed, Exception):
            raise typed
        return typed

    monkeypatch.setattr("getpass.getpass", getpass)
    console, out, err = consoles()
    with console:
        console.busy("connecting")
        assert console.secret("the password, not hunter22?") == told
    assert asked == ["the password, not ***? "]
    assert "a word" not in out.getvalue() + err.getvalue()


def test_only_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    console, _, _ = consoles()
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    assert console.asking is None
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert console.asking is not None
    assert console.asking("trust it?")
