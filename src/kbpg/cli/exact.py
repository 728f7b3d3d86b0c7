"""Printing what must not lose a character: passwords and paths."""

from __future__ import annotations

import sys

import typer

from kbpg.errors import KbpgError


def echo_exactly(text: str) -> None:
    """Print a line. Raises `KbpgError`, which does not repeat it, where the stream cannot write all of it."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        # Without the cause: it holds the text
        raise KbpgError(
            f"it has a character that {encoding} cannot write",
            hint="run it again with PYTHONIOENCODING=utf-8",
        ) from None
    typer.echo(text)
