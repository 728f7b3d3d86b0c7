"""All that a command needs, opened: inventory, credentials, journal, a connection to every host, the lock.

The order is a promise: inventory and credentials are checked before the first connection is opened, so a
mistake in them touches nothing.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from kbpg.amid import Amid, amid_rotation, tell_or_refuse
from kbpg.connecting import connect_all, refuse
from kbpg.context import Context
from kbpg.credentials import Found, all_secrets, check_users, complete, generate
from kbpg.credentials import load as load_credentials
from kbpg.drills.note import left
from kbpg.engine.journal import Journal, author
from kbpg.engine.redactor import Redactor
from kbpg.engine.unexpected import lost
from kbpg.errors import CredentialsError, HostError
from kbpg.home import user
from kbpg.hosts.local import LocalHost
from kbpg.hosts.port import Writer
from kbpg.hosts.settings import Ask, Recorder
from kbpg.inventory import load

if TYPE_CHECKING:
    from kbpg.hosts.ssh import SshHost
    from kbpg.options import Options
    from kbpg.secret import Secret


@dataclass
class Session:
    """What is open. `hosts` lacks the `unreachable` ones; `found` is the credentials file, if there is one.

    `unknown` are the passwords that neither the file nor a host told; None where nobody had to be asked. `learn`
    makes the journal know more secrets, before they are used.
    """

    context: Context
    found: Found | None
    hosts: Mapping[str, Writer]
    controller: Writer
    journal: Recorder
    unreachable: Mapping[str, HostError] = field(default_factory=dict)
    unknown: tuple[str, ...] | None = None
    learn: Callable[[Iterable[Secret]], None] = lambda secrets: None


Besides = Callable[[Context, Mapping[str, Writer], Writer], Sequence[str]]
"""Returns what is wrong on these hosts and this controller, in lines."""


class Closable(Protocol):
    """What can be closed from another thread."""

    def close(self) -> None:
        """Close it, which ends whatever waits for it."""
        ...


class Watcher(Protocol):
    """Who is told of each command that ran on a host, already masked."""

    def command(self, host: str, command: str, status: int | str, seconds: float) -> None:
        """A command ended: its exit status, or the reason why there is none, and its seconds."""
        ...


def read_context(options: Options, *, credentials_exist: bool = False) -> tuple[Context, Found | None]:
    """Read inventory and credentials; no host is contacted and nothing is written.

    Where there is no credentials file, or an incomplete one, passwords are generated in memory, unless
    `credentials_exist` says that this would be no use. Certificates that have expired do not matter. Raises
    `InputError`.
    """
    context, found = _read(options, early=False)
    if credentials_exist:
        _demand(context, found)
    return context, found


def _read(options: Options, *, early: bool, lenient: bool = False) -> tuple[Context, Found | None]:
    """Read both files and the certificates; `early`: certificates that expire soon are issued anew in memory.

    `lenient`: keys that others may read are no reason to stop.
    """
    from kbpg.pki.whole import pki_of  # imports cryptography

    inventory = load(options.inventory)
    for name in sorted(options.limit):
        inventory.host(name)
    cluster = inventory.cluster
    found = load_credentials(inventory.credentials_path, inventory.login_roles)
    if found:
        check_users(found, superuser=cluster.superuser, app_user=cluster.app_user)
    credentials = (
        complete(found) if found else generate(cluster.superuser, cluster.app_user, inventory.login_roles)
    )
    pki = pki_of(inventory, early=early, renew=options.renew_tls, lenient=lenient)
    context = Context(inventory, credentials, adopting=options.adopt, limit=options.limit, pki=pki)
    return amid_rotation(context, found), found


def _demand(context: Context, found: Found | None) -> None:
    if found is None or found.missing:
        what = f"{', '.join(found.missing)} missing" if found else "no such file"
        raise CredentialsError(f"{context.inventory.credentials_path}: {what}", hint="run kbpg step 00 first")


def _from_hosts(
    context: Context, found: Found, hosts: Mapping[str, Writer], redactor: Redactor, *, strict: bool
) -> tuple[Context, Found]:
    """Return both with the passwords that the file lacks and the hosts use. Raises `CredentialsError`."""
    from kbpg.adoption.passwords import completed, take_over  # seldom needed

    taken = take_over(context.inventory, hosts)
    redactor.add(taken.seen)
    whole = completed(found, taken, strict=strict)
    credentials = complete(whole)
    redactor.add(all_secrets(credentials))
    return replace(context, credentials=credentials), whole


@contextlib.contextmanager
def open_session(
    options: Options,
    *,
    doing: str,
    lock: bool,
    partial: bool = False,
    credentials_exist: bool = False,
    renewing: bool = False,
    lenient: bool = False,
    watcher: Watcher | None = None,
    ask: Ask | None = None,
    only: Collection[str] = (),
    amid: Amid = Amid.REFUSE,
    tell: Callable[[str], None] = lambda text: None,
    meanwhile: Callable[[Context], object] = lambda context: None,
    connected: Callable[[Context, Writer], object] = lambda context, host: None,
    besides: Besides = lambda context, hosts, controller: (),
) -> Iterator[Session]:
    """Open everything for `doing` (the command, as others are told who holds the lock).

    With `partial` a host that cannot be reached is left out; one that `--limit` does not name always is. With
    `only`, no other host is connected. `renewing`: certificates that expire soon are issued anew in memory, for who
    writes them down; for others, a date that has passed is no reason to stop. `lenient`, for who only looks: neither
    is a key on the controller that others may read; it is in `context.pki.exposed`.
    `ask` is asked whether an unknown host key is to be trusted; without it, it is not, unless the options say so; an
    `Asking` is also asked for the password that sudo may want. Passwords that the credentials file lacks are read
    from the hosts that use them. What a drill that was killed left broken is taken back by the next command that
    holds the lock; `tell` is told of it. `amid` says what becomes of a command that holds the lock while a rotation
    of passwords is not ended; one that only looks uses the passwords of both files. `meanwhile` is called with the
    context that the files make while the hosts are dialled, which is mostly waiting: it gets ready what will be
    needed. `connected` is called with it and each host that is there, in the thread that dialled it, before the lock
    is taken: it begins to ask, and waits for nothing. Where needed hosts are missing, `besides` is asked what else is
    wrong on the others, so that all is told at once. The session's context is another one if a host had to tell a
    password. Raises `InputError` before any connection is opened, then what `meanwhile` raises, then `KbpgError` with
    every host's problem.
    """
    context, found = _read(options, early=renewing, lenient=lenient)
    if context.former and amid is not Amid.ROTATE:
        tell_or_refuse(context, changing=lock and amid is Amid.REFUSE, tell=tell)
    if credentials_exist and found is None:
        _demand(context, found)
    with ExitStack() as stack:
        redactor = Redactor.of(context)
        about = author(options.words, options.inventory)
        journal = stack.enter_context(Journal(options.journal, doing, redactor, about))
        options.mask = journal.mask
        options.passwords.learnt_by(redactor.add)
        options.journals.append(journal)
        recorder = _Watched(journal, watcher) if watcher else journal
        drill = left(options.state)
        if drill and lock:
            from kbpg.drills.restoring import restore, switch_on

            switch_on(drill, context, LocalHost(recorder), tell)
        hosts, unreachable = connect_all(
            context.inventory,
            options,
            recorder,
            ask,
            stack,
            only,
            functools.partial(meanwhile, context),
            functools.partial(connected, context),
        )
        stack.enter_context(interruptible(list(hosts.values())))
        if not partial:
            others = functools.partial(besides, context, hosts, LocalHost(recorder))
            refuse(unreachable, options.limit, others)
        if lock:
            stack.enter_context(_locked(hosts.values(), doing))
        if drill and lock:
            restore(drill, context, options, recorder, hosts, tell)
        elif drill:
            tell(
                f"a drill ({drill.drill}) was broken off, kbpg apply-all takes back what it left: {drill.text}"
            )
        unknown = None
        if found and found.missing:
            context, whole = _from_hosts(context, found, hosts, redactor, strict=lock)
            unknown = whole.missing
            if credentials_exist and lock:  # a look does without what nobody tells
                _demand(context, whole)
        controller = LocalHost(recorder)
        try:
            yield Session(context, found, hosts, controller, recorder, unreachable, unknown, redactor.add)
        except HostError as error:
            ended = lost(error, hosts)
            if ended is None:
                raise
            raise ended from error


def _locked(hosts: Iterable[SshHost], doing: str) -> AbstractContextManager[None]:
    from kbpg.engine.lock import Locks

    return Locks.acquire(hosts, who=f"{user()}@{socket.gethostname()}", doing=doing)


@contextlib.contextmanager
def interruptible(hosts: Sequence[Closable]) -> Iterator[None]:
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
