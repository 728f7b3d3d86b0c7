"""Edits of an inventory's text: the change, and nothing else; what cannot be edited is refused, not guessed."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from kbpg.errors import UsageError
from kbpg.inventory import document, parse
from kbpg.inventory.edit import given, spelled, taken_out

SHIPPED = Path(__file__).parents[2] / "inventory.yaml"

WORK_MEM = ("postgresql", "parameters", "work_mem")


def changed(before: str, after: str) -> list[str]:
    """Return the removed and added lines."""
    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in lines if line[0] in "+-"]


@pytest.mark.parametrize(
    ("path", "value", "diff"),
    [
        (("timers", "ttl"), "30", ["-   #ttl: 20\n", "+   ttl: 30\n"]),
        (("failover",), "tolerant", ["- #failover: fast\n", "+ failover: tolerant\n"]),
        (
            ("postgresql", "max_connections"),
            "200",
            ["-   #max_connections: null\n", "+   max_connections: 200\n"],
        ),
        (WORK_MEM, "64MB", ["-   #parameters: {}\n", "+   parameters:\n", "+     work_mem: 64MB\n"]),
    ],
)
def test_a_commented_default_of_the_shipped_inventory_becomes_the_line(
    path: tuple[str, ...], value: str, diff: list[str]
) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    edited = given(text, path, value)
    assert changed(text, edited) == diff
    parse(edited, SHIPPED)


BLOCK = """\
# the head
cluster: {name: test}   # in brackets
postgresql:
    memory: 1GB  # four columns

    # the settings
    parameters:
        # sorts
        work_mem: '8MB'   # was 4MB
        jit: off

        # after the last

