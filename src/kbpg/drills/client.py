"""One client of the workload: writes numbered rows, or reads them, and notes what became of each attempt.

A write is never tried again: the next attempt has the next number. What counts as acknowledged is only what the
server confirmed after a replica had it: a COMMIT that came back with the warning that the wait for synchronous
replication was cancelled is `UNKNOWN` (PostgreSQL, src/backend/replication/syncrep.c, SyncRepWaitForLSN).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import psycopg

from kbpg.drills.attempt import Access, Attempt, Outcome
from kbpg.errors import HostError

Connect = Callable[[int], AbstractContextManager[psycopg.Connection[Any]]]
"""Opens an autocommit connection; gets how many attempts failed so far, so that it can turn to another address."""
FAILURES = (OSError, psycopg.Error, HostError)
"""What a client may meet."""

TABLE = "written"
RETRY = 0.1
"""Seconds between two attempts to connect."""
CANCELLED_WAIT = "canceling wait for synchronous replication"
"""The server's warning (sqlstate 01000) that a commit is on the leader alone."""
INSERT = (
    f"insert into {TABLE} (client, n) values (%s, %s)"  # noqa: S608 (a constant)
    " returning extract(epoch from clock_timestamp())::float8,"
    " ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"
)
"""Tells when the server wrote, and the timeline, which the name of the WAL file it writes to begins with."""
LAST = f"select max(n) from {TABLE} where client = %s"  # noqa: S608


class Client(threading.Thread):
    """A client that goes on until `leave`. `clock` gives the drill's seconds, `pause` the seconds between attempts.

    `pairs`: each transaction writes two rows in two statements. One thread writes `attempts`; others may read it.
    """

    def __init__(
        self,
        number: int,
        access: Access,
        connect: Connect,
        clock: Callable[[], float],
        *,
        pause: float,
        pairs: bool = False,
    ) -> None:
        super().__init__(name=f"{access} client {number}", daemon=True)
        self.number, self.access, self.attempts = number, access, list[Attempt]()
        self.last_success = float("-inf")
        self._connect, self._clock, self._pause, self._rows = connect, clock, pause, 2 if pairs else 1
        self._ends, self._failed, self._next = threading.Event(), 0, 1
        self._connection: psycopg.Connection[Any] | None = None
        self._warned = False

    def run(self) -> None:
        """Connect, work, and after an error connect again."""
        while not self._ends.is_set():
            begun, stack = self._clock(), ExitStack()
            try:
                connection = stack.enter_context(self._connect(self._failed))
            except FAILURES as error:
                self._failed += 1
                self._note(begun, 0, Outcome.NO_CONNECTION, error)
                self._ends.wait(RETRY)
                continue
            with contextlib.suppress(*FAILURES), stack:
                self._connection = connection
                connection.add_notice_handler(self._warn)
                self._work(connection)

    def leave(self) -> None:
        """Ask it to end after the attempt that is under way."""
        self._ends.set()

    def cut(self) -> None:
        """End its connection: what waits for a server that is frozen ends with `UNKNOWN`."""
        connection = self._connection
        with contextlib.suppress(*FAILURES):
            if connection is not None:
                stream = socket.socket(fileno=os.dup(connection.fileno()))
                with stream:
                    stream.shutdown(socket.SHUT_RDWR)

    def _work(self, connection: psycopg.Connection[Any]) -> None:
        attempt = self._read if self.access is Access.READS else self._write
        while not self._ends.is_set() and not connection.closed:
            if not attempt(connection):
                self._failed += 1
                return
            self._ends.wait(self._pause)

    def _write(self, connection: psycopg.Connection[Any]) -> bool:
        """Write the next rows in one transaction; return whether the connection can be used further."""
        begun, first = self._clock(), self._next
        self._next += self._rows
        self._warned = deciding = False
        told: tuple[float, int] = (0.0, 0)
        try:
            if self._rows == 1:
                deciding = True
                told = connection.execute(INSERT, (self.number, first)).fetchone() or told
            else:
                connection.execute("begin")
                for n in range(first, first + self._rows):
                    told = connection.execute(INSERT, (self.number, n)).fetchone() or told
                deciding = True
                connection.execute("commit")
        except FAILURES as error:
            # An ERROR leaves the connection open, and says that nothing was committed
            known = not deciding or not connection.broken
            self._note(begun, first, Outcome.REFUSED if known else Outcome.UNKNOWN, error)
            return False
        self._note(begun, first, Outcome.UNKNOWN if self._warned else Outcome.ACKNOWLEDGED, told=told)
        return True

    def _read(self, connection: psycopg.Connection[Any]) -> bool:
        begun = self._clock()
        try:
            connection.execute(LAST, (0,)).fetchone()
        except FAILURES as error:
            self._note(begun, 0, Outcome.REFUSED, error)
            return False
        self._note(begun, 0, Outcome.ACKNOWLEDGED)
        return True

    def _warn(self, notice: psycopg.errors.Diagnostic) -> None:
        if CANCELLED_WAIT in (notice.message_primary or ""):
            self._warned = True

    def _note(
        self,
        begun: float,
        first: int,
        outcome: Outcome,
        error: Exception | None = None,
        told: tuple[float, int] = (0.0, 0),
    ) -> None:
        ended, rows = self._clock(), self._rows if first else 0
        self.attempts.append(
            Attempt(self.number, first, rows, begun, ended, outcome, _first_line(error), *told)
        )
        if outcome is Outcome.ACKNOWLEDGED:
            self.last_success = ended


def _first_line(error: Exception | None) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__) if error else ""


def monotonic_since(start: float) -> Callable[[], float]:
    """Return a clock that shows the seconds since `start` (`time.monotonic`)."""
    return lambda: time.monotonic() - start
