"""A host loses its power, and gets it back: a lab host's container, or commands that the inventory names."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.errors import UsageError
from kbpg.hosts.port import Writer
from kbpg.inventory import Inventory
from kbpg.lab.layout import PREFIX

TIMEOUT = 120.0
"""Seconds for the command that switches a host off or on."""


def of_a_lab(inventory: Inventory) -> bool:
    """Return whether these hosts are those of the lab beside the inventory: containers of this machine.

    The local Docker daemon is asked, no host. Without a daemon it is no lab.
    """
    from kbpg.errors import KbpgError
    from kbpg.lab import status

    try:
        lab = status(inventory.directory)
    except KbpgError:
        return False
    there = {(host.name, host.address) for host in lab.hosts if host.state != "absent"}
    return all((host.name, str(host.address)) in there for host in inventory.hosts)


def commands(inventory: Inventory, name: str, *, lab: bool) -> tuple[list[str], list[str]]:
    """Return what switches host `name` off and on. Raises `UsageError` where the inventory does not say."""
    if lab:
        return ["docker", "kill", PREFIX + name], ["docker", "start", PREFIX + name]
    drills, host = inventory.drills, inventory.host(name)
    if not (drills.power_off and drills.power_on):
        raise UsageError(
            "this drill switches a host off, and the inventory does not say how",
            hint="name commands of the controller under drills: power_off, power_on",
        )
    off, on = (
        [word.replace("{host}", name).replace("{address}", str(host.address)) for word in command]
        for command in (drills.power_off, drills.power_on)
    )
    return off, on


def off(context: Context, controller: Writer, *names: str) -> None:
    """Cut the power of these hosts, all at once. Raises `HostError`, `UsageError`."""
    _each(context, controller, names, 0)


def on(context: Context, controller: Writer, *names: str) -> None:
    """Switch these hosts on, all at once; one that is on stays so. Raises `HostError`, `UsageError`."""
    _each(context, controller, names, 1)


def _each(context: Context, controller: Writer, names: tuple[str, ...], which: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    lab = of_a_lab(context.inventory)
    argvs = [commands(context.inventory, name, lab=lab)[which] for name in names]
    with ThreadPoolExecutor(len(argvs)) as pool:
        list(pool.map(lambda argv: controller.run(argv, timeout=TIMEOUT), argvs))
