"""`tls` in the inventory: a plain word, or a section."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbpg.errors import InventoryError
from kbpg.inventory import parse
from kbpg.inventory.schema import json_schema
from kbpg.inventory.tls import DEFAULT_MODE

from .small_cluster import HOSTS


def text(tls: str) -> str:
    return f"cluster: {{name: kb}}\n{tls}\n{HOSTS}"


@pytest.mark.parametrize(
    ("written", "mode", "certificates"),
    [
        ("", DEFAULT_MODE, None),
        ("tls:", DEFAULT_MODE, None),
        ("tls: off", "off", None),
        ('tls: "off"', "off", None),
        ("tls: require", "require", None),
        ("tls: {mode: off}", "off", None),
        ("tls: {mode: require, certificates: own}", "require", "own"),
        ("tls: {certificates: own}", DEFAULT_MODE, "own"),
    ],
)
def test_a_word_is_the_mode(written: str, mode: str, certificates: str | None) -> None:
    tls = parse(text(written), "i.yaml").tls
    assert (tls.mode, tls.certificates) == (mode, certificates)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("tls: yes", "tls: wanted off or require, got yes"),
        ("tls: true", "tls: wanted off or require, got true"),
        ("tls: 3", "tls: wanted off or require, got 3"),
        ("tls: verify", 'tls: wanted off or require, got "verify"'),
        ("tls: [require]", "tls: wanted keys and values, got a list"),
        ("tls: {mode: on}", "tls.mode: wanted off or require, got on"),
        ("tls: {mod: off}", "tls.mod: unknown key, did you mean mode?"),
        ("tls: {certificates: ~somebody/x}", "tls.certificates: only ~/ is expanded"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(written: str, problem: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(text(written), "i.yaml")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"i.yaml:2: {problem}")


def test_a_wrong_word_hides_no_other_problem() -> None:
    with pytest.raises(InventoryError) as caught:
        parse(text("tls: yes\ntimers: {ttl: 20, retry_timeout: 30}"), "i.yaml")
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["tls", "timers.ttl"]


@pytest.mark.parametrize("name", ["ca", "kbpg"])
def test_a_host_is_not_called_as_the_authority_is(name: str) -> None:
    with pytest.raises(InventoryError, match=rf'db\[0\]\.name: "{name}" is reserved'):
        parse(text("").replace("name: db-1", f"name: {name}"), "i.yaml")


def test_paths_are_relative_to_the_inventory() -> None:
    inventory = parse(text("tls: {certificates: own}\ncredentials: keys/pg.env"), "/srv/kb/i.yaml")
    assert inventory.own_certificates_path == Path("/srv/kb/own")
    assert inventory.pki_path == Path("/srv/kb/keys/pki")
    assert parse(text(""), "i.yaml").own_certificates_path is None


def test_the_schema_knows_the_word() -> None:
    schema = json_schema()["properties"]["tls"]["anyOf"]
    assert {"enum": ["off", "require"], "type": "string"} in schema
    assert {"$ref": "#/$defs/Tls"} in schema
