"""What the user sees: styled lines, a spinner on a terminal, JSON. The only module that knows rich.

All of it is masked here, since a log or a server that is quoted may say a password; what is to be shown exactly, such
as a password that was asked for, goes past it (`cli/exact.py`).
Data goes to standard output, progress and logs to standard error. Nothing is said by colour alone; there is
none where a stream is no terminal, with --no-color, or where $NO_COLOR is set (https://no-color.org).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from kbpg.asking import Asking
from kbpg.secret import Mask, Secret, masked

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live


class Style(StrEnum):
    """What a line is; the values are rich's styles."""

    PLAIN = ""
    TITLE = "bold"
    QUIET = "dim"
    GOOD = "green"
    WARNING = "yellow"
    BAD = "bold red"
    ADDED = "green "
    REMOVED = "red"
    HINT = "cyan"


@dataclass(frozen=True)
class Line:
    """One line of text and what it is."""

    text: str = ""
    style: Style = Style.PLAIN


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without colour, each with its line end."""
    return "".join(f"{line.text.rstrip()}\n" for line in lines)


class Console:
    """Where lines go. Use it as a context manager: the spinner ends with it.

    `mask` hides secrets in all that is printed. `color` allows colour, where the streams are terminals; `terminal`
    (default: whether standard error is one) decides about the spinner.
    """

    def __init__(
        self,
        *,
        mask: Mask,
        color: bool = True,
        out: TextIO | None = None,
        err: TextIO | None = None,
        terminal: bool | None = None,
    ) -> None:
        self._mask = mask
        self._out, self._err = out or sys.stdout, err or sys.stderr
        dumb = os.environ.get("TERM") == "dumb"
        self._color = color and not dumb and not os.environ.get("NO_COLOR")
        self._terminal = (self._err.isatty() if terminal is None else terminal) and not dumb
        self._rich: dict[int, RichConsole] = {}
        self._live: Live | None = None
        self._doing = ""
        self._since = 0.0
        # Hosts are worked on in threads, and all of them have something to say
        self._lock = threading.RLock()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exc: object) -> None:
        self.rest()

    def say(self, lines: Iterable[Line]) -> None:
        """Print progress, logs and errors."""
        self._print(self._err, lines)

    def result(self, lines: Iterable[Line]) -> None:
        """Print what the command was asked for."""
        self.rest()
        self._print(self._out, lines)

    def data(self, document: Any) -> None:
        """Print a JSON document, the whole of standard output."""
        self.rest()
        print(json.dumps(masked(document, self._mask), indent=2, ensure_ascii=False), file=self._out)

    def ask(self, question: str) -> bool:
        """Put a yes/no question to whoever sits at the terminal; everything but yes is no."""
        self.rest()
        self._err.write(f"{self._mask(question)} [y/N] ")
        self._err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def secret(self, question: str) -> Secret | None:
        """Ask for a text that is not shown as it is typed; None where none is."""
        import getpass  # seldom needed

        self.rest()
        try:
            return Secret(getpass.getpass(f"{self._mask(question)} ")) or None
        except EOFError:
            return None

    @property
    def asking(self) -> Asking | None:
        """Return who sits at the terminal, None where standard input is none."""
        return Asking(self.ask, self.secret) if sys.stdin.isatty() else None

    def busy(self, doing: str) -> None:
        """Show on a terminal what is going on, and for how long already."""
        with self._lock:
            self._doing, self._since = self._mask(doing), time.monotonic()
            if self._terminal and self._live is None:
                self._live = self._spinner()
                self._live.start()

    def rest(self) -> None:
        """Remove what `busy` shows."""
        with self._lock:
            live, self._live = self._live, None
        if live:
            live.stop()

    # --- inside --------------------------------------------------------------------------------------

    def _print(self, stream: TextIO, lines: Iterable[Line]) -> None:
        lines = [replace(line, text=self._mask(line.text)) for line in lines]
        with self._lock:
            spinning = stream is self._err and self._live is not None
            if not spinning and not (self._color and stream.isatty()):
                stream.write(plain(lines))
                stream.flush()
                return
            from rich.text import Text

            styled = (Text(line.text.rstrip(), line.style.strip() if self._color else "") for line in lines)
            if lines:
                # At once: the spinner is drawn again after every print
                self._console(stream).print(Text("\n").join(styled), soft_wrap=True)

    def _console(self, stream: TextIO) -> RichConsole:
        from rich.console import Console as RichConsole

        key = id(stream)
        if key not in self._rich:
            self._rich[key] = RichConsole(
                file=stream, highlight=False, no_color=not self._color, force_terminal=True
            )
        return self._rich[key]

    def _spinner(self) -> Live:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots")

        def shown() -> Spinner:
            seconds = time.monotonic() - self._since
            spinner.update(text=Text(f"{self._doing}  {seconds:.0f} s", overflow="ellipsis", no_wrap=True))
            return spinner

        return Live(
            get_renderable=shown,
            console=self._console(self._err),
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
