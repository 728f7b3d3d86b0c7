"""The Docker daemon of a host, started again where that can do no harm."""

from __future__ import annotations

import time

from kbpg.errors import NotConverged, Refused
from kbpg.hosts.port import Writer

DEADLINE = 60.0
"""Seconds for a Docker daemon that was started to answer."""


def start_docker(host: Writer) -> str:
    """Start the daemon and return what was done. Raises `HostError`, `NotConverged`.

    `Refused` where systemd does not run the host, and where the daemon runs and hangs: only a restart would help, and
    that ends its containers.
    """
    name = host.name
    if not host.run(["sh", "-c", "command -v systemctl && [ -d /run/systemd/system ]"], check=False).ok:
        raise Refused(
            f"{name} is not run by systemd, so kbpg does not know how its Docker is started",
            hint=f"start the Docker daemon on {name}; the containers start with it",
        )
    if host.run(["systemctl", "is-active", "--quiet", "docker"], check=False).ok:
        raise Refused(
            f"Docker on {name} runs and does not answer",
            detail=("a restart of it stops its containers and starts them again; a leader fails over",),
            hint=f"look at it first (journalctl -u docker), then on {name}: systemctl restart docker",
        )
    host.run(["systemctl", "start", "docker"])
    ends = time.monotonic() + DEADLINE
    while not host.run(["docker", "version"], check=False).ok:
        if time.monotonic() > ends:
            raise NotConverged(f"Docker on {name} does not answer {DEADLINE:g} s after its start")
        time.sleep(1)
    return f"Docker on {name} was started"
