"""The files of a lab directory."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import paramiko
import yaml

from kbpg.inventory import load
from kbpg.lab.builds import BuildSettings
from kbpg.lab.files import ensure_key, known_hosts, remove_facts, render_inventory, ssh_arguments, write
from kbpg.lab.layout import hosts

HOSTS = hosts(IPv4Network("172.29.77.0/24"), ["spare-01"])
PLAIN = BuildSettings()
FULL = BuildSettings(
    ca_bundle="/etc/ssl/own: #1.pem", args={"PIP_CERT": "/etc/ssl/own.pem", "A": "it's"}, wheels="/tmp/w h"
)


def test_the_inventory_has_the_five_hosts_and_what_sharing_a_machine_asks_for() -> None:
    assert yaml.safe_load(render_inventory(HOSTS, PLAIN)) == {
        "cluster": {"name": "keybuzz", "database": "keybuzz"},
        "credentials": "credentials/postgres.env",
        "ssh": {"user": "root", "key": "id_ed25519", "known_hosts": "known_hosts"},
        "prepare": {"sysctls": "report", "clock": "report", "install_docker": False},
        "postgresql": {"memory": "1GB"},
        "build": {"network": "host"},
        "db": [
            {"name": "db-master-01", "address": "172.29.77.120"},
            {"name": "db-slave-01", "address": "172.29.77.121"},
            {"name": "db-slave-02", "address": "172.29.77.122"},
        ],
        "proxies": [
            {"name": "haproxy-01", "address": "172.29.77.11"},
            {"name": "haproxy-02", "address": "172.29.77.12"},
        ],
    }


def test_build_settings_survive_the_way_through_yaml() -> None:
    assert yaml.safe_load(render_inventory(HOSTS, FULL))["build"] == {
        "network": "host",
        "ca_bundle": "/etc/ssl/own: #1.pem",
        "args": {"PIP_CERT": "/etc/ssl/own.pem", "A": "it's"},
        "wheels": "/tmp/w h",
    }


def test_kbpg_reads_the_inventory(tmp_path: Path) -> None:
    for settings in (PLAIN, FULL):
        (tmp_path / "inventory.yaml").write_text(render_inventory(HOSTS, settings))
        inventory = load(tmp_path / "inventory.yaml")
        assert [host.address for host in inventory.db] == ["172.29.77.120", "172.29.77.121", "172.29.77.122"]


def test_known_hosts_name_addresses_and_drop_comments() -> None:
    assert known_hosts({"172.29.77.120": "ssh-ed25519 AAAA root@db-master-01"}) == (
        "172.29.77.120 ssh-ed25519 AAAA\n"
    )


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    line = ensure_key(tmp_path)
    private = tmp_path / "id_ed25519"
    key = paramiko.Ed25519Key.from_private_key_file(str(private))
    assert line.split()[:2] == ["ssh-ed25519", key.get_base64()]
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes()
    assert ensure_key(tmp_path) == line
    assert private.read_bytes() == before


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "known_hosts"
    target.write_text("old")
    target.chmod(0o644)
    write(target, "new", mode=0o600)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["known_hosts"]


def test_down_keeps_the_key_and_removes_what_is_untrue(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    (tmp_path / "credentials").mkdir()
    for name in ("inventory.yaml", "known_hosts", "credentials/postgres.env"):
        (tmp_path / name).write_text("")
    remove_facts(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    remove_facts(tmp_path)


def test_ssh_uses_the_lab_s_key_and_host_keys_alone() -> None:
    assert ssh_arguments(Path(".lab"), "172.29.77.11", ["docker", "ps"]) == [
        "ssh", "-i", ".lab/id_ed25519", "-o", "IdentitiesOnly=yes",
        "-o", "UserKnownHostsFile=.lab/known_hosts", "-o", "StrictHostKeyChecking=yes",
        "root@172.29.77.11", "docker", "ps",
    ]  # fmt: skip
