"""What one client tried, and what it was told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Access(StrEnum):
    """How a client reaches the database."""

    POOLED = "pooled"
    """PgBouncer on 6432."""
    DIRECT = "direct"
    """HAProxy on 5432."""
    READS = "reads"
    """HAProxy on 5433, reading."""
    INSIDE = "inside"
    """The old leader's PostgreSQL itself, past the proxies, as whoever is still connected to it."""


class Outcome(StrEnum):
    """What a client knows of an attempt."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """The server said that it did not do it."""
    UNKNOWN = "unknown"
    """The connection ended before an answer, or the server did not wait for a replica: it may be there or not."""
    NO_CONNECTION = "no connection"
    """Nothing was tried: there was no server to try it on."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One transaction: rows `first` to `first + rows - 1` of a client; begin and end in seconds of the drill's clock.

    A read, and a failed attempt to connect, have no rows. Of an acknowledged write `at` is when the server wrote it
    (Unix time of its own clock) and `timeline` on which timeline.
    """

    client: int
    first: int
    rows: int
    begun: float
    ended: float
    outcome: Outcome
    error: str = ""
    at: float = 0.0
    timeline: int = 0

    @property
    def numbers(self) -> range:
        """Return the numbers of its rows."""
        return range(self.first, self.first + self.rows)
