"""Several attempts side by side, each left behind when it takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import psycopg

from kbpg import sql
from kbpg.errors import HostError

DEADLINE = 15.0
"""Seconds for one attempt: what answers at all does so in milliseconds; a new login may wait for a timeout of 5 s."""

T = TypeVar("T")
K = TypeVar("K")


class NoResult(Exception):
    """An attempt that came to nothing; the message is what a user is shown."""


class _Attempt(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is taken
            self.error = error


def each(
    keys: Iterable[K], work: Callable[[K], T], *, deadline: float = DEADLINE
) -> tuple[dict[K, T], dict[K, str]]:
    """Do `work` for every key side by side; return the results, and the reasons where there is none.

    An attempt that takes longer than `deadline` seconds goes on in a thread that ends with its connection. Errors of
    hosts and databases are reasons; any other is raised.
    """
    attempts = {key: _Attempt(lambda key=key: work(key)) for key in keys}  # type: ignore[misc]
    for attempt in attempts.values():
        attempt.start()
    ends = time.monotonic() + deadline
    results: dict[K, T] = {}
    reasons: dict[K, str] = {}
    for key, attempt in attempts.items():
        attempt.join(max(0.0, ends - time.monotonic()))
        if attempt.result:
            results[key] = attempt.result[0]
        else:
            reasons[key] = _reason(attempt.error, deadline)
    return results, reasons


def _reason(error: BaseException | None, deadline: float) -> str:
    if error is None:
        return f"no answer within {deadline:g} s"
    if isinstance(error, HostError):
        return error.reason
    if isinstance(error, NoResult):
        return str(error)
    if isinstance(error, psycopg.Error | OSError):
        return sql.short(error)
    raise error
