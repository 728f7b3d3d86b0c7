"""Which drills are run, in which order, and whether they may be: judged before a connection is opened."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbpg.drills import power
from kbpg.drills.catalogue import ALL, RANDOM, Drill, named
from kbpg.errors import UsageError
from kbpg.inventory import Inventory

EVERYTHING = "all"


@dataclass(frozen=True)
class Order:
    """What was asked for: names, how often each, and for a random order its minutes and its seed."""

    names: tuple[str, ...]
    times: int = 1
    minutes: float = 10.0
    seed: int | None = None

    @property
    def random(self) -> bool:
        """Return whether the seed decides."""
        return RANDOM in self.names


def allowed(order: Order, inventory: Inventory, i_mean_it: str) -> tuple[Drill, ...]:
    """Return the drills that are asked for and may be run on this inventory's hosts. No host is contacted.

    Raises `UsageError` where the hosts are not a lab's and the cluster's name was not given, and for a drill that
    does not exist, that is for a lab only, or that the inventory does not enable.
    """
    lab = power.of_a_lab(inventory)
    if not lab and i_mean_it != inventory.cluster.name:
        raise UsageError(
            f"nothing was done: {inventory.path} is not a lab's, and a drill breaks the cluster",
            hint=f"--i-mean-it {inventory.cluster.name} says that this cluster may be broken; "
            "kbpg lab up makes one for it",
        )
    everything = bool({EVERYTHING, RANDOM} & set(order.names))
    chosen = ALL if everything else tuple(named(name) for name in order.names)
    found = [
        drill for drill in chosen if not (problem := _problem(drill, inventory, lab=lab)) or not everything
    ]
    for drill in () if everything else found:
        if problem := _problem(drill, inventory, lab=lab):
            raise UsageError(f"{drill.name}: {problem}")
    return tuple(found)


def _problem(drill: Drill, inventory: Inventory, *, lab: bool) -> str:
    """Return why a drill cannot be run on these hosts, "" where it can."""
    if drill.lab and not lab:
        return "only on the hosts of a lab"
    if drill.power and not lab and not (inventory.drills.power_off and inventory.drills.power_on):
        return "it switches hosts off, and the inventory does not say how (drills: power_off, power_on)"
    if drill.name == "proxy-poweroff" and len(inventory.proxies) < 2:
        return "there is one proxy only: nobody could go on"
    return ""


def sequence(order: Order, drills: Sequence[Drill]) -> Iterator[Drill]:
    """Yield the drills to run: each `times` times, or until the minutes are over as the seed decides."""
    if not order.random:
        for _ in range(order.times):
            yield from drills
        return
    ends = time.monotonic() + order.minutes * 60
    dice = random.Random(order.seed)  # noqa: S311 (an order that can be repeated, not a secret)
    while time.monotonic() < ends:
        yield dice.choice(drills)
