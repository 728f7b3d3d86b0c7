"""Where a connection goes and with what: the inventory's settings, completed from `~/.ssh/config`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kbpg.errors import Unreachable
from kbpg.hosts.lean import paramiko, with_match_exec
from kbpg.hosts.settings import SshSettings

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The key files ssh(1) tries by itself, without the types paramiko cannot use."""

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Target:
    """One SSH server to log in to, everything decided.

    `known_hosts[0]` is the file that learns new keys; `key_name` the name the host has in it.
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

    @property
    def where(self) -> str:
        """Return `host:port`, as messages show it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def resolve(name: str, address: str, settings: SshSettings) -> Target:
    """Return where and how to reach the host `name`.

    What the inventory does not state comes from `~/.ssh/config`, looked up under `ssh.host` if that is
    stated, else under `name` and then `address`; then from the inventory's defaults. Raises `Unreachable`
    for a configuration that cannot be honoured.
    """
    given = settings.given
    options = _options(name, (settings.host,) if "host" in given else (name, address))
    host = _text(options, "hostname") or settings.host or address
    port = settings.port if "port" in given else int(_text(options, "port") or settings.port)
    configured = tuple(Path(key).expanduser() for key in _list(options, "identityfile"))
    defaults = tuple(path for key in DEFAULT_KEYS if (path := Path.home() / ".ssh" / key).is_file())
    return Target(
        name=name,
        host=host,
        port=port,
        user=settings.user if "user" in given else _text(options, "user") or settings.user,
        key=settings.key,
        more_keys=() if settings.key else configured or defaults,
        agent=settings.key is not None or _text(options, "identitiesonly") != "yes",
        jumps=_jumps(name, settings, options),
        known_hosts=_known_hosts(settings, options),
        key_name=_key_name(_text(options, "hostkeyalias") or host, port),
        connect_timeout=settings.connect_timeout,
        sudo=settings.sudo,
    )


@dataclass(frozen=True)
class _JumpSettings:
    """The settings of a jump host: its own place and user, the target's keys and files."""

    host: str
    port: int
    user: str
    key: Path | None
    known_hosts: Path
    connect_timeout: float
    given: frozenset[str]
    jump: str | None = None
    sudo: bool = False


def resolve_jump(target: Target, jump: str, settings: SshSettings) -> Target:
    """Return where `target`'s jump host `[user@]host[:port]` is; key, files and timeout are the target's."""
    user, _, place = jump.rpartition("@")
    host, port = _split(place)
    stated = {"host", *(["user"] if user else []), *(["port"] if port else [])}
    own = _JumpSettings(
        host=host,
        port=port or 22,
        user=user or target.user,
        key=settings.key,
        known_hosts=settings.known_hosts,
        connect_timeout=settings.connect_timeout,
        given=frozenset(stated | (settings.given & {"key", "known_hosts"})),
    )
    return resolve(f"{target.name}: jump host {host}", host, own)


def _split(place: str) -> tuple[str, int | None]:
    bracketed, _, rest = place.rpartition("]")
    if bracketed:
        return bracketed.lstrip("["), int(rest[1:]) if rest.startswith(":") else None
    host, colon, port = place.rpartition(":")
    return (host, int(port)) if colon and ":" not in host else (place, None)


def _options(name: str, aliases: tuple[str, ...]) -> Options:
    path = Path.home() / ".ssh" / "config"
    if not path.is_file():
        return {}
    try:
        config = paramiko.SSHConfig.from_path(str(path))
    except (OSError, UnicodeDecodeError, paramiko.ConfigParseError) as exc:
        raise Unreachable(name, f"{path} cannot be used: {exc}") from exc
    merged: Options = {}
    for alias in aliases:
        for option, value in _lookup(config, alias).items():
            if option != "hostname" or value != alias:
                merged.setdefault(option, value)
    return merged


def _lookup(config: paramiko.SSHConfig, alias: str) -> Options:
    try:
        return dict(config.lookup(alias))
    except ImportError:
        with_match_exec()
        return dict(config.lookup(alias))


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
    if "known_hosts" in settings.given:
        return (settings.known_hosts,)
    own = [Path(path).expanduser() for path in (_text(options, "userknownhostsfile") or "").split()]
    return (*(own or [settings.known_hosts]), SYSTEM_KNOWN_HOSTS)


def _key_name(host: str, port: int) -> str:
    # The notation of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"
