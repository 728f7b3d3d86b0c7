"""From what pydantic reports to sentences with a line and a path."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kbpg.inventory.document import Loc, Node, Problem, Word
from kbpg.inventory.models import Inventory
from kbpg.inventory.section import Section, section_of
from kbpg.inventory.show import escaped, human_size, shown

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

MAX_SHOWN = 200
"""A file with more problems is no inventory; nobody reads on."""

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list, with a - in front of each entry",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_LIMITS = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "less than {}"),
}


def path_of(loc: Loc) -> str:
    """Return ("proxies", 0, "address") as `proxies[0].address`."""
    text = ""
    for part in loc:
        name = f"[{part}]" if isinstance(part, int) else part if len(part) <= 80 else f"{part[:80]}…"
        text += f".{name}" if text and isinstance(part, str) else name
    return text


def render(file: str, problems: Iterable[Problem]) -> list[str]:
    """Return `file:line: path: problem` for each problem, in the file's order, at most `MAX_SHOWN`."""
    lines = []
    ordered = sorted(set(problems), key=lambda p: (p.line, path_of(p.loc), p.text))
    for problem in ordered[:MAX_SHOWN]:
        where = f"{file}:{problem.line}" if problem.line else file
        path = f"{path_of(problem.loc)}: " if problem.loc else ""
        lines.append(escaped(f"{where}: {path}{problem.text}"))
    if len(ordered) > MAX_SHOWN:
        lines.append(f"{file}: and {len(ordered) - MAX_SHOWN} more")
    return lines


def clean(loc: Loc) -> Loc:
    """Return where the inventory has it: pydantic marks the key of a mapping with a last part of its own."""
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def as_written(loc: Loc, root: Node) -> Loc:
    """Return where the inventory has it: a plain word in place of a section stands at the section."""
    model = model_at(loc[:-1]) if loc else None
    if model and model.word == loc[-1]:
        node = root.find(loc[:-1])[1]
        if node is not None and not node.children and node.value is not None:
            return loc[:-1]
    return loc


def translate(error: ErrorDetails, root: Node) -> Problem:
    """Return one of pydantic's errors as a problem."""
    loc = as_written(clean(error["loc"]), root)
    line, node = root.find(loc)
    return Problem(line, loc, _sentence(error, loc, node))


def _sentence(error: ErrorDetails, loc: Loc, node: Node | None) -> str:
    kind = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    special: dict[str, Callable[[], str]] = {
        "missing": lambda: f"missing ({_description(loc)})",
        "extra_forbidden": lambda: _unknown(loc),
        "value_error": lambda: str(context["error"]),
        "literal_error": lambda: (
            f"wanted {str(context['expected']).replace(chr(39), '')}, got {_written(node)}"
        ),
    }
    if kind in special:
        return special[kind]()
    if kind in _LIMITS:
        name, phrase = _LIMITS[kind]
        description = _description(loc)
        limit = human_size(context[name]) if description.startswith("bytes") else f"{context[name]:.12g}"
        return f"wanted {phrase.format(limit)}, got {_written(node)} ({description})"
    if kind in _WANTED:
        return f"wanted {_WANTED[kind]}, got {_written(node)}{_quoting(kind, node)}"
    return str(error["msg"])


def _written(node: Node | None) -> str:
    """Return the value as the file has it, text in quotes."""
    if node is None or node.value is None:
        return "nothing"
    plain = node.raw and (isinstance(node.value, Word) or not isinstance(node.value, str))
    return escaped(node.raw[:60]) if plain and node.raw else shown(node.value)


def _quoting(kind: str, node: Node | None) -> str:
    if kind != "string_type" or node is None or not isinstance(node.value, (bool, int, float)):
        return ""
    what = "true or false" if isinstance(node.value, bool) else f"the number {node.value:.12g}"
    return f', which YAML reads as {what}: write "{node.raw}", in quotes'


def _unknown(loc: Loc) -> str:
    model = model_at(loc[:-1])
    keys = list(model.model_fields) if model else []
    close = difflib.get_close_matches(str(loc[-1]), keys, n=1, cutoff=0.6)
    if close:
        return f"unknown key, did you mean {close[0]}?"
    elsewhere = [
        name
        for name in Inventory.model_fields
        if (inner := model_at((name,))) and loc[-1] in inner.model_fields
    ]
    if elsewhere and not set(elsewhere) & {loc[0]}:
        return f"unknown key here, it belongs under {' or '.join(elsewhere)}"
    return f"unknown key, wanted one of {', '.join(keys)}"


def model_at(loc: Loc) -> type[Section] | None:
    """Return the model of the section at `loc`, None where there is none."""
    model: type[Section] | None = Inventory
    for part in loc:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = section_of(field.annotation) if field else None
    return model


def field_at(loc: Loc) -> FieldInfo | None:
    """Return the field at `loc`, None where there is none."""
    model = model_at(loc[:-1])
    return model.model_fields.get(str(loc[-1])) if model and loc else None


def _description(loc: Loc) -> str:
    field = field_at(loc)
    return (field.description or "").partition(" (null")[0] if field else ""
