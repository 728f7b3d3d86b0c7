"""Containers: what must run, compared with what `docker inspect` shows, option by option."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbpg.engine.site import Site
from kbpg.facts import Facts
from kbpg.model import ABSENT, Absent, Change, Impact, Resource, State, Want
from kbpg.resources.configuration import Configuration
from kbpg.resources.container_log import last_lines, read_command
from kbpg.resources.docker import LABEL_INPUTS, LABEL_SPEC, ContainersFact
from kbpg.resources.privilege import NO_HEALTH, NO_NEW_PRIVILEGES, Health, health_of, security_of

LOG_LINES = 8
"""Lines of a container's log that go with an error."""
LOG_DRIVER = "json-file"
"""Named, because a host may have another default: journald and syslog refuse the limits, and so the container."""
LOG_OPTIONS = {"max-size": "20m", "max-file": "5"}
"""A container's log never fills the disk: 100 MB at most."""


@dataclass(frozen=True)
class ContainerSpec:
    """How a container is started. Sizes in bytes, `stop_timeout` in seconds.

    `inputs` is the label of the image it must run; `mounts` are "source:target:mode" binds of directories
    (never of single files: an atomic rename would leave the container with the old one), `tmpfs` are
    "path:options". `restart_for` digests what the program reads only when it starts, so that a change of it
    recreates the container. `user` is "uid:gid", "" for the image's; `pids_limit` counts processes and threads, 0
    for no limit. `memory` is in bytes, 0 for no limit; it is changed in place (`MemoryLimit`), so it is no part of
    `digest` and `state`. What the last six are for: docs/containers.md.
    """

    name: str
    image: str
    inputs: str
    command: tuple[str, ...]
    mounts: tuple[str, ...]
    stop_timeout: int
    shm_size: int = 64 << 20
    tmpfs: tuple[str, ...] = ()
    restart_for: str = ""
    user: str = ""
    read_only: bool = False
    cap_drop: tuple[str, ...] = ()
    pids_limit: int = 0
    health: Health | None = None
    memory: int = 0

    def argv(self) -> list[str]:
        """Return the command that starts it. There is no secret among its arguments."""
        label = f"{LABEL_SPEC}={self.digest()}"
        start = ["docker", "run", "--detach", "--name", self.name, "--label", label]
        # No swap beside it: a proxy that swaps is slower than one that Docker starts again
        limit = [f"--memory={self.memory}", f"--memory-swap={self.memory}"] if self.memory else []
        return [*start, *self._options(), *limit, self.image, *self.command]

    def _options(self) -> list[str]:
        options = ["--restart", "unless-stopped", "--network", "host", "--security-opt", NO_NEW_PRIVILEGES]
        options += ["--stop-timeout", str(self.stop_timeout), "--shm-size", str(self.shm_size)]
        options += [
            f"--log-driver={LOG_DRIVER}",
            *(f"--log-opt={key}={value}" for key, value in LOG_OPTIONS.items()),
        ]
        options += [f"--tmpfs={path}" for path in self.tmpfs]
        return options + [f"--volume={mount}" for mount in self.mounts] + self._privileges()

    def _privileges(self) -> list[str]:
        """Return what the program may not do; nothing for what is not asked for, as in `digest`."""
        options = [f"--user={self.user}"] if self.user else []
        options += ["--read-only"] if self.read_only else []
        options += [f"--cap-drop={name}" for name in self.cap_drop]
        options += [f"--pids-limit={self.pids_limit}"] if self.pids_limit else []
        return options + (self.health.options() if self.health else [])

    def digest(self) -> str:
        """Return what identifies the options; the image is compared by its own label.

        It is made of the command line, so a kbpg that knows more options leaves containers alone that do
        not use them.
        """
        started_with = [*self._options(), *self.command, self.restart_for]
        return hashlib.sha256(json.dumps(started_with).encode()).hexdigest()[:12]

    def state(self) -> State:
        """Return what `state_of` shows of a container that runs as it should."""
        return {
            "status": "running",
            "image": self.inputs[:12],
            "spec": self.digest(),
            "command": " ".join(self.command),
            "restart": "unless-stopped",
            "network": "host",
            "mounts": " ".join(sorted(self.mounts)),
            "tmpfs": " ".join(sorted(self.tmpfs)),
            "ulimits": "",
            "shm_size": self.shm_size,
            "stop_timeout": self.stop_timeout,
            "privileged": False,
            "user": self.user,
            "read_only": self.read_only,
            "cap_drop": " ".join(sorted(self.cap_drop)),
            "cap_add": "",
            "security_opt": NO_NEW_PRIVILEGES,
            "pids_limit": self.pids_limit,
            "health": self.health.text() if self.health else NO_HEALTH,
        }

    def found(self, container: Mapping[str, Any]) -> State:
        """Return `state_of` a container that is to be this one.

        A kernel without the cgroup for processes makes Docker drop the limit with a warning and show none
        (verifyPlatformContainerResources in daemon/daemon_unix.go): no restart would change that.
        """
        shown = dict(state_of(container))
        if not shown["pids_limit"] and shown["spec"] == self.digest():
            shown["pids_limit"] = self.pids_limit
        return shown


