"""Bringing a lab up, taking it down, and saying how it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from kbpg.errors import KbpgError, Refused, UsageError
from kbpg.lab.builds import build_settings
from kbpg.lab.containers import SHUTDOWN_SECONDS, privileges, run_arguments
from kbpg.lab.docker import DockerError, docker, inspect, require_daemon
from kbpg.lab.files import (
    INVENTORY,
    KNOWN_HOSTS,
    ensure_key,
    known_hosts,
    remove_facts,
    render_inventory,
    write,
)
from kbpg.lab.images import HOST_IMAGE, PYTHON, BaseImage, base_images, ensure_base_images, ensure_host_image
from kbpg.lab.layout import LABEL, NETWORK, PREFIX, ROLE_LABEL, LabHost, hosts, in_order, lab_id
from kbpg.lab.network import create_network, own_network

READY_SECONDS = 60.0
# Answers only when the host is up: its key, and a Docker daemon and an sshd that run.
READY = "docker version >/dev/null && test -s /run/sshd.pid && cat /etc/ssh/ssh_host_ed25519_key.pub"

Report = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class HostStatus:
    """A lab host and its container's state: `running`, `exited` …, or `absent`."""

    name: str
    container: str
    address: str
    state: str


@dataclass(frozen=True)
class LabStatus:
    """A lab as it is. `subnet` is None when its network does not exist."""

    directory: Path
    subnet: str | None
    hosts: tuple[HostStatus, ...]
    base_images: tuple[BaseImage, ...]

    @property
    def up(self) -> bool:
        """Whether every host runs."""
        return bool(self.hosts) and all(host.state == "running" for host in self.hosts)


def up(
    directory: Path,
    *,
    subnet: IPv4Network | None = None,
    extra: Iterable[str] = (),
    report: Report = _silent,
) -> Path:
    """Bring up the lab of `directory` and return the path of its inventory.

    Running hosts are kept, stopped ones started, missing ones created; each name of `extra` gives one more
    plain host, which is not in the inventory. `subnet` is a free private /24 and counts for a new lab only.
    Raises DockerError when there is no daemon or a host does not come up, Refused when another lab is up,
    UsageError when the subnet cannot be had.
    """
    require_daemon()
    lab = lab_id(directory)
    network = own_network(lab)
    if network and subnet and network.subnet != subnet:
        raise UsageError(f"the lab is up on {network.subnet}", hint=f"kbpg lab down --dir {directory}")
    ensure_base_images(report)
    ensure_host_image(report)
    directory.mkdir(parents=True, exist_ok=True)
    public_key = ensure_key(directory)
    where = network.subnet if network else create_network(lab, str(directory.resolve()), subnet)
    placed = _place(lab, where, extra)
    _start(lab, directory, placed, public_key, report)
    report("waiting for the hosts' Docker daemons and sshd")
    with ThreadPoolExecutor(len(placed) + 1) as pool:
        settings = pool.submit(build_settings, directory, PYTHON, report)
        keys = dict(zip((host.address for host in placed), pool.map(_await_key, placed), strict=True))
    write(directory / KNOWN_HOSTS, known_hosts(keys), mode=0o600)
    write(directory / INVENTORY, render_inventory(placed, settings.result()), mode=0o644)
    return directory / INVENTORY


def _place(lab: str, subnet: IPv4Network, extra: Iterable[str]) -> list[LabHost]:
    existing = [host for host in _containers(lab).values() if host.role == "extra"]
    names = {host.name for host in existing}
    new = [name for name in extra if name not in names]
    return [*hosts(subnet, new, taken={host.address for host in existing}), *existing]


