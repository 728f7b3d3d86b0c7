"""Programs that crash or freeze: signals to them, inside their containers or from their host."""

from __future__ import annotations

from kbpg.hosts.port import Writer
from kbpg.layout import PATRONI
from kbpg.operations.patroni_process import CRASH, FREEZE

_POSTMASTER = 'kill -KILL "$(head -n 1 "$PGDATA/postmaster.pid")"'


def crash_postmaster(host: Writer) -> None:
    """Kill PostgreSQL's first process on a db host. Raises `HostError`."""
    _inside(host, _POSTMASTER)


def crash_patroni(host: Writer) -> None:
    """Kill Patroni on a db host; its container ends with it. Raises `HostError`."""
    # The shell may die with the container before it can say how it ended
    host.run(["docker", "exec", PATRONI, "sh", "-c", CRASH], check=False)


def freeze_patroni(host: Writer) -> None:
    """Stop Patroni on a db host, without ending it: it does nothing and answers nobody. Raises `HostError`."""
    _inside(host, FREEZE)


def crash_container(host: Writer, name: str) -> None:
    """Kill a container's first process from the host, so that Docker takes it for a crash. Raises `HostError`."""
    host.run(
        ["sh", "-c", 'kill -KILL "$(docker inspect --format "{{.State.Pid}}" "$1")"', "kbpg-drill", name]
    )


def _inside(host: Writer, script: str) -> None:
    host.run(["docker", "exec", PATRONI, "sh", "-c", script])
