"""Who imports whom: docs/architecture.md, "Imports go down"."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "kbpg"
LAYERS = (
    {"hosts", "inventory", "pki", "credentials"},
    {"engine", "firewall"},
    {"resources", "operations", "adoption"},
    {"steps"},
    {"health", "status", "report", "drills", "lab"},
    {"cli"},
)
"""Packages, the lowest first: each may import its own layer and those below."""
UP = {
    "operations/belongings.py": {"steps"},
    "operations/config_set.py": {"steps"},
    "operations/position.py": {"steps"},
    "operations/raft_rebuild.py": {"steps"},
    "operations/raft_rotation.py": {"drills"},
    "operations/rotating.py": {"steps"},
}
"""Procedures that let a step say what a node is made of, and one that stops a program as a drill does."""


def imported(module: Path) -> Iterator[str]:
    """Yield the packages of kbpg that a module imports when it runs, annotations not counted."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "kbpg":
            names = [f"kbpg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith("kbpg."))


def test_every_package_has_a_layer() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {"hosts"}
    assert packages == set().union(*LAYERS)


def test_imports_go_down() -> None:
    ranks = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}
    up: dict[str, set[str]] = {}
    for package, rank in ranks.items():
        for module in sorted((SOURCE / package).rglob("*.py")):
            found = {other for other in imported(module) if ranks.get(other, 0) > rank}
            if found:
                up[module.relative_to(SOURCE).as_posix()] = found
    assert up == UP
