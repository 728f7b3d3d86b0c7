"""The presets as a table for docs/inventory.md, with the recovery times that `prediction.py` computes from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kbpg.inventory.models import Inventory
from kbpg.inventory.presets import DEFAULT, PRESETS
from kbpg.prediction import recovery_times

INTRODUCTION = f"""\
## Failover presets

`failover` names the preset; `{DEFAULT}` is the default. A preset gives the defaults of the keys below, and a key
that stands in its section wins. A leader that goes silent costs about its `ttl`, and Patroni allows none below
20 s. The longer the timers, the longer a network may stutter, or a virtual machine stand still, without a failover.
"""
PREDICTION = """\
Predicted recovery times follow from these timers alone (`kbpg status` computes them from the inventory at hand): how
long one client that writes through PgBouncer waits between two acknowledged writes, from the luckiest moment for the
fault to the unluckiest.
"""


def preset_inventory(name: str) -> Inventory:
    """Return a smallest inventory with the preset `name`; its hosts have addresses for documentation (RFC 5737)."""
    hosts = [{"name": f"host-{number}", "address": f"192.0.2.{number}"} for number in range(1, 5)]
    return Inventory.model_validate(
        {"cluster": {"name": "preset"}, "failover": name, "db": hosts[:3], "proxies": hosts[3:]}
    )


def preset_reference() -> str:
    """Return the section: the keys of each preset, and its predicted recovery times."""
    inventories = {name: preset_inventory(name) for name in PRESETS}
    keys = [(section, key) for section, values in PRESETS[DEFAULT].items() for key in values]
    values = {f"`{s}.{k}`": [f"`{PRESETS[name][s][k]}`" for name in PRESETS] for s, k in keys}
    times = {name: recovery_times(inventory) for name, inventory in inventories.items()}
    predicted = {
        recovery.title: [times[name][row].range for name in PRESETS]
        for row, recovery in enumerate(times[DEFAULT])
    }
    return "\n".join([INTRODUCTION, *_table("key", values), PREDICTION, *_table("fault", predicted)])


def _table(first: str, rows: Mapping[str, Iterable[str]]) -> list[str]:
    lines = [_line([first, *(f"`{name}`" for name in PRESETS)]), "|---" * (len(PRESETS) + 1) + "|"]
    return [*lines, *(_line([title, *cells]) for title, cells in rows.items()), ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
