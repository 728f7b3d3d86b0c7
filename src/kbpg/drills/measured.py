"""What the drills of a cluster measured last, kept beside its inventory for the report of `kbpg validate`.

One file for all inventories of a directory: by the inventory's name, with the name and the system identifier of the
cluster whose drills they are: one that was destroyed with its data and built anew under the old name is another one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from kbpg.drills.attempt import Access
from kbpg.drills.catalogue import ALL
from kbpg.drills.explaining import gap
from kbpg.drills.run import Drilled
from kbpg.inventory import Inventory
from kbpg.replacing import replace

FILE = "measured.json"


@dataclass(frozen=True)
class Measured:
    """The runs of one drill in its last command: the longest wait of a client of 6432, in seconds, rows lost, UTC."""

    drill: str
    seconds: float
    lost: int
    when: str
    runs: int


def measured(done: Iterable[Drilled]) -> list[Measured]:
    """Return what these drills measured: nothing where the cluster stayed broken, or the rows uncounted."""
    usable = sorted(
        (d for d in done if d.whole and d.tally and d.drill.predicted), key=lambda d: d.drill.name
    )
    found = []
    for name, group in groupby(usable, key=lambda each: each.drill.name):
        runs = list(group)
        found.append(
            Measured(
                name,
                round(max(gap(each, Access.POOLED).seconds for each in runs), 2),
                sum(each.tally.lost for each in runs if each.tally),
                max(each.started for each in runs).isoformat(timespec="seconds").replace("+00:00", "Z"),
                len(runs),
            )
        )
    return found


def remember(state: Path, inventory: Inventory, system_identifier: str, found: Iterable[Measured]) -> None:
    """Keep what was measured in the directory `state`, in place of what the same drills measured before.

    `system_identifier` is that of the cluster that was drilled; what another one's drills measured is dropped. The
    caller holds the note's lock, so nobody else writes. Raises OSError.
    """
    kept = _kept(state, inventory, system_identifier) | {each.drill: each for each in found}
    document = _read(state) | {
        inventory.path.name: {
            "cluster": inventory.cluster.name,
            "system_identifier": system_identifier,
            "drills": [asdict(each) for each in kept.values()],
        }
    }
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace(state / FILE, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)


def recall(state: Path, inventory: Inventory, system_identifier: str) -> dict[str, Measured]:
    """Return the last measurement by fault (`prediction.Fault`); of two drills of it the first of the catalogue.

    `system_identifier` is that of the cluster that is looked at, "" where it is not known. What cannot be read is not
    there, nor what is another cluster's, or may be, because either identifier is not known.
    """
    kept, found = _kept(state, inventory, system_identifier), dict[str, Measured]()
    for drill in ALL:
        if drill.predicted and drill.name in kept:
            found.setdefault(drill.predicted.value, kept[drill.name])
    return found


def _read(state: Path) -> dict[str, Any]:
    try:
        said = json.loads((state / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _kept(state: Path, inventory: Inventory, system_identifier: str) -> dict[str, Measured]:
    """Return the measurements of this cluster, by drill."""
    said = _read(state).get(inventory.path.name)
    if not isinstance(said, dict) or said.get("cluster") != inventory.cluster.name:
        return {}
    if not system_identifier or said.get("system_identifier") != system_identifier:
        return {}
    drills = said.get("drills")
    found = [_one(each) for each in drills] if isinstance(drills, list) else []
    return {each.drill: each for each in found if each}


def _one(said: object) -> Measured | None:
    """Return a measurement, None where that is none."""
    if not isinstance(said, Mapping):
        return None
    try:
        seconds, lost, runs = float(said["seconds"]), int(said["lost"]), int(said["runs"])
        when = datetime.fromisoformat(said["when"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds < 0 or lost < 0 or runs < 1 or when.tzinfo is None:
        return None
    return Measured(str(said.get("drill")), seconds, lost, str(said["when"]), runs)
