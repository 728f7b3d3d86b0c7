"""The JSON Schema of the inventory, for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kbpg.inventory.models import Inventory
from kbpg.inventory.section import Section, section_of


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an inventory file, with descriptions and defaults.

    It knows single values only: the rules between fields are `kbpg inventory check`'s.
    """
    schema = Inventory.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    models: list[type[Section]] = [Inventory, *sections(Inventory)]
    for model in models:
        properties = schema["properties"] if model is Inventory else definitions[model.__name__]["properties"]
        for name, field in model.model_fields.items():
            properties[name].pop("title", None)
            _bounds(properties[name], field.metadata)
            inner = section_of(field.annotation)
            if inner and not field.is_required() and "$ref" in properties[name]:
                properties[name]["anyOf"] = [{"$ref": properties[name].pop("$ref")}, {"type": "null"}]
                if inner.word:
                    properties[name]["anyOf"].append(
                        _word(definitions[inner.__name__]["properties"][inner.word])
                    )
                del properties[name]["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kbpg inventory"}


def sections(model: type[Section]) -> Iterator[type[Section]]:
    """Yield every section below `model`, outer ones first."""
    for field in model.model_fields.values():
        inner = section_of(field.annotation)
        if inner:
            yield inner
            yield from sections(inner)


def _word(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a plain word that stands for a section: that of the key it means."""
    return {key: schema[key] for key in ("enum", "type") if key in schema}


def _bounds(schema: dict[str, Any], metadata: list[Any]) -> None:
    """Put in the bounds that a kind of value with a schema of its own (sizes, durations) leaves out."""
    for bound in metadata:
        for name, keyword in (("ge", "minimum"), ("le", "maximum"), ("gt", "exclusiveMinimum")):
            if hasattr(bound, name) and "anyOf" not in schema:
                schema[keyword] = getattr(bound, name)
