"""The stages of a step that a procedure takes out of it, by their titles."""

from __future__ import annotations

from collections.abc import Sequence

from kbpg.model import Stage


def titled(every: Sequence[Stage], titles: Sequence[str], optional: Sequence[str] = ()) -> list[Stage]:
    """Return the stages with these titles, in the order of `titles`, then the `optional` ones that are there.

    Raises `KeyError` where one of `titles` is missing: it may be a gate that nobody would miss.
    """
    by_title = {stage.title: stage for stage in every}
    return [by_title[title] for title in (*titles, *(title for title in optional if title in by_title))]
