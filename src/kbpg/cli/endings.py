"""How a command ends when it does not end well: what is said, and the exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from kbpg.errors import CredentialsError, Exit, InventoryError, KbpgError
from kbpg.options import Options

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


def say(*lines: str) -> None:
    """Print lines on standard error; a closed one is nobody's problem any more."""
    try:
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (the interpreter flushes it when it ends)


def failed(error: KbpgError, options: Options) -> int:
    """Say what went wrong and return the exit code."""
    lines = error.lines()
    if not isinstance(error, InventoryError | CredentialsError):
        # Problems of files already begin with file and line
        lines[0] = f"error: {lines[0]}"
    options.ending = options.mask(error.message.partition("\n")[0])
    say(*(options.mask(line) for line in lines))
    return int(error.exit_code)


def misused(error: Exception) -> int:
    """Say what is wrong with the command line and return the exit code; `error` is typer's."""
    if type(error).__name__ == "NoArgsIsHelpError":
        say(str(getattr(error, "message", "")))
        return int(Exit.INPUT)
    text = str(getattr(error, "format_message", error.__str__)())
    message = (text[:1].lower() + text[1:]).rstrip(".").replace("\n", " ")
    message, _, guess = message.partition(". Did you mean ")
    path = getattr(getattr(error, "ctx", None), "command_path", "kbpg")
    say(f"error: {message}", f"hint: did you mean {guess}" if guess else f"hint: {path} --help")
    return int(Exit.INPUT)


def interrupted(options: Options) -> int:
    """Say that nothing is lost and return the exit code."""
    options.ending = "interrupted"
    say("interrupted; what was done stays done, run the same command again to continue")
    return INTERRUPTED


def aborted(options: Options) -> int:
    """Say that a question was not answered and return the exit code."""
    options.ending = "aborted"
    say("aborted")
    return int(Exit.FAILED)


def noted(code: int, options: Options) -> None:
    """Write the exit code into the journals; one that cannot be written changes nothing of how the command ends."""
    for journal in options.journals:
        try:
            journal.end(code, options.ending)
        except KbpgError as problem:
            say(f"error: {problem}")


def crashed(error: BaseException, options: Options) -> int:
    """Say that this is kbpg's own fault, keep the traceback in a file, return the exit code.

    The traceback has no values of variables, and known secrets are masked in it.
    """
    text = options.mask("".join(traceback.format_exception(error)))
    path = options.state / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.log"
    last = options.mask(str(error)).partition("\n")[0]
    lines = [f"internal error: {type(error).__name__}: {last}"]
    options.ending = lines[0]
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as problem:
        lines.append(f"hint: its traceback could not be kept: {path}: {(problem.strerror or '').lower()}")
    else:
        lines.append(f"hint: please report it with {path}")
    say(*lines)
    return int(Exit.FAILED)
