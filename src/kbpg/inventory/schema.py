"""The JSON Schema of the inventory, for editors."""

from __future__ import annotations

from typing import Any

from kbpg.inventory.models import Inventory


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an inventory file, with descriptions and defaults.

    It knows single values only: the rules between fields are `kbpg inventory check`'s.
    """
    schema = Inventory.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kbpg inventory"}