# hosts
db: []
"""


@pytest.mark.parametrize(
    ("path", "value", "old", "new"),
    [
        (WORK_MEM, "64MB", "        work_mem: '8MB'   # was", "        work_mem: 64MB   # was"),
        (
            (*WORK_MEM[:2], "shared_buffers"),
            "1GB",
            "        jit: off\n",
            "        jit: off\n        shared_buffers: 1GB\n",
        ),
        (
            ("postgresql", "max_connections"),
            "90",
            "        jit: off\n",
            "        jit: off\n    max_connections: 90\n",
        ),
        (("timers", "ttl"), "25", "db: []\n", "db: []\ntimers:\n  ttl: 25\n"),
        (("cluster", "database"), "shop", "{name: test}", "{name: test, database: shop}"),
        (
            (*WORK_MEM[:2], "search_path"),
            '"$user", public',
            "off\n",
            'off\n        search_path: "\\"$user\\", public"\n',
        ),
    ],
)
def test_a_block_keeps_its_indentation_its_comments_and_its_order(
    path: tuple[str, ...], value: str, old: str, new: str
) -> None:
    assert BLOCK.count(old) == 1
    assert given(BLOCK, path, value) == BLOCK.replace(old, new)


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("postgresql: {}\n", "postgresql: {parameters: {work_mem: 64MB}}\n"),
        (
            "postgresql: {memory: 1GB, parameters: {jit: off}} # x\n",
            "postgresql: {memory: 1GB, parameters: {jit: off, work_mem: 64MB}} # x\n",
        ),
        ("postgresql:\n  parameters: {}\nx: 1\n", "postgresql:\n  parameters: {work_mem: 64MB}\nx: 1\n"),
        ("postgresql:\n  parameters: null # n\n", "postgresql:\n  parameters: {work_mem: 64MB} # n\n"),
        ("postgresql:\nx: 1", "postgresql:\n  parameters:\n    work_mem: 64MB\nx: 1"),
        ("x: 1\npostgresql:", "x: 1\npostgresql:\n  parameters:\n    work_mem: 64MB\n"),
        ("x: 1", "x: 1\npostgresql:\n  parameters:\n    work_mem: 64MB\n"),
        ("postgresql:\n  parameters:\n    work_mem:\n", "postgresql:\n  parameters:\n    work_mem: 64MB\n"),
        (
            "x: ü\r\npostgresql:\r\n  #parameters: {}  # some\r\ny: 1\r\n",
            "x: ü\r\npostgresql:\r\n  parameters:\r\n    work_mem: 64MB  # some\r\ny: 1\r\n",
        ),
    ],
)
def test_sections_that_are_missing_empty_or_in_brackets(text: str, edited: str) -> None:
    assert given(text, WORK_MEM, "64MB") == edited


@pytest.mark.parametrize(
    ("value", "scalar", "meant"),
    [
        ("64MB", "64MB", "64MB"),
        ("200", "200", 200),
        ("0.9", "0.9", 0.9),
        ("off", "off", "off"),
        ("true", "true", True),
        ("0200", '"0200"', "0200"),
        ("1e3", '"1e3"', "1e3"),
        ("null", '"null"', "null"),
        ("~", '"~"', "~"),
        ("a: b", '"a: b"', "a: b"),
        ("a #b", '"a #b"', "a #b"),
        ("a,b", '"a,b"', "a,b"),
        ("%m [%p] ", '"%m [%p] "', "%m [%p] "),
        ('"x"', '"\\"x\\""', '"x"'),
        ("-1", "-1", -1),
        ("- x", '"- x"', "- x"),
        ("@x", '"@x"', "@x"),
        ("Europe/Paris", "Europe/Paris", "Europe/Paris"),
        ("a\\b", '"a\\\\b"', "a\\b"),
    ],
)
def test_a_value_means_what_was_typed(value: str, scalar: str, meant: object) -> None:
    assert spelled(value) == scalar
    root, _ = document.read(given("a: {}\n", ("a", "b"), value).encode())
    node = root.find(("a", "b"))[1]
    assert node is not None
    assert node.value == meant
    assert type(node.value) in (type(meant), document.Word)


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        (BLOCK, BLOCK.replace("        work_mem: '8MB'   # was 4MB\n", "")),
        (
            "postgresql: {parameters: {work_mem: 1MB}, memory: 1GB}\n",
            "postgresql: {memory: 1GB}\n",
        ),
        ("postgresql: {parameters: {jit: off, work_mem: 1MB}}\n", "postgresql: {parameters: {jit: off}}\n"),
        ("postgresql: {parameters: {work_mem: 1MB, jit: off}}\n", "postgresql: {parameters: {jit: off}}\n"),
        ("postgresql:\n  parameters:\n    work_mem: 1MB", "postgresql:\n"),
        ("postgresql:\n  memory: 1GB\n", "postgresql:\n  memory: 1GB\n"),
        ("x: 1\n", "x: 1\n"),
    ],
)
def test_a_key_is_taken_out(text: str, edited: str) -> None:
    assert taken_out(text, WORK_MEM) == edited


@pytest.mark.parametrize(
    "text",
    [
        "postgresql: {jit: off, # why\n}\n",
        "postgresql:\n  parameters: >\n    folded\n",
        "postgresql: [1]\n",
        "postgresql:\n  parameters: {work_mem: {a: 1}}\n",
    ],
)
def test_what_cannot_be_edited_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        given(text, WORK_MEM, "64MB")
    assert "postgresql.parameters.work_mem" in caught.value.message
    assert caught.value.hint == "give it the value 64MB by hand, then: kbpg apply-all"


def test_a_value_over_several_lines_is_not_cut_in_two() -> None:
    text = "postgresql:\n  parameters:\n    work_mem: a\n      b\n    jit: off\n"
    assert taken_out(text, WORK_MEM) == "postgresql:\n  parameters:\n    jit: off\n"
    assert given(text, WORK_MEM, "1MB") == "postgresql:\n  parameters:\n    work_mem: 1MB\n    jit: off\n"


def test_in_and_out_again_leaves_every_other_line() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    again = taken_out(given(given(text, WORK_MEM, "64MB"), WORK_MEM, "1MB"), WORK_MEM)
    assert changed(text, again) == ["-   #parameters: {}\n"]
    assert parse(again, SHIPPED) == parse(text, SHIPPED)
