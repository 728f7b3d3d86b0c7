"""The lab's network: a bridge of its own that leads nowhere else."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from kbpg.errors import Refused
from kbpg.lab.docker import docker, inspect
from kbpg.lab.layout import DIRECTORY_LABEL, LABEL, NETWORK, choose_subnet


@dataclass(frozen=True)
class Network:
    """The lab's network as it is: whose it is, and the addresses of the containers that run on it."""

    lab: str
    directory: str
    subnet: IPv4Network
    running: dict[str, str]


def find_network() -> Network | None:
    """Return the lab's network on this machine, or None. Raises Refused when the name is somebody else's."""
    found = inspect("network", NETWORK)
    return parse_network(found[0]) if found else None


def parse_network(said: dict[str, Any]) -> Network:
    """Return what one element of `docker network inspect` says; `running` maps container to address."""
    labels = said.get("Labels") or {}
    if LABEL not in labels:
        raise Refused(
            f"the Docker network {NETWORK} was not made by `kbpg lab up`", hint="remove or rename it"
        )
    return Network(
        lab=labels[LABEL],
        directory=labels.get(DIRECTORY_LABEL, ""),
        subnet=IPv4Network(said["IPAM"]["Config"][0]["Subnet"]),
        running={c["Name"]: c["IPv4Address"].split("/")[0] for c in (said.get("Containers") or {}).values()},
    )


def own_network(lab: str) -> Network | None:
    """Return the network if it is this lab's, None if there is none; raises Refused if another lab's."""
    network = find_network()
    if network and network.lab != lab:
        raise Refused(
            f"another lab is up on this machine: {network.directory}",
            hint=f"kbpg lab down --dir {network.directory}",
        )
    return network


def create_network(lab: str, directory: str, wanted: IPv4Network | None) -> IPv4Network:
    """Create the lab's network and return its subnet. Raises UsageError when `wanted` cannot be had."""
    subnet = choose_subnet(wanted, subnets_in_use())
    docker(
        "network", "create", "--internal", "--subnet", str(subnet),
        "--label", f"{LABEL}={lab}", "--label", f"{DIRECTORY_LABEL}={directory}", NETWORK,
    )  # fmt: skip
    return subnet


def subnets_in_use() -> list[IPv4Network]:
    """Return the IPv4 networks of this machine's Docker networks and routes."""
    names = docker("network", "ls", "--quiet").split()
    found = [
        config["Subnet"]
        for network in inspect("network", *names)
        for config in network["IPAM"]["Config"] or []
        if "." in config.get("Subnet", "")
    ]
    return [IPv4Network(text, strict=False) for text in found] + _routes()


def _routes() -> list[IPv4Network]:
    if not shutil.which("ip"):
        return []
    asked = subprocess.run(
        ["ip", "-json", "-4", "route"], capture_output=True, text=True, timeout=10, check=False
    )
    if asked.returncode:
        return []
    targets = [route["dst"] for route in json.loads(asked.stdout or "[]")]
    return [IPv4Network(target, strict=False) for target in targets if target != "default"]
