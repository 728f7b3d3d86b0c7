"""The command line that does by hand what kbpg does over SSH: to paste, so it goes where kbpg's connection goes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from kbpg.errors import KbpgError
from kbpg.home import home

if TYPE_CHECKING:
    from pathlib import Path

    from kbpg.hosts.config import Target
    from kbpg.hosts.settings import SshSettings


def ssh_command(name: str, address: str, settings: SshSettings, command: str) -> str:
    """Return an `ssh` that runs the shell command `command` as root on the host `name`.

    Like kbpg's own connection it takes what the inventory leaves open from ~/.ssh/config, where the host may stand
    under another name than the address that is dialled here: so all of it is spelled out.
    """
    from kbpg.hosts.config import DEFAULT_KEYS, resolve

    try:
        target = resolve(name, address, settings)
    except KbpgError:
        # A ~/.ssh/config that kbpg cannot use: ssh itself may
        return shlex.join(["ssh", name, command])
    words = ["ssh", *(("-p", str(target.port)) if target.port != 22 else ())]
    for key in [target.key] if target.key else target.more_keys:
        # ssh tries its default keys by itself
        words += ["-i", str(key)] if target.key or key.name not in DEFAULT_KEYS else []
    words += ["-J", ",".join(target.jumps)] if target.jumps else []
    words += _known_as(target)
    rights = "" if target.user == "root" or not target.sudo else "sudo "
    if rights and any(sign in command for sign in ("&", ";", "|", ">")):
        # sudo takes one command, the shell before it would run the rest
        command = shlex.join(["sh", "-c", command])
    return shlex.join([*words, f"{target.user}@{target.host}", rights + command])


def as_option(path: Path) -> str:
    """Return a path as one value of an option of ssh: it splits at spaces, and % is the start of a token."""
    text = str(path).replace("%", "%%")
    if not any(sign in text for sign in " \t\"'\\#"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _known_as(target: Target) -> list[str]:
    """Return the options for a file of known hosts, and a name in it, that ssh would not use by itself."""
    own, words = home(), list[str]()
    if own is None or target.known_hosts[0] != own / ".ssh" / "known_hosts":
        words += ["-o", f"UserKnownHostsFile={as_option(target.known_hosts[0])}"]
    alias = target.key_name.removeprefix("[").split("]")[0]
    return words if alias == target.host.lower() else [*words, "-o", f"HostKeyAlias={alias}"]
