"""Work side by side: results in order, questions in the caller's thread, and nobody waits after Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from kbpg.asking import Asking
from kbpg.secret import Secret
from kbpg.side_by_side import Ask, Job, side_by_side


def unexpected(result: object) -> None:
    pytest.fail(f"{result} was undone")


def test_results_come_in_the_order_of_the_jobs() -> None:
    first = threading.Event()

    def second(ask: Ask | None) -> bool:
        first.set()
        return False

    results = side_by_side({"a": lambda ask: first.wait(5), "b": second}, undo=unexpected)
    assert list(results.items()) == [("a", True), ("b", False)]


def test_questions_are_asked_in_the_callers_thread() -> None:
    asked: list[tuple[str, threading.Thread]] = []

    def ask(question: str) -> bool:
        asked.append((question, threading.current_thread()))
        return question == "b?"

    def job(name: str) -> Job[bool]:
        return lambda ask: ask is not None and ask(f"{name}?")

    jobs = {name: job(name) for name in "abc"}
    assert side_by_side(jobs, ask=ask, undo=unexpected) == {"a": False, "b": True, "c": False}
    assert sorted(question for question, _ in asked) == ["a?", "b?", "c?"]
    assert {thread for _, thread in asked} == {threading.current_thread()}


def test_who_can_be_asked_for_secrets_is_asked_in_the_callers_thread_too() -> None:
    asked: list[tuple[str, threading.Thread]] = []

    def secret(question: str) -> Secret | None:
        asked.append((question, threading.current_thread()))
        return Secret("told") if question == "a?" else None

    def job(name: str) -> Job[tuple[bool, Secret | None]]:
        def work(ask: Ask | None) -> tuple[bool, Secret | None]:
            assert isinstance(ask, Asking)
            return ask("sure?"), ask.secret(f"{name}?")

        return work

    jobs = {name: job(name) for name in "ab"}
    results = side_by_side(jobs, ask=Asking(lambda question: True, secret), undo=unexpected)
    assert results == {"a": (True, Secret("told")), "b": (True, None)}
    assert {thread for _, thread in asked} == {threading.current_thread()}


def test_something_else_is_done_meanwhile_in_the_callers_thread() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[threading.Thread] = []

    def job(ask: Ask | None) -> bool:
        begun.set()
        return go_on.wait(5)

    def meanwhile() -> None:
        assert begun.wait(5)
        done.append(threading.current_thread())
        go_on.set()

    assert side_by_side({"a": job}, undo=unexpected, meanwhile=meanwhile) == {"a": True}
    assert done == [threading.current_thread()]


@pytest.mark.parametrize("error", [LookupError("no such thing"), KeyboardInterrupt()])
def test_what_is_raised_meanwhile_waits_for_nobody(error: BaseException) -> None:
    """One job is done, one asks, one still works: all results are undone in the end."""
    first, go_on, all_undone = threading.Event(), threading.Event(), threading.Semaphore(0)
    undone: list[object] = []

    def ask(question: str) -> bool:
        pytest.fail("it was asked")

    def undo(result: object) -> None:
        undone.append(result)
        all_undone.release()

    def quick(ask: Ask | None) -> object:
        first.set()
        return "at once"

    def curious(ask: Ask | None) -> object:
        assert ask
        return "yes" if ask("?") else "no"

    def slow(ask: Ask | None) -> object:
        return go_on.wait(30) and "slow"

    def meanwhile() -> None:
        assert first.wait(5)
        raise error

    jobs: dict[str, Job[object]] = {"a": quick, "b": curious, "c": slow}
    with pytest.raises(type(error)) as caught:
        side_by_side(jobs, ask=ask, undo=undo, meanwhile=meanwhile)
    assert caught.value is error
    assert "slow" not in undone
    go_on.set()
    for _ in jobs:
        assert all_undone.acquire(timeout=5)
    assert sorted(map(str, undone)) == ["at once", "no", "slow"]


def test_what_a_job_raises_is_raised() -> None:
    def broken(ask: Ask | None) -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        side_by_side({"a": broken}, undo=unexpected)


def test_an_interrupted_question_waits_for_nobody() -> None:
    """One job is done, two ask, one still works when Ctrl-C comes: all results are undone in the end."""
    go_on, all_undone = threading.Event(), threading.Semaphore(0)
    undone: list[object] = []

    def ask(question: str) -> bool:
        raise KeyboardInterrupt

    def curious(ask: Ask | None) -> object:
        assert ask
        return "yes" if ask("?") else "no"

    def undo(result: object) -> None:
        undone.append(result)
        all_undone.release()

    def slow(ask: Ask | None) -> object:
        return go_on.wait(30) and "slow"

    jobs: dict[str, Job[object]] = {"a": lambda ask: "at once", "b": curious, "c": curious, "d": slow}
    with pytest.raises(KeyboardInterrupt):
        side_by_side(jobs, ask=ask, undo=undo)
    assert "slow" not in undone
    go_on.set()
    for _ in jobs:
        assert all_undone.acquire(timeout=5)
    assert sorted(map(str, undone)) == ["at once", "no", "no", "slow"]


def test_ctrl_c_that_wakes_nobody_is_seen_all_the_same() -> None:
    """As a signal is that comes just before the caller's thread waits: noted, and its wait is not interrupted."""
    go_on, ended = threading.Event(), threading.Event()

    def slow(ask: Ask | None) -> None:
        time.sleep(0.3)  # by then the caller waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        go_on.wait(10)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        side_by_side({"a": slow}, undo=lambda result: None)
    assert not ended.is_set()
    go_on.set()
