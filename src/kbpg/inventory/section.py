"""The base of every model of the inventory."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """Frozen, strict about types, no unknown keys; a section with nothing in it is all defaults.

    `word` is the key that a plain word in place of the section means, None where that means nothing.
    """

    word: ClassVar[str | None] = None

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_defaults(cls, value: Any) -> Any:
        if cls.word and isinstance(value, (str, int, float)):
            return {cls.word: value}
        return {} if value is None else value


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section an annotation is, or holds; None if it is no section."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
