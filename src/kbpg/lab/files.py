"""The files of a lab directory: the key, known_hosts and the inventory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kbpg.hosts.by_hand import as_option
from kbpg.lab.builds import BuildSettings
from kbpg.lab.layout import LabHost
from kbpg.lab.templates import lab_templates
from kbpg.render import yaml

KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"
INVENTORY = "inventory.yaml"
CREDENTIALS = "credentials"


def ensure_key(directory: Path) -> str:
    """Create the lab's key pair where it is missing, and return the public key's line."""
    # 0.1 s to load, and `lab status` does without.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = directory / KEY, directory / f"{KEY}.pub"
    if not (private.exists() and public.exists()):
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        write(private, pem.decode(), mode=0o600)
        write(public, f"{line.decode()} kbpg-lab\n", mode=0o644)
    return public.read_text().strip()


def known_hosts(keys: Mapping[str, str]) -> str:
    """Return known_hosts for `keys`, which maps addresses to public host key lines."""
    return "".join(f"{address} {' '.join(keys[address].split()[:2])}\n" for address in keys)


def render_inventory(hosts: Iterable[LabHost], build: BuildSettings) -> str:
    """Return the lab's inventory: hosts of role `extra` are not in it."""
    placed = list(hosts)
    environment = Environment(
        loader=FileSystemLoader(lab_templates()),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, and every free text goes through the filter yaml
    )
    environment.filters["yaml"] = yaml
    return environment.get_template(f"{INVENTORY}.j2").render(
        db=[host for host in placed if host.role == "db"],
        proxies=[host for host in placed if host.role == "proxy"],
        build=build,
    )


def write(path: Path, text: str, mode: int) -> None:
    """Write a file atomically with `mode`."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


def remove_facts(directory: Path) -> None:
    """Remove what is untrue once the hosts are gone: inventory, host keys, credentials. The key stays."""
    for name in (INVENTORY, KNOWN_HOSTS):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / CREDENTIALS, ignore_errors=True)


def ssh_arguments(directory: Path, address: str, command: Iterable[str]) -> list[str]:
    """Return the command that logs in to a lab host as root with the lab's key and host keys."""
    return [
        "ssh",
        "-i", str(directory / KEY),
        "-o", "IdentitiesOnly=yes",
        "-o", f"UserKnownHostsFile={as_option(directory / KNOWN_HOSTS)}",
        "-o", "StrictHostKeyChecking=yes",
        f"root@{address}",
        *command,
    ]  # fmt: skip