def _start(lab: str, directory: Path, placed: list[LabHost], public_key: str, report: Report) -> None:
    found = {said["Name"].lstrip("/"): said for said in inspect("container", *(h.container for h in placed))}
    for name, said in found.items():
        if said["Config"]["Labels"].get(LABEL) != lab:
            raise Refused(f"the container {name} does not belong to this lab", hint="remove or rename it")
    missing = [host for host in placed if host.container not in found]
    stopped = [name for name, said in found.items() if not said["State"]["Running"]]
    if missing:
        report(f"starting {', '.join(host.name for host in missing)}")
        granted = privileges(HOST_IMAGE)
        commands = [
            run_arguments(host, HOST_IMAGE, lab, str(directory.resolve()), public_key, granted)
            for host in missing
        ]
        with ThreadPoolExecutor(len(missing)) as pool:
            list(pool.map(lambda command: docker(*command), commands))
    if stopped:
        report(f"starting {', '.join(name.removeprefix(PREFIX) for name in stopped)} again")
        docker("start", *stopped)


def _await_key(host: LabHost) -> str:
    """Return the host's public key once it is up; raises DockerError after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return docker("exec", host.container, "sh", "-c", READY)
        except DockerError as exc:
            if time.monotonic() > deadline:
                log = docker("logs", "--tail", "8", host.container).splitlines()
                raise DockerError(f"{host.name} did not come up", detail=[*exc.detail, *log]) from exc
        time.sleep(0.2)


def down(directory: Path, *, report: Report = _silent) -> None:
    """Remove the lab's hosts, their volumes and its network, and what is untrue without them.

    Only objects with this lab's label are touched; images, the key and the wheels stay.
    """
    require_daemon()
    ours = f"label={LABEL}={lab_id(directory)}"
    containers = docker("ps", "--all", "--quiet", "--filter", ours).split()
    if containers:
        report(f"removing {len(containers)} hosts")
        docker("rm", "--force", "--volumes", *containers, timeout=SHUTDOWN_SECONDS + 60)
    networks = docker("network", "ls", "--quiet", "--filter", ours).split()
    if networks:
        docker("network", "rm", *networks)
    remove_facts(directory)


def status(directory: Path) -> LabStatus:
    """Return how the lab of `directory` is; hosts are listed even when they do not exist."""
    require_daemon()
    lab = lab_id(directory)
    network = own_network(lab)
    found = {said["Name"].lstrip("/"): said for said in _inspected(lab)}
    placed = _place(lab, network.subnet, ()) if network else []
    states = (
        HostStatus(host.name, host.container, host.address, _state(found.get(host.container)))
        for host in placed
    )
    return LabStatus(directory, str(network.subnet) if network else None, tuple(states), tuple(base_images()))


def _state(said: dict[str, Any] | None) -> str:
    return str(said["State"]["Status"]) if said else "absent"


def _inspected(lab: str) -> list[dict[str, Any]]:
    names = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={lab}").split()
    return inspect("container", *names) if names else []


def _containers(lab: str) -> dict[str, LabHost]:
    """Return the hosts that exist, by container name."""
    found = {}
    for said in _inspected(lab):
        container = said["Name"].lstrip("/")
        address = said["NetworkSettings"]["Networks"][NETWORK]["IPAMConfig"]["IPv4Address"]
        role = said["Config"]["Labels"][ROLE_LABEL]
        found[container] = LabHost(container.removeprefix(PREFIX), role, address)
    return found


def running_addresses(directory: Path) -> list[str]:
    """Return the addresses of the running hosts of the lab of `directory`, sorted; [] when it is down.

    Only these may be dialled. Raises DockerError when no daemon answers.
    """
    network = own_network(lab_id(directory))
    return in_order(network.running.values()) if network else []


def running_host(directory: Path, name: str) -> LabHost:
    """Return a host by its name, with or without prefix; raises KbpgError unless it runs."""
    plain = name.removeprefix(PREFIX)
    found = _containers(lab_id(directory)).get(PREFIX + plain)
    if found is None:
        raise UsageError(f"the lab has no host {name}", hint="kbpg lab status")
    if found.address not in running_addresses(directory):
        raise KbpgError(f"{plain} does not run", hint=f"kbpg lab up --dir {directory}")
    return found
