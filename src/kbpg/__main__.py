"""The program: `kbpg` and `python -m kbpg`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

import typer

from kbpg.asking import SudoPasswords
from kbpg.cli import endings, streams
from kbpg.cli.app import command
from kbpg.cli.spoken import spoken
from kbpg.errors import KbpgError
from kbpg.options import Options

_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of what typer raises about a command line; it has no public name."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name, and return the exit code; nothing is raised."""
    options = Options(words=spoken(arguments))
    _forget_libpq()
    code = _run(arguments, options)
    endings.noted(code, options)
    return code


def _forget_libpq() -> None:
    """Take libpq's variables (its manual, 34.15: all begin with PG) out of the environment of this process.

    What a person has set for psql would be part of each connection of kbpg's, and change what it asks: PGOPTIONS goes
    through PgBouncer as a start-up option, with PGTARGETSESSIONATTRS a replica is refused, PGSERVICE may do anything.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _run(arguments: Sequence[str], options: Options) -> int:
    try:
        options.passwords = SudoPasswords.from_environment(os.environ)
        code = command().main(list(arguments), "kbpg", standalone_mode=False, obj=options)
    except KbpgError as error:
        return endings.failed(error, options)
    except _CommandLineError as error:
        return endings.misused(error)
    except KeyboardInterrupt:
        return endings.interrupted(options)
    except typer.Abort:
        return endings.aborted(options)
    except Exception as error:  # noqa: BLE001 (the last line of defence: no traceback reaches a user)
        from kbpg.facts import NotKnown  # --help and the like do without it

        if isinstance(error, NotKnown):
            return endings.failed(KbpgError(error.reason, hint="kbpg diagnose"), options)
        return endings.crashed(error, options)
    return endings.interrupted(options) if code == endings.INTERRUPTED else int(code or 0)


_OBJECTS = 100_000
"""New objects after which the collector looks for garbage. What a command imports is some 60 000, and no garbage;
with Python's own 700, looking through them again and again was a tenth of a command's CPU."""


def main() -> None:
    """Run the command line of this process and exit."""
    gc.set_threshold(_OBJECTS)
    streams.prepare()
    code = run(sys.argv[1:])
    lost = streams.finish()
    gc.freeze()  # at its end Python looks through all objects once more, for 0.1 s
    sys.exit(code or lost)


if __name__ == "__main__":
    main()
