"""Commands to paste go where kbpg's own connection goes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_hosts_config import Settings, config, home

from kbpg.hosts.by_hand import ssh_command

__all__ = ["home"]


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "", "ssh root@127.0.0.5 true"),
        ({}, "Host db-1\n User ops\n", "ssh ops@127.0.0.5 'sudo true'"),
        ({"user": "root"}, "Host db-1\n User ops\n", "ssh root@127.0.0.5 true"),
        ({"user": "ops", "sudo": False}, "", "ssh ops@127.0.0.5 true"),
        ({}, "Host db-1\n HostName 127.0.0.9\n Port 2222\n", "ssh -p 2222 root@127.0.0.9 true"),
        ({"host": "127.0.0.9", "port": 23}, "", "ssh -p 23 root@127.0.0.9 true"),
        ({"key": Path("/a/key")}, "Host *\n IdentityFile /k\n", "ssh -i /a/key root@127.0.0.5 true"),
        ({}, "Host db-1\n IdentityFile /k\n", "ssh -i /k root@127.0.0.5 true"),
        ({}, "Host db-1\n ProxyJump ops@gate:23,inner\n", "ssh -J ops@gate:23,inner root@127.0.0.5 true"),
        ({"jump": "gate"}, "", "ssh -J gate root@127.0.0.5 true"),
        ({"known_hosts": Path("/a/k")}, "", "ssh -o UserKnownHostsFile=/a/k root@127.0.0.5 true"),
        ({}, "Host db-1\n HostKeyAlias one\n", "ssh -o HostKeyAlias=one root@127.0.0.5 true"),
        ({}, "Host db-1\n ProxyCommand nc gate 22\n", "ssh db-1 true"),
    ],
)
def test_what_the_inventory_leaves_open_comes_from_the_configuration(
    home: Path,
    settings: dict[str, Any],
    text: str,
    expected: str,
) -> None:
    config(home, text)
    assert ssh_command("db-1", "127.0.0.5", Settings(**settings), "true") == expected


def test_the_keys_that_ssh_tries_by_itself_are_left_to_it(home: Path) -> None:
    (home / ".ssh" / "id_rsa").touch()
    assert ssh_command("db-1", "127.0.0.5", Settings(), "true") == "ssh root@127.0.0.5 true"


def test_sudo_runs_all_of_a_command(home: Path) -> None:
    line = ssh_command("db-1", "127.0.0.5", Settings(user="ops"), "cd /x && rm 'a b'")
    assert shlex.split(shlex.split(line)[-1]) == ["sudo", "sh", "-c", "cd /x && rm 'a b'"]
