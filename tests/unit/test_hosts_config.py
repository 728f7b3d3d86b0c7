"""Where SSH goes: the inventory's settings, completed from ~/.ssh/config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kbpg.errors import Unreachable
from kbpg.hosts.config import resolve, resolve_jump


@dataclass(frozen=True)
class Settings:
    host: str | None = None
    port: int | None = None
    user: str | None = None
    key: Path | None = None
    jump: str | None = None
    known_hosts: Path | None = None
    connect_timeout: float = 10.0
    sudo: bool = True
    fingerprints: tuple[str, ...] = ()
    jump_fingerprints: tuple[str, ...] = ()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def config(home: Path, text: str) -> None:
    (home / ".ssh" / "config").write_text(text)


def test_a_jump_host_has_its_own_fingerprints(home: Path) -> None:
    settings = Settings(fingerprints=("SHA256:host",), jump="gate", jump_fingerprints=("SHA256:gate",))
    target = resolve("db-1", "127.0.0.5", settings)
    assert target.pinned == ("SHA256:host",)
    assert resolve_jump(target, "gate", settings).pinned == ("SHA256:gate",)
    assert resolve_jump(target, "gate", Settings(fingerprints=("SHA256:host",))).pinned == ()


def test_without_a_configuration_the_defaults_hold(home: Path) -> None:
    (home / ".ssh" / "id_rsa").touch()
    target = resolve("db-1", "127.0.0.5", Settings())
    assert (target.where, target.user, target.key, target.jumps) == ("127.0.0.5:22", "root", None, ())
    assert target.more_keys == (home / ".ssh" / "id_rsa",)
    assert target.known_hosts == (home / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts"))
    assert (target.key_name, target.agent) == ("127.0.0.5", True)


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "Host db-1\n HostName 127.0.0.9\n", {"host": "127.0.0.9"}),
        ({}, "Host 127.0.0.5\n Port 2222\n", {"port": 2222, "key_name": "[127.0.0.5]:2222"}),
        ({}, "Host db-1\n Port 1\nHost 127.0.0.5\n Port 2\n User ops\n", {"port": 1, "user": "ops"}),
        ({}, "Host other\n Port 2222\n", {"port": 22}),
        (
            {"host": "gate"},
            "Host gate\n HostName 127.0.0.9\nHost db-1\n Port 1\n",
            {"host": "127.0.0.9", "port": 22},
        ),
        ({"port": 23, "user": "me"}, "Host *\n Port 2222\n User ops\n", {"port": 23, "user": "me"}),
        ({}, "Host *\n IdentityFile /k\n IdentitiesOnly yes\n", {"more_keys": (Path("/k"),), "agent": False}),
        ({"key": Path("/mine")}, "Host *\n IdentityFile /k\n", {"key": Path("/mine"), "more_keys": ()}),
        ({}, "Host *\n ProxyJump a,ops@b:24\n", {"jumps": ("a", "ops@b:24")}),
        ({}, "Host *\n ProxyJump none\n", {"jumps": ()}),
        ({"jump": "ops@c"}, "Host *\n ProxyJump a\n", {"jumps": ("ops@c",)}),
        ({"jump": "ops@c"}, "Host *\n ProxyCommand nc %h %p\n", {"jumps": ("ops@c",)}),
        ({}, "Host *\n HostKeyAlias Alias\n", {"key_name": "alias"}),
        ({"known_hosts": Path("/kh")}, "Host *\n UserKnownHostsFile /x\n", {"known_hosts": (Path("/kh"),)}),
        ({}, "Match host db-1 exec true\n Port 99\n", {"port": 99}),
        ({}, "Match exec false\n Port 99\n", {"port": 22}),
    ],
)
def test_what_the_inventory_leaves_open_is_looked_up(
    home: Path, settings: dict[str, Any], text: str, expected: dict[str, Any]
) -> None:
    config(home, text)
    target = resolve("db-1", "127.0.0.5", Settings(**settings))
    assert {name: getattr(target, name) for name in expected} == expected


def test_known_hosts_files_of_the_configuration_come_before_the_system_s(home: Path) -> None:
    config(home, "Host *\n UserKnownHostsFile ~/one /two\n")
    known = resolve("db-1", "127.0.0.5", Settings()).known_hosts
    assert known == (home / "one", Path("/two"), Path("/etc/ssh/ssh_known_hosts"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Host *\n ProxyCommand nc %h %p\n", "ProxyCommand"),
        ("Host *\n Port many\n", "not a port: many"),
        ("nonsense\n", "cannot be used"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_an_error(home: Path, text: str, said: str) -> None:
    config(home, text)
    with pytest.raises(Unreachable, match=said) as caught:
        resolve("db-1", "127.0.0.5", Settings())
    assert caught.value.host == "db-1"


@pytest.mark.parametrize(
    ("jump", "where", "user"),
    [
        ("gate", "gate:22", "root"),
        ("ops@gate:2222", "gate:2222", "ops"),
        ("ops@[::1]:2222", "[::1]:2222", "ops"),
        ("[::1]", "[::1]:22", "root"),
        ("::1", "[::1]:22", "root"),
    ],
)
def test_a_jump_host_has_its_own_place_and_the_target_s_key(
    home: Path, jump: str, where: str, user: str
) -> None:
    settings = Settings(key=Path("/key"), known_hosts=Path("/kh"), user="deploy", port=99)
    hop = resolve_jump(resolve("db-1", "127.0.0.5", settings), jump, settings)
    assert (hop.where, hop.user, hop.key, hop.known_hosts) == (where, user, Path("/key"), (Path("/kh"),))
    assert hop.name.startswith("db-1: jump host ")


def test_a_jump_host_is_looked_up_too(home: Path) -> None:
    config(home, "Host gate\n HostName 127.0.0.8\n User ops\n ProxyJump elsewhere\n")
    hop = resolve_jump(resolve("db-1", "127.0.0.5", Settings()), "gate", Settings())
    assert (hop.where, hop.user, hop.jumps) == ("127.0.0.8:22", "ops", ())
