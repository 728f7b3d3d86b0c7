"""Reading an inventory file: every problem at once, or an `Inventory`."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kbpg.errors import InventoryError
from kbpg.inventory import document, rules
from kbpg.inventory.databases import UNNAMED
from kbpg.inventory.document import DocumentError, Loc, Node, Problem
from kbpg.inventory.models import Inventory
from kbpg.inventory.problems import as_written, clean, render, translate

_CHECK_HINT = "correct the file, then: kbpg inventory check"


def load(path: str | os.PathLike[str]) -> Inventory:
    """Return the inventory in the file `path`; raises InventoryError with all its problems.

    No host is contacted and no other file is read.
    """
    file = os.fspath(path)
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(document.MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise InventoryError([f"{file}: no such file"], hint="name the inventory with -i PATH") from exc
    except IsADirectoryError as exc:
        raise InventoryError([f"{file}: is a directory"], hint="name the inventory with -i PATH") from exc
    except OSError as exc:
        raise InventoryError([f"{file}: cannot be read: {(exc.strerror or str(exc)).lower()}"]) from exc
    return parse(data, path)


def parse(data: bytes | str, path: str | os.PathLike[str]) -> Inventory:
    """Return the inventory in `data` as if it had been read from `path`; raises InventoryError."""
    file = os.fspath(path)
    try:
        root, problems = document.read(data.encode() if isinstance(data, str) else data)
    except DocumentError as exc:
        raise InventoryError(render(file, [exc.problem]), hint=_CHECK_HINT) from exc
    if not isinstance(root.value, dict):
        what = (
            "is empty" if root.value is None else "wanted keys and values such as cluster:, db: and proxies:"
        )
        raise InventoryError(render(file, [Problem(1, (), what)]), hint=_CHECK_HINT)
    inventory, found = _validate(root)
    problems += found
    if problems or inventory is None:
        raise InventoryError(render(file, problems), hint=_CHECK_HINT)
    inventory._path = Path(path)
    return inventory


def _validate(root: Node) -> tuple[Inventory | None, list[Problem]]:
    problems: list[Problem] = []
    wrong: list[Loc] = []
    inventory: Inventory | None = None
    try:
        inventory = Inventory.model_validate(root.value)
        draft: Inventory | None = inventory
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        problems = [translate(error, root) for error in errors]
        wrong = [as_written(clean(error["loc"]), root) for error in errors]
        draft = _draft(root.value, wrong)
    if draft:
        problems += [Problem(root.find(loc)[0], loc, text) for loc, text in rules.broken_rules(draft, wrong)]
    return inventory, problems


def _draft(value: Any, wrong: list[Loc]) -> Inventory | None:
    """Return an inventory of what is right, with defaults and stand-ins for the rest, for the rules."""
    data = copy.deepcopy(value)
    # Of an entry with a list in it, the whole list goes: its other parts can still be judged
    whole = {loc[:3] if loc[:1] in (("databases",), ("roles",)) else loc for loc in wrong}
    whole = {loc[:2] if loc[:2] == ("prepare", "allowed_clients") else loc for loc in whole}
    for loc in sorted(whole, key=len, reverse=True):
        _remove(data, loc)
    cluster = data.setdefault("cluster", {})
    if isinstance(cluster, dict):
        cluster.setdefault("name", "unnamed")
    for key in ("databases", "roles"):
        entries = data.get(key)
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            entries[i] = {"name": f"{UNNAMED}{key}_{i}", **(entry or {})}
    stand_ins = 0
    for key in ("db", "proxies"):
        hosts = data.setdefault(key, [])
        for i, host in enumerate(hosts):
            stand_ins += 1
            hosts[i] = {"name": f"x{stand_ins}", "address": f"192.0.2.{stand_ins % 255}", **(host or {})}
    try:
        return Inventory.model_validate(data)
    except ValidationError:
        return None


def _remove(data: Any, loc: Loc) -> None:
    for part in loc[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict):
        data.pop(loc[-1], None)
    elif isinstance(data, list) and isinstance(loc[-1], int) and loc[-1] < len(data):
        data[loc[-1]] = {}
