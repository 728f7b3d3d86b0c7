"""A screen that is drawn again in place. Besides `kbpg.console`, the only module that knows rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from kbpg.console import Line


class Draw(Protocol):
    """Draws lines in the place of those drawn before."""

    def __call__(self, lines: Iterable[Line]) -> None: ...


@contextmanager
def screen(*, color: bool) -> Iterator[Draw]:
    """Take over the lines below the cursor of the terminal that standard output is; the last ones stay.

    What is wider or longer than the terminal is cut.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, no_color=not color)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def draw(lines: Iterable[Line]) -> None:
            styled = (Text(line.text, line.style.strip() if color else "") for line in lines)
            text = Text("\n", no_wrap=True, overflow="ellipsis").join(styled)
            live.update(text, refresh=True)

        yield draw
