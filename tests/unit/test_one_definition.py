"""What many modules share is spelled in one of them: two spellings would part one day."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kbpg.layout import PATRONI_STOP

SOURCE = Path(__file__).parents[2] / "src" / "kbpg"


@cache
def trees() -> dict[str, ast.Module]:
    """Return every module of kbpg, parsed."""
    modules = sorted(SOURCE.rglob("*.py"))
    return {m.relative_to(SOURCE).as_posix(): ast.parse(m.read_text(encoding="utf-8")) for m in modules}


def constants(tree: ast.Module) -> Iterator[str]:
    """Yield the constants of a module's code as text, f-strings' parts too, docstrings not."""
    nodes = list(ast.walk(tree))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield str(node.value)


@pytest.mark.parametrize(
    ("text", "home"),
    [
        (r"/postgres/(data|raft)\b", "layout.py"),
        (r"/var/lib/postgresql/data\b", "layout.py"),
        (r"\b999\b", "layout.py"),
        (r"^authentication failed$|^password authentication failed$", "facts.py"),
    ],
)
def test_a_path_a_user_or_a_message_has_one_home(text: str, home: str) -> None:
    homes = [name for name, tree in trees().items() if any(re.search(text, c) for c in constants(tree))]
    assert homes == [home]


def test_patroni_has_one_time_to_stop_in() -> None:
    """Docker's `--time` of whoever stops it, and the container's own."""
    homes = [
        f"{name}: {target.id}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and "STOP" in target.id and node.value.value == PATRONI_STOP
    ]
    assert homes == ["layout.py: PATRONI_STOP"]
