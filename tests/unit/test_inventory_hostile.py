"""Whatever stands in the file: an inventory or an InventoryError, in bounded time, never a traceback."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbpg.errors import InventoryError
from kbpg.inventory import Inventory, parse
from kbpg.inventory.document import MAX_BYTES
from kbpg.inventory.models import Inventory as Model

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just("10.0.0.1"),
    st.just("10MB"),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=10) | st.sampled_from(list(Model.model_fields)), inner, max_size=4),
    ),
    max_leaves=12,
)
sections = st.dictionaries(
    st.sampled_from(
        [
            "ttl",
            "loop_wait",
            "name",
            "address",
            "ssh",
            "jump",
            "port",
            "parameters",
            "images",
            "args",
            "memory",
        ]
    ),
    values,
    max_size=4,
)
inventories = st.dictionaries(
    st.sampled_from(list(Model.model_fields)),
    st.one_of(sections, st.lists(sections, max_size=4), values),
    max_size=8,
)


def outcome(data: bytes | str) -> Inventory | InventoryError:
    try:
        return parse(data, "inventory.yaml")
    except InventoryError as exc:
        return exc


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    result = outcome(data)
    assert isinstance(result, InventoryError)
    assert all(line.startswith("inventory.yaml:") and line.isprintable() for line in result.problems)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc:-[]{}#&*!|>'\"%@`\n \t?,0.~<", max_size=80))
def test_any_yaml_punctuation(text: str) -> None:
    result = outcome(text)
    assert isinstance(result, InventoryError)
    assert result.problems


@settings(max_examples=300, deadline=None)
@given(inventories)
def test_any_structure(data: dict[str, object]) -> None:
    result = outcome(json.dumps(data))
    assert isinstance(result, Inventory) or (
        result.problems
        and all(line.startswith("inventory.yaml:") and line.isprintable() for line in result.problems)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"{a: " * 100_000,
        b"- " * 100_000,
        b"a: &a [*a]\n",
        b"? " * 50_000,
        b"x" * (MAX_BYTES + 1),
        b"a: '" + b"x" * 900_000 + b"'\n",
        b"cluster: {name: " + b"9" * 10_000 + b"}\n",
        b"ports: {raft: " + b"9" * 10_000 + b", stats: 1e999}\n",
        b"\n".join(b"k%d: 1" % n for n in range(30_000)),
        b"k" * 100_000 + b": 1\n",
        b"\n".join(b"k%d: 1" % n for n in range(9_000)),
        b"a: " + b"1" * 400_000 + b"." + b"1" * 400_000 + b"\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_large_or_deep_files_end_soon(data: bytes) -> None:
    start = time.process_time()  # how long it takes by the clock says how busy the machine is
    result = outcome(data)
    assert isinstance(result, InventoryError)
    assert time.process_time() - start < 5
    assert sum(map(len, result.problems)) < 100_000
