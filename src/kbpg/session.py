"""All that a command needs, opened: inventory, credentials, journal, a connection to every host, the lock.

The order is a promise: inventory and credentials are checked before the first connection is opened, so a
mistake in them touches nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import shlex
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kbpg.context import Context
from kbpg.credentials import Found, all_secrets, check_users, complete, generate
from kbpg.credentials import load as load_credentials
from kbpg.engine.journal import Journal
from kbpg.engine.redactor import Redactor
from kbpg.errors import CredentialsError, HostError, KbpgError
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Writer
from kbpg.hosts.settings import Ask, Recorder
from kbpg.inventory import Inventory, load

if TYPE_CHECKING:
    from kbpg.engine.lock import Locks
    from kbpg.hosts.ssh import SshHost
    from kbpg.options import Options


@dataclass
class Session:
    """What is open. `hosts` lacks the `unreachable` ones; `found` is the credentials file, if there is one."""

    context: Context
    found: Found | None
    hosts: Mapping[str, Writer]
    controller: Writer
    journal: Recorder
    unreachable: Mapping[str, HostError] = field(default_factory=dict)


class Watcher(Protocol):
    """Who is told of each command that ran on a host, already masked."""

    def command(self, host: str, command: str, status: int | str, seconds: float) -> None:
        """A command ended: its exit status, or the reason why there is none, and its seconds."""
        ...


def read_context(options: Options, *, credentials_exist: bool = False) -> tuple[Context, Found | None]:
    """Read inventory and credentials; no host is contacted and nothing is written.

    Where there is no credentials file, or an incomplete one, passwords are generated in memory, unless
    `credentials_exist` says that this would be no use. Raises `InputError`.
    """
    inventory = load(options.inventory)
    for name in sorted(options.limit):
        inventory.host(name)
    cluster = inventory.cluster
    found = load_credentials(inventory.credentials_path)
    if found:
        check_users(found, superuser=cluster.superuser, app_user=cluster.app_user)
    if credentials_exist and (found is None or found.missing):
        what = f"{', '.join(found.missing)} missing" if found else "no such file"
        raise CredentialsError(f"{inventory.credentials_path}: {what}", hint="run kbpg step 00 first")
    return Context(
        inventory, complete(found) if found else generate(cluster.superuser, cluster.app_user)
    ), found


@contextlib.contextmanager
def open_session(
    options: Options,
    *,
    doing: str,
    lock: bool,
    partial: bool = False,
    credentials_exist: bool = False,
    watcher: Watcher | None = None,
    ask: Ask | None = None,
) -> Iterator[Session]:
    """Open everything for `doing` (the command, as others are told who holds the lock).

    With `partial` a host that cannot be reached is left out; one that `--limit` does not name always is.
    `ask` is asked whether an unknown host key is to be trusted; without it, it is not, unless the options
    say so. Raises `InputError` before any connection is opened, then `KbpgError` with every host's problem.
    """
    context, found = read_context(options, credentials_exist=credentials_exist)
    with ExitStack() as stack:
        redactor = Redactor(all_secrets(context.credentials))
        journal = stack.enter_context(Journal(options.state / "journal", doing, redactor))
        options.mask = journal.mask
        recorder = _Watched(journal, watcher) if watcher else journal
        hosts, unreachable = _connect_all(context.inventory, options, recorder, ask, stack)
        if not partial:
            _refuse(unreachable, options.limit)
        stack.enter_context(_interruptible(list(hosts.values())))
        if lock:
            stack.enter_context(_locked(hosts.values(), doing))
        yield Session(context, found, hosts, LocalHost(recorder), recorder, unreachable)


def _locked(hosts: Iterable[SshHost], doing: str) -> AbstractContextManager[Locks]:
    from kbpg.engine.lock import Locks

    return Locks.acquire(hosts, who=f"{getpass.getuser()}@{socket.gethostname()}", doing=doing)


# --- connections -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    """The inventory's SSH settings of one host, as `kbpg.hosts` wants them: defaults filled in."""

    host: str
    port: int
    user: str
    key: Path | None
    jump: str | None
    known_hosts: Path
    connect_timeout: float
    sudo: bool
    given: frozenset[str]


def _settings(inventory: Inventory, name: str) -> _Settings:
    host = inventory.host(name)
    ssh = inventory.ssh_for(host)
    names = ("host", "port", "user", "key", "jump", "known_hosts")
    return _Settings(
        host=ssh.host or str(host.address),
        port=ssh.port or 22,
        user=ssh.user or "root",
        key=ssh.key,
        jump=ssh.jump,
        known_hosts=ssh.known_hosts or Path.home() / ".ssh" / "known_hosts",
        connect_timeout=ssh.connect_timeout,
        sudo=ssh.sudo,
        given=frozenset(name for name in names if getattr(ssh, name) is not None),
    )


def _connect_all(
    inventory: Inventory, options: Options, journal: Recorder, ask: Ask | None, stack: ExitStack
) -> tuple[dict[str, SshHost], dict[str, HostError]]:
    """Connect to every host side by side; return those that answered, and the others' errors."""
    from kbpg.hosts.ssh import connect  # after the inventory is known to be right: paramiko is 0.1 s

    def attempt(name: str, address: str) -> SshHost | HostError:
        try:
            return connect(
                name,
                address,
                _settings(inventory, name),
                journal=journal,
                ask=ask,
                accept_new=options.accept_new_host_keys,
            )
        except HostError as error:
            return error

    names = [host.name for host in inventory.hosts]
    addresses = [str(host.address) for host in inventory.hosts]
    hosts: dict[str, SshHost] = {}
    errors: dict[str, HostError] = {}
    with ThreadPoolExecutor(len(names)) as pool:
        for name, result in zip(names, pool.map(attempt, names, addresses), strict=True):
            if isinstance(result, HostError):
                errors[name] = result
            else:
                hosts[name] = result
                stack.callback(result.close)
    return hosts, errors


def _refuse(unreachable: Mapping[str, HostError], limit: frozenset[str]) -> None:
    """Raise one error for all hosts that are needed and cannot be reached."""
    needed = [error for name, error in unreachable.items() if not limit or name in limit]
    if not needed:
        return
    if len(needed) == 1:
        raise needed[0]
    detail = [line for error in needed for line in (str(error), *(f"  {more}" for more in error.detail))]
    hints = list(dict.fromkeys(error.hint for error in needed if error.hint))
    raise KbpgError(f"{len(needed)} hosts cannot be used", detail=detail, hint="; ".join(hints) or None)


@contextlib.contextmanager
def _interruptible(hosts: Sequence[SshHost]) -> Iterator[None]:
    """Close the connections on Ctrl-C, so that threads that wait for a host end and the program can."""

    def close() -> None:
        for host in hosts:
            host.close()

    def interrupt(signum: int, frame: object) -> None:
        # In a thread: the interrupted one may hold a lock that closing needs
        threading.Thread(target=close, daemon=True).start()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Watched:
    """A recorder that also tells somebody who watches (`-v`)."""

    def __init__(self, journal: Recorder, watcher: Watcher) -> None:
        self._journal = journal
        self._watcher = watcher

    def record(
        self,
        host: str,
        command: Sequence[str],
        *,
        status: int | str,
        seconds: float,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        """Write down and show one command."""
        self._journal.record(host, command, status=status, seconds=seconds, sent=sent, received=received)
        self._watcher.command(host, self._journal.mask(shlex.join(command)), status, seconds)

    def mask(self, text: str) -> str:
        """Return `text` with every known secret masked."""
        return self._journal.mask(text)
