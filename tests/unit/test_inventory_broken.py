"""Every broken inventory under `inventories/` gives exactly the text next to it, as a user would see it.

`python tests/unit/test_inventory_broken.py` writes the texts anew: read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbpg.errors import Exit, InventoryError
from kbpg.inventory import load

FOLDER = Path(__file__).with_name("inventories")
BROKEN = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def outcome(name: str) -> str:
    """Return what is shown for `NAME.yaml`, which must be broken; the current directory is its folder."""
    with pytest.raises(InventoryError) as caught:
        load(f"{name}.yaml")
    assert caught.value.exit_code is Exit.INPUT
    return "\n".join(caught.value.lines()) + "\n"


@pytest.mark.parametrize("name", BROKEN)
def test_complete_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    assert outcome(name) == (FOLDER / f"{name}.expected").read_text(encoding="utf-8")


def test_every_expected_text_has_its_inventory() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.expected")) == BROKEN
    assert len(BROKEN) >= 10


if __name__ == "__main__":
    os.chdir(FOLDER)
    for broken in BROKEN:
        Path(f"{broken}.expected").write_text(outcome(broken), encoding="utf-8")
