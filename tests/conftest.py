"""For all tests: no test reaches the network, but for this machine and, where marked, the running lab."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import hypothesis
import pytest
from pytest_socket import socket_allow_hosts

# How long one example takes says how busy the machine is, not whether the code is right
hypothesis.settings.register_profile("kbpg", deadline=None)
hypothesis.settings.load_profile("kbpg")

LOOPBACK = ("127.0.0.1", "::1")
LAB = Path(os.environ.get("KBPG_LAB") or Path(__file__).parents[1] / ".lab")
"""The directory of the lab that tests marked `lab` use."""


@functools.cache
def lab_addresses() -> tuple[str, ...]:
    """Return the addresses of the running lab hosts; a host that does not run is never dialled."""
    from kbpg.lab import running_addresses

    return tuple(running_addresses(LAB))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the test connect where it may. This holds for Python's sockets; libpq is only ever given 127.0.0.1."""
    more = lab_addresses() if item.get_closest_marker("lab") else ()
    socket_allow_hosts([*LOOPBACK, *more], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch, surroundings: Path) -> None:
    """Give every test the same surroundings: no settings of whoever runs it, a terminal 80 columns wide, Ctrl-C.

    What a shell without job control runs in the background ignores SIGINT, and so do its children: a watch that a
    test interrupts would go on for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("KBPG_INVENTORY", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(surroundings))


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for caches, which is this run's alone."""
    directory = tmp_path_factory.mktemp("cache")
    directory.chmod(0o700)
    return directory


@pytest.fixture(scope="session")
def lab_inventory() -> Path:
    """The inventory of the running lab."""
    if len(lab_addresses()) < 5:
        pytest.fail("the lab does not run: kbpg lab up", pytrace=False)
    return LAB / "inventory.yaml"
