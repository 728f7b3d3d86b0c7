"""The shipped inventory, the reference and the schema say what the models say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from kbpg.cli import inventory as command
from kbpg.inventory import Inventory, document, load, parse
from kbpg.inventory.reference import reference
from kbpg.inventory.schema import json_schema
from kbpg.inventory.section import Section, section_of

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "inventory.yaml"


def uncommented() -> str:
    """Return the shipped inventory with all its defaults written out."""
    return re.sub(r"(?m)^( *)#(?=[a-z_]+:)", r"\1", SHIPPED.read_text(encoding="utf-8"))


def keys(model: type[Section], prefix: str = "") -> set[str]:
    """Return the paths of all keys, without those of single hosts."""
    found = set()
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if name in {"db", "proxies"}:
            continue
        if name in {"databases", "roles"}:
            found.add(name)
            continue
        found |= keys(inner, f"{prefix}{name}.") if inner else {prefix + name}
    return found


def written(node: document.Node, prefix: str = "") -> set[str]:
    found = set()
    for name, child in node.children.items():
        if name in {"db", "proxies"}:
            continue
        found |= written(child, f"{prefix}{name}.") if child.children else {f"{prefix}{name}"}
    return found


def test_the_shipped_inventory_is_the_topology_of_the_design() -> None:
    inv = load(SHIPPED)
    assert {host.name: host.address for host in inv.hosts} == {
        "db-master-01": "10.0.0.120",
        "db-slave-01": "10.0.0.121",
        "db-slave-02": "10.0.0.122",
        "haproxy-01": "10.0.0.11",
        "haproxy-02": "10.0.0.12",
    }
    assert inv.cluster.load_balancer == "10.0.0.10"
    assert inv.credentials_path == ROOT / "credentials/postgres.env"


def test_every_commented_default_is_the_default() -> None:
    text = uncommented()
    assert text != SHIPPED.read_text(encoding="utf-8")
    assert parse(text, SHIPPED) == load(SHIPPED)


def test_every_key_is_in_the_shipped_inventory() -> None:
    root, _ = document.read(uncommented().encode())
    assert written(root) == keys(Inventory)


def test_the_reference_is_current() -> None:
    assert (ROOT / "docs/inventory.md").read_text(encoding="utf-8") == reference(), (
        "python -m kbpg.inventory.reference > docs/inventory.md"
    )


def schema_objects(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"": schema, **schema["$defs"]}


def test_every_key_of_the_schema_has_a_description_and_a_default_or_is_required() -> None:
    schema = json_schema()
    for name, definition in schema_objects(schema).items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"
            is_section = any("$ref" in choice for choice in value.get("anyOf", []))
            assert "default" in value or is_section or key in definition["required"], f"{name}.{key}"


def test_the_schema_shows_bounds_units_and_empty_sections() -> None:
    schema = json_schema()
    ttl = schema["$defs"]["Timers"]["properties"]["ttl"]
    assert (ttl["minimum"], ttl["maximum"], ttl["default"], ttl["type"]) == (
        20,
        3600,
        20,
        ["integer", "string"],
    )
    assert schema["properties"]["timers"]["anyOf"] == [{"$ref": "#/$defs/Timers"}, {"type": "null"}]
    assert schema["properties"]["db"]["minItems"] == 3
    assert schema["required"] == ["cluster", "db", "proxies"]


class Options:
    """What the global options leave in the context: here the inventory alone."""

    inventory = SHIPPED
    json = False


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.add_typer(command.app, name="inventory")
    result = CliRunner().invoke(app, ["inventory", *arguments], obj=Options)
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


def test_check_prints_one_line() -> None:
    assert run("check") == f"{SHIPPED}: ok, cluster keybuzz: 3 db hosts, 2 proxies\n"


def test_schema_prints_json_and_nothing_else() -> None:
    assert json.loads(run("schema")) == json_schema()