def state_of(container: Mapping[str, Any]) -> State:
    """Return what a container is, from `docker inspect`, in the words of `ContainerSpec.state`."""
    config, host = container["Config"], container["HostConfig"]
    labels = config.get("Labels") or {}
    return {
        "status": container["State"]["Status"],
        "image": labels.get(LABEL_INPUTS, "unknown")[:12],
        "spec": labels.get(LABEL_SPEC, "not started by kbpg"),
        "command": " ".join(config.get("Cmd") or []),
        "restart": host["RestartPolicy"]["Name"],
        "network": host["NetworkMode"],
        "mounts": " ".join(sorted(host.get("Binds") or [])),
        "tmpfs": " ".join(sorted(f"{path}:{how}" for path, how in (host.get("Tmpfs") or {}).items())),
        "ulimits": " ".join(f"{limit['Name']}={limit['Hard']}" for limit in host.get("Ulimits") or []),
        "shm_size": host["ShmSize"],
        "stop_timeout": config.get("StopTimeout") or 0,
        "privileged": host["Privileged"],
        "user": config.get("User") or "",
        "read_only": bool(host.get("ReadonlyRootfs")),
        "cap_drop": " ".join(sorted(host.get("CapDrop") or [])),
        "cap_add": " ".join(sorted(host.get("CapAdd") or [])),
        "security_opt": security_of(host),
        "pids_limit": max(host.get("PidsLimit") or 0, 0),
        "health": health_of(config),
    }


class Container(Resource):
    """A container that runs with these options; any difference but being stopped recreates it."""

    def __init__(self, spec: ContainerSpec, fact: ContainersFact, config: Configuration) -> None:
        self.id = f"container:{spec.name}"
        self.spec, self.config = spec, config
        self._fact = fact
        self.facts = (fact,)

    def want(self, facts: Facts) -> Want:
        """Return the options and that it runs."""
        return self.spec.state()

    def have(self, facts: Facts) -> Want:
        """Return what Docker shows."""
        found = facts.get(self._fact).get(self.spec.name)
        return self.spec.found(found) if found else ABSENT

    def impact(self, change: Change, facts: Facts) -> Impact:
        """Return whether something that runs is restarted."""
        down = isinstance(change.have, Absent) or "status" in change.names()
        return Impact.NONE if down else Impact.RESTART

    def fix(self, site: Site, change: Change) -> None:
        """Start, or replace, the container."""
        host, name = site.host, self.spec.name
        if change.only("status"):
            verb = {"paused": "unpause", "restarting": "restart"}.get(_status(change), "start")
            host.run(["docker", verb, name], timeout=self.spec.stop_timeout + 60)
            if verb == "unpause":
                return  # it goes on with what it has read
            container = str(site.facts.get(self._fact)[name]["Id"])
        else:
            if not isinstance(change.have, Absent):
                remove(site, name, self.spec.stop_timeout)
            container = host.run(self.spec.argv()).stdout.strip()
        # It has just read its files, which the resources before this one have put in place
        host.write(self.config.marker, self.config.text(container), owner="0:0", mode=0o600)

    def evidence(self, site: Site) -> list[str]:
        """Return the last lines of the container's log."""
        return log_lines(site, self.spec.name)


def _status(change: Change) -> str:
    return str(change.have["status"]) if isinstance(change.have, Mapping) else ""


def remove(site: Site, name: str, stop_timeout: int) -> None:
    """Stop a container, giving it `stop_timeout` seconds to end cleanly, and remove it; its data stays."""
    site.host.run(["docker", "stop", "--time", str(stop_timeout), name], timeout=stop_timeout + 30)
    site.host.run(["docker", "rm", name])


def log_lines(site: Site, name: str, host: str | None = None) -> list[str]:
    """Return the last lines of a container's log on `host` (default: here), under a heading, but connections'."""
    where = site.hosts.get(host or site.place)
    if where is None:
        return []
    output = where.run(read_command(name), check=False)
    lines = last_lines(output.stdout + output.stderr, LOG_LINES)
    return ["last lines of the container's log:", *(f"  {line}" for line in lines)] if lines else []
