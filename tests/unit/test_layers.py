"""Who imports whom: docs/architecture.md, "Imports go down"."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "kbpg"
LAYERS = (
    {
        *("__version__", "asking", "compiled", "console", "errors", "home", "layout", "model", "options"),
        *("prediction", "replacing", "scram", "secret", "secret_settings", "side_by_side", "tls"),
    },
    {"hosts", "inventory", "pki", "credentials"},
    {
        *("amid", "connecting", "context", "dynamic", "facts", "haproxy", "patroni", "pooler", "raft"),
        *("raft_admin", "render", "rest", "sql", "trust", "tuning", "uri"),
    },
    {"engine", "firewall"},
    {"resources", "operations", "adoption"},
    {"steps"},
    {"health", "status", "report", "drills", "lab"},
    {"session"},
    {"cli"},
    {"__main__"},
)
"""Packages and the modules beside them, the lowest first: each may import its own layer and those below."""
UP = {
    "operations/belongings.py": {"steps"},
    "operations/config_set.py": {"steps"},
    "operations/position.py": {"steps"},
    "operations/raft_rebuild.py": {"steps"},
    "operations/rotating.py": {"steps"},
}
"""Procedures that let a step say what a node is made of."""


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


def test_everything_has_a_layer() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/*.py")}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"} | {"__version__"}
    assert packages | modules == set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(packages | modules)


def test_imports_go_down() -> None:
    ranks = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
    up: dict[str, set[str]] = {}
    for name, rank in ranks.items():
        for module in (*sorted((SOURCE / name).rglob("*.py")), SOURCE / f"{name}.py"):
            found = {other for other in imported(module) if ranks[other] > rank} if module.exists() else set()
            if found:
                up[module.relative_to(SOURCE).as_posix()] = found
    assert up == UP
