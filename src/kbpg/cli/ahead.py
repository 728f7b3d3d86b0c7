"""What a command gets ready while its hosts are dialled, which is mostly waiting for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Generic, TypeVar

from kbpg.context import Context

T = TypeVar("T")


def import_psycopg(context: Context) -> None:
    """Import what SQL is asked with, 0.1 s of work that is in nobody's way yet; any `context` will do."""
    importlib.import_module("kbpg.sql")


class Ahead(Generic[T]):
    """What `compute` makes of a context; a `meanwhile` of `open_session`. It is good for that very context alone: the
    session's is another one where a host had to tell a password."""

    def __init__(self, compute: Callable[[Context], T]) -> None:
        self._compute = compute
        self._ready: tuple[Context, T] | None = None

    def __call__(self, context: Context) -> None:
        """Compute it, and import psycopg. Raises what `compute` raises."""
        self._ready = (context, self._compute(context))
        import_psycopg(context)

    def of(self, context: Context) -> T | None:
        """Return what is ready for this context; None where that is nothing."""
        return self._ready[1] if self._ready and self._ready[0] is context else None
