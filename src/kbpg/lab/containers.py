"""How one lab host is run: arguments of `docker run`, and the privileges that this machine can give."""

from __future__ import annotations

from kbpg.lab.docker import DockerError, docker
from kbpg.lab.layout import DIRECTORY_LABEL, LABEL, NETWORK, ROLE_LABEL, LabHost

# What a Docker daemon inside a container needs where `--privileged` is refused, because the daemon outside
# lacks some capability itself. CAP_SYS_TIME is not there on purpose: the hosts share this machine's clock.
CAPABILITIES = (
    "AUDIT_CONTROL", "DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "NET_ADMIN",
    "NET_BROADCAST", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO",
    "SYS_TTY_CONFIG", "SYSLOG",
)  # fmt: skip
UNCONFINED = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")
# Seconds a host gets to stop its containers and its daemon before `docker restart` cuts the power.
SHUTDOWN_SECONDS = 30


def privileges(image: str) -> list[str]:
    """Return what lets `image` run a Docker daemon, after one try of what this machine allows."""
    try:
        docker("run", "--rm", "--privileged", "--network", "none", "--entrypoint", "true", image)
    except DockerError:
        return capability_arguments(docker("info", "--format", "{{.CgroupVersion}}"))
    return ["--privileged"]


def capability_arguments(cgroup_version: str) -> list[str]:
    """Return the arguments that stand in for `--privileged`; `cgroup_version` is `1` or `2`."""
    arguments = [f"--cap-add={name}" for name in CAPABILITIES]
    arguments += [f"--security-opt={option}" for option in UNCONFINED]
    if cgroup_version == "1":
        arguments.append("--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw")
    return arguments


def run_arguments(
    host: LabHost, image: str, lab: str, directory: str, public_key: str, privileged: list[str]
) -> list[str]:
    """Return the arguments of `docker` that create and start `host`."""
    return [
        "run", "--detach",
        "--name", host.container,
        "--hostname", host.name,
        "--label", f"{LABEL}={lab}",
        "--label", f"{DIRECTORY_LABEL}={directory}",
        "--label", f"{ROLE_LABEL}={host.role}",
        "--network", NETWORK,
        "--ip", host.address,
        # A stale pid file there keeps dockerd from starting after a power cut.
        "--tmpfs", "/run:exec,mode=755",
        # Anonymous: overlay cannot sit on overlay.
        "--volume", "/var/lib/docker",
        "--stop-timeout", str(SHUTDOWN_SECONDS),
        "--env", f"KBPG_AUTHORIZED_KEY={public_key}",
        *privileged,
        image,
    ]  # fmt: skip
