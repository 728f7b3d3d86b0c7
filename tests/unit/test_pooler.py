"""RECONNECT, which drops what is being opened: one at a time, and when nothing is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from kbpg import pooler
from kbpg.hosts.fake import FakeHost

from .small_cluster import context

LOGIN = 0.15
"""Seconds for which a connection is being opened after a RECONNECT."""


class Console:
    """A PgBouncer's console; `dropped` counts the commands that met a connection amid its login."""

    def __init__(self) -> None:
        self.opening_until = 0.0
        self.commands = self.dropped = 0
        self.lock = threading.Lock()

    @contextmanager
    def connect(self, *_: Any, **__: Any) -> Iterator[Console]:
        yield self

    def rows(self, _: Any, what: str) -> list[dict[str, Any]]:
        if what == "POOLS":
            return [{"sv_login": int(time.monotonic() < self.opening_until), "cl_waiting": 0}]
        return []

    def give(self, *_: Any) -> None:
        with self.lock:
            self.commands += 1
            self.dropped += time.monotonic() < self.opening_until
            self.opening_until = time.monotonic() + LOGIN


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console()
    monkeypatch.setattr("kbpg.sql.connect", console.connect)
    monkeypatch.setattr(pooler, "rows", console.rows)
    monkeypatch.setattr(pooler, "give", console.give)
    return console


def test_of_two_the_second_waits_for_what_the_first_has_opened_anew(console: Console) -> None:
    """As where both proxies' HAProxies are reloaded, and one PgBouncer has connections through either."""
    host = FakeHost("px-1")
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(pooler.reconnect, context(""), host) for _ in range(2)]:
            job.result(10)
    assert (console.commands, console.dropped) == (2, 0)


def test_one_pgbouncer_does_not_wait_for_another(console: Console) -> None:
    with pooler._turn("px-2"), ThreadPoolExecutor(1) as pool:
        pool.submit(pooler.reconnect, context(""), FakeHost("px-1")).result(5)
    assert console.commands == 1
