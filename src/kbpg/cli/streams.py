"""The three standard streams as kbpg needs them, whatever whoever started it has left of them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from kbpg.cli.endings import say
from kbpg.errors import KbpgError


class _Output(io.TextIOWrapper):
    """Standard output whose errors say so: an `OSError` alone could be any file's."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as problem:
            raise _cause(problem) from problem

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as problem:
            raise _cause(problem) from problem


def _cause(problem: OSError) -> Exception:
    if isinstance(problem, BrokenPipeError):
        # The reader has gone, which is no error
        return problem
    return KbpgError(f"cannot write standard output: {(problem.strerror or str(problem)).lower()}")


def prepare() -> None:
    """Put /dev/null in place of closed streams, and let no character that a stream cannot write stop a command.

    What must not be replaced, such as a password, is printed by `echo_exactly`.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    out, err = sys.stdout, sys.stderr
    if isinstance(err, io.TextIOWrapper):
        err.reconfigure(errors="replace")
    if isinstance(out, io.TextIOWrapper):
        sys.stdout = _Output(
            out.detach(), encoding=out.encoding, errors="replace", line_buffering=out.line_buffering
        )
        # The interpreter goes back to this one when it ends
        sys.__stdout__ = sys.stdout  # type: ignore[misc]


def finish() -> int:
    """Write out what is left for standard output; return the exit code that this alone would give: 0 or 1."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget()
    except KbpgError as error:
        _forget()
        say(f"error: {error}")
        return 1
    return 0


def _forget() -> None:
    # The interpreter's own flush at its end must not complain
    sys.stdout = sys.__stdout__ = Path(os.devnull).open("w", encoding="utf-8")  # type: ignore[misc]  # noqa: SIM115
