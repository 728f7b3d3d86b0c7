"""The templates of all reports, with the filters that a report brings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kbpg.render import templates_directory


@functools.cache
def environment(escape: bool, *filters: Callable[..., Any]) -> Environment:
    """Return where the templates come from; each filter goes by its function's name."""
    found = Environment(
        loader=FileSystemLoader(templates_directory() / "report"),
        undefined=StrictUndefined,
        autoescape=escape,  # noqa: S701 - off for Markdown, whose cells have a filter of their own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update({each.__name__: each for each in filters})
    return found
