"""Logging in with a public key: the one the inventory names, the agent's, or those ssh(1) would try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kbpg.errors import AccessDenied, ConnectionLost
from kbpg.home import expanded
from kbpg.hosts.agent import AgentKey, agent_keys
from kbpg.hosts.lean import UnknownKeyType, paramiko

if TYPE_CHECKING:
    from kbpg.hosts.config import Target

MAX_ATTEMPTS = 5
"""Keys tried on one connection: sshd closes it after MaxAuthTries, 6 by default (sshd_config(5))."""


class _Candidates:
    """The keys to try, in order, loaded only when their turn comes; and why some could not be tried."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.tried: list[str] = []
        self.unusable: list[str] = []
        self._locked: list[Path] = []

    def __iter__(self) -> Iterator[paramiko.PKey]:
        target = self._target
        paths = (target.key,) if target.key else target.more_keys
        if target.key:
            yield from self._from_files(paths)
            yield from self._from_agent()
        else:
            yield from self._from_agent()
            yield from self._from_files(paths)
        for path in self._locked:
            self.unusable.append(f"{path} is encrypted and no agent offered it")

    def _from_files(self, paths: tuple[Path, ...]) -> Iterator[paramiko.PKey]:
        for path in paths:
            try:
                key = paramiko.PKey.from_path(expanded(path))
            except paramiko.PasswordRequiredException:
                self._locked.append(path)
            except TypeError:
                # cryptography's word for "encrypted, and no password given".
                self._locked.append(path)
            except OSError as exc:
                self.unusable.append(f"{path}: {exc.strerror}")
            except (ValueError, paramiko.SSHException, UnknownKeyType):
                self.unusable.append(f"{path} is not a private key that can be read")
            else:
                if key.public_blob is not None:
                    # KEY-cert.pub is beside it. Like ssh, the bare key comes after it: that may be authorized
                    self.tried.append(f"{path} with its certificate")
                    yield key
                    key.public_blob = None
                self.tried.append(str(path))
                yield key

    def _from_agent(self) -> Iterator[paramiko.PKey]:
        if not self._target.agent:
            return
        for key in agent_keys(self._target.connect_timeout, self.unusable.append):
            self.tried.append(key.text())
            yield key

    @property
    def locked(self) -> tuple[Path, ...]:
        """Return the key files that are encrypted."""
        return tuple(self._locked)


def log_in(transport: paramiko.Transport, target: Target) -> None:
    """Authenticate `transport` as the target's user.

    Raises `AccessDenied`, saying which keys were tried, or `ConnectionLost`.
    """
    candidates = _Candidates(target)
    for key in candidates:
        # The agent's time to sign is not the host's
        transport.auth_timeout = target.connect_timeout * (2 if isinstance(key, AgentKey) else 1)
        try:
            if transport.auth_publickey(target.user, key) == []:
                return
        except paramiko.BadAuthenticationType as exc:
            raise AccessDenied(
                target.name,
                f"{target.where} accepts no key from {target.user}, only {', '.join(exc.allowed_types)}",
                hint=f"allow PubkeyAuthentication for {target.user} in its sshd_config",
            ) from exc
        except paramiko.AuthenticationException:
            if not transport.is_active():
                break
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise ConnectionLost(target.name, f"{target.where} closed the connection at the login") from exc
        if len(candidates.tried) >= MAX_ATTEMPTS:
            break
    raise _denied(target, candidates)


def _denied(target: Target, candidates: _Candidates) -> AccessDenied:
    tried = [f"refused: {key}" for key in candidates.tried]
    if candidates.locked and not candidates.tried:
        hint = f"ssh-add {candidates.locked[0]}"
    elif not candidates.tried:
        hint = "set `ssh.key` in the inventory, or start an agent and `ssh-add` a key"
    else:
        hint = f"ssh-copy-id -p {target.port} {target.user}@{target.host}, or set `ssh.user` and `ssh.key`"
    return AccessDenied(
        target.name,
        f"{target.where} refused the login as {target.user}",
        detail=(*tried, *candidates.unusable),
        hint=hint,
    )
