"""Work done side by side that Ctrl-C ends at once.

The threads of a `ThreadPoolExecutor` are waited for when the program ends, however long a dead host takes, and
a question that one of them asks is deaf to Ctrl-C: Python delivers that to the main thread alone. So here the
caller's thread waits and asks, and nobody waits for the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from kbpg.asking import Asking

T = TypeVar("T")
Ask = Callable[[str], bool]
Job = Callable[[Ask | None], T]
"""Is given what it may ask with, if anything: an `Asking` where that is what may be asked."""
_Turns = SimpleQueue[Callable[[], object]]
_LISTENS = 0.2
"""Seconds after which the caller's thread looks for Ctrl-C. A signal wakes a thread that waits, but not one that is
about to: while it hands the interpreter to the threads that it just started, a signal is noted and wakes nobody."""


def side_by_side(
    jobs: Mapping[str, Job[T]],
    *,
    ask: Ask | None = None,
    undo: Callable[[T], object],
    meanwhile: Callable[[], object] = lambda: None,
) -> dict[str, T]:
    """Do all jobs, each in a thread of its own, and return their results in the same order.

    `meanwhile` is called in the caller's thread once all of them are under way. `ask` is called there too, after
    `meanwhile`, for one job at a time. When the caller is interrupted, or `meanwhile` or `ask` raises, that is raised
    at once; when a job raises, that is once all have ended. Then open questions are answered with no, and `undo` gets
    every result there is or will be.
    """
    turns: _Turns = SimpleQueue()
    questions = _Questions(turns) if ask else None
    put = questions.through(ask) if questions and ask else None
    results: dict[str, Future[T]] = {name: Future() for name in jobs}
    try:
        for name, job in jobs.items():
            work = (job, put, results[name], turns)
            threading.Thread(target=_work, args=work, name=name, daemon=True).start()
        meanwhile()
        while not all(result.done() for result in results.values()):
            try:
                turn = turns.get(timeout=_LISTENS)
            except Empty:
                continue
            turn()
        return {name: result.result() for name, result in results.items()}
    except BaseException:
        if questions:
            questions.give_up()
        for result in results.values():
            result.add_done_callback(lambda done: None if done.exception() else undo(done.result()))
        raise


def _work(job: Job[T], ask: Ask | None, result: Future[T], turns: _Turns) -> None:
    try:
        result.set_result(job(ask))
    except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
        result.set_exception(error)
    turns.put(lambda: None)


class _Questions:
    """Passes questions on to the thread that takes turns."""

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns
        self._open: list[Future[Any]] = []
        self._given_up = threading.Event()

    def through(self, ask: Ask) -> Ask:
        """Return what asks `ask` from any thread."""
        if isinstance(ask, Asking):
            secret = ask.secret
            return Asking(
                lambda question: bool(self._put(ask.yes, question)),
                lambda question: self._put(secret, question),
            )
        return lambda question: bool(self._put(ask, question))

    def _put(self, ask: Callable[[str], T], question: str) -> T | None:
        """Return the answer, None when there will be none."""
        answer: Future[T] = Future()
        self._open.append(answer)
        # After the line above: whoever gives up sets the event first, so one of the two sees the other
        if self._given_up.is_set():
            return None
        self._turns.put(lambda: answer.set_result(ask(question)))
        try:
            return answer.result()
        except CancelledError:
            return None

    def give_up(self) -> None:
        """Answer all questions, also later ones, with no."""
        self._given_up.set()
        for answer in self._open:
            answer.cancel()
