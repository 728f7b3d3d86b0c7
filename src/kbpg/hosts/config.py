"""Where a connection goes and with what: the inventory's settings, completed from `~/.ssh/config`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kbpg.errors import Unreachable
from kbpg.home import expanded, home
from kbpg.hosts.lean import paramiko
from kbpg.hosts.settings import SshSettings

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The key files ssh(1) tries by itself, without the types paramiko cannot use."""

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Target:
    """One SSH server to log in to, everything decided.

    `known_hosts[0]` is the file that learns new keys; `key_name` the name the host has in it. `pinned` are the
    fingerprints of the only host keys that are taken; where there are none, known_hosts says which are.
    """

    name: str
    host: str
    port: int
    user: str
    key: Path | None
    more_keys: tuple[Path, ...]
    agent: bool
    jumps: tuple[str, ...]
    known_hosts: tuple[Path, ...]
    key_name: str
    connect_timeout: float
    sudo: bool
    pinned: tuple[str, ...]

    @property
    def where(self) -> str:
        """Return `host:port`, as messages show it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def resolve(name: str, address: str, settings: SshSettings) -> Target:
    """Return where and how to reach the host `name`.

    What the inventory leaves open comes from `~/.ssh/config`, looked up under `ssh.host` if that is stated,
    else under `name` and then `address`; then from defaults: port 22, root, `~/.ssh/known_hosts`. Raises
    `Unreachable` for a configuration that cannot be honoured.
    """
    options = _options(name, (settings.host,) if settings.host else (name, address))
    host = _text(options, "hostname") or settings.host or address
    port = settings.port or _port(name, _text(options, "port") or "22")
    configured = tuple(expanded(key) for key in _list(options, "identityfile"))
    defaults = tuple(path for key in DEFAULT_KEYS for path in _own(key) if path.is_file())
    return Target(
        name=name,
        host=host,
        port=port,
        user=settings.user or _text(options, "user") or "root",
        key=settings.key,
        more_keys=() if settings.key else configured or defaults,
        agent=settings.key is not None or _text(options, "identitiesonly") != "yes",
        jumps=_jumps(name, settings, options),
        known_hosts=_known_hosts(settings, options),
        key_name=_key_name(_text(options, "hostkeyalias") or host, port),
        connect_timeout=settings.connect_timeout,
        sudo=settings.sudo,
        pinned=settings.fingerprints,
    )


@dataclass(frozen=True)
class _JumpSettings:
    """The settings of a jump host: its own place and user, the target's key, files and timeout."""

    host: str
    port: int | None
    user: str | None
    key: Path | None
    known_hosts: Path | None
    connect_timeout: float
    fingerprints: tuple[str, ...]
    jump: str | None = None
    sudo: bool = False
    jump_fingerprints: tuple[str, ...] = ()


def resolve_jump(target: Target, jump: str, settings: SshSettings) -> Target:
    """Return where `target`'s jump host `[user@]host[:port]` is; key, files and timeout are the target's."""
    user, _, place = jump.rpartition("@")
    host, port = _split(target.name, place)
    own = _JumpSettings(
        host=host,
        port=port,
        user=user or None,
        key=settings.key,
        known_hosts=settings.known_hosts,
        connect_timeout=settings.connect_timeout,
        fingerprints=settings.jump_fingerprints,
    )
    # Its own ProxyJump is not followed: the chain is spelled out where it begins.
    return replace(resolve(f"{target.name}: jump host {host}", host, own), jumps=())


def _split(name: str, place: str) -> tuple[str, int | None]:
    """Return the host and the port of `host`, `host:port`, `[v6]` or `[v6]:port`."""
    bracketed, _, rest = place.rpartition("]")
    if bracketed:
        return bracketed.lstrip("["), _port(name, rest[1:]) if rest.startswith(":") else None
    host, colon, port = place.rpartition(":")
    return (host, _port(name, port)) if colon and ":" not in host else (place, None)


def _port(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise Unreachable(name, f"not a port: {text}", hint="check Port and ProxyJump in ~/.ssh/config")
    return int(text)


def _options(name: str, aliases: tuple[str, ...]) -> Options:
    path = next(iter(_own("config")), None)
    if path is None or not path.is_file():
        return {}
    try:
        config = paramiko.SSHConfig.from_path(str(path))
        found = [(alias, config.lookup(alias)) for alias in aliases]
    except KeyError as exc:
        # paramiko asks for it, whether the file does or not
        hint = "set USER in the environment"
        raise Unreachable(name, f"{path} cannot be used: the user has no name", hint=hint) from exc
    except (OSError, UnicodeDecodeError, paramiko.ConfigParseError) as exc:
        raise Unreachable(name, f"{path} cannot be used: {exc}") from exc
    merged: Options = {}
    for alias, said in found:
        for option, value in said.items():
            if option != "hostname" or value != alias:
                merged.setdefault(option, value)
    return merged


def _own(name: str) -> tuple[Path, ...]:
    """Return the file of that name in ~/.ssh, nothing where there is no home directory."""
    directory = home()
    return (directory / ".ssh" / name,) if directory else ()


def _text(options: Options, name: str) -> str | None:
    value = options.get(name)
    return value if isinstance(value, str) else None


def _list(options: Options, name: str) -> list[str]:
    value = options.get(name, [])
    return [value] if isinstance(value, str) else value


def _jumps(name: str, settings: SshSettings, options: Options) -> tuple[str, ...]:
    if settings.jump:
        return (settings.jump,)
    chain = _text(options, "proxyjump")
    if chain and chain.lower() != "none":
        return tuple(hop.strip().removeprefix("ssh://") for hop in chain.split(","))
    if not chain and (_text(options, "proxycommand") or "none") != "none":
        raise Unreachable(
            name,
            "~/.ssh/config has a ProxyCommand for it, which kbpg does not run",
            hint="use ProxyJump there, or `ssh.jump` in the inventory",
        )
    return ()


def _known_hosts(settings: SshSettings, options: Options) -> tuple[Path, ...]:
    if settings.known_hosts:
        return (settings.known_hosts,)
    stated = (_text(options, "userknownhostsfile") or "").split()
    own = [expanded(path) for path in stated if path != "none"]
    return (*(own or _own("known_hosts")), SYSTEM_KNOWN_HOSTS)


def _key_name(host: str, port: int) -> str:
    # The notation of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"
