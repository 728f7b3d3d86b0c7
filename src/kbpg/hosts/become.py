"""How commands become root's: at no cost for a root login, by sudo for others, with a password where that wants one.

The password goes to `sudo -S` on standard input, in front of what the command is to read: never into an argument, an
environment or a file. With `-k`, sudo uses nothing that it remembers, so each command needs it. Should sudo take none
all the same, the command must not read it for its own: PostgreSQL would log it. So what sudo starts is always a shell
that drops all lines up to a known one, and becomes the command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kbpg.asking import SUDO_PASSWORD_VARIABLE, Asking, SudoPasswords
from kbpg.errors import AccessDenied
from kbpg.hosts.config import Target
from kbpg.hosts.link import Link
from kbpg.secret import Secret

FREE = ("sudo", "-n", "--")
WITH_PASSWORD = ("sudo", "-S", "-k", "-p", "", "--")
BEGIN = "kbpg: input begins"
"""The line after which a command's own standard input begins."""
# A shell's `read` takes one character after the other where it cannot seek, and so nothing of what follows (POSIX).
_DROP = 'while IFS= read -r line; do [ "$line" = "$0" ] && exec "$@"; done; exit 126'
SILENT = "kbpg: a password may come"
"""What a terminal shows once it no longer shows what is typed."""
_DROP_AT_TERMINAL = (
    'echo "$0"; while IFS= read -r line; do [ "$line" = "$0" ] && stty echo && exec "$@"; done'
)
TRIES = 3
"""How often somebody may mistype."""
_ANSWER = 15.0
"""Seconds for sudo's answer: PAM makes a wrong password wait for 2 or 3."""
_ASKS = re.compile("password|authentication", re.IGNORECASE)
"""What `sudo -n` says where a password may help; that of sudo-rs speaks of authentication."""
_WRONG = re.compile("try again|incorrect (password|authentication)", re.IGNORECASE)


@dataclass(frozen=True)
class Way:
    """What comes before commands so that they run as root, and the password it wants on standard input, if any."""

    words: tuple[str, ...] = ()
    password: Secret | None = None


def first_lines(password: Secret) -> bytes:
    """Return what standard input begins with where the way is `with_password`."""
    return f"{password.reveal()}\n{BEGIN}\n".encode()


def with_password() -> tuple[str, ...]:
    """Return what comes before commands where sudo wants a password."""
    return (*WITH_PASSWORD, "sh", "-c", _DROP, BEGIN)


def at_terminal(argv: Sequence[str]) -> str:
    """Return the line that runs `argv` with a password in a terminal, which must not show that.

    It prints `SILENT`, wants the password; it prints `BEGIN`, wants the same line: sudo, having read the password,
    throws away what a terminal holds besides. Then the terminal is the command's.
    """
    command = shlex.join((*WITH_PASSWORD, "sh", "-c", _DROP_AT_TERMINAL, BEGIN, *argv))
    return f"stty -echo && echo {shlex.quote(SILENT)} && LC_ALL=C.UTF-8 exec {command}"


def way_to_root(
    link: Link, target: Target, *, passwords: SudoPasswords | None = None, asking: Asking | None = None
) -> Way:
    """Return how commands run as root on a host: as they are, or by sudo.

    As they are too when the inventory says `sudo: false`. A password that sudo wants is the one that another host
    took from this user, the environment's, or `asking` is asked for it; three times at most. Raises `AccessDenied`.
    """
    if target.user == "root":
        return Way()
    line = "id -u; LC_ALL=C.UTF-8 sudo -n -- id -u 2>&1" if target.sudo else "id -u"
    answers = _answers(link, line, b"", target.connect_timeout)
    if answers[0] == "0" or not target.sudo:
        return Way()
    # Not only: sudo also complains, and goes on, when the host's own name cannot be resolved.
    if "0" in answers[1:]:
        return Way(FREE)
    said = [line for line in answers[1:] if line.strip()]
    if passwords is None or not _ASKS.search("\n".join(said)):
        raise _refused(link, target, said)
    password = _password(link, target, passwords, asking, said)
    return Way(with_password(), password)


def _password(
    link: Link, target: Target, passwords: SudoPasswords, asking: Asking | None, said: list[str]
) -> Secret:
    """Return the password that sudo takes."""
    tried = passwords.of(target.user)
    if tried and _takes(link, target, tried):
        return tried
    with passwords.turn:
        # Another host's thread may have asked meanwhile
        known = passwords.of(target.user)
        if known and known != tried and _takes(link, target, known):
            return known
        if passwords.given:
            if _takes(link, target, passwords.given):
                passwords.taken(target.user, passwords.given)
                return passwords.given
            passwords.given, passwords.settled = None, True
            said = [f"sudo does not take the password in {SUDO_PASSWORD_VARIABLE}"]
        if asking is None or passwords.settled:
            raise _refused(link, target, said)
        return _asked(link, target, passwords, asking)


def _asked(link: Link, target: Target, passwords: SudoPasswords, asking: Asking) -> Secret:
    other = "another " if passwords.of(target.user) else ""
    question = f"sudo on {link.name} wants {other}password of {target.user} (not shown, not kept):"
    for _ in range(TRIES):
        password = asking.secret(question)
        if not password:
            break
        passwords.told(password)
        if _takes(link, target, password):
            passwords.taken(target.user, password)
            return password
        question = f"sudo on {link.name} did not take that, the password of {target.user}:"
    passwords.settled = True
    raise _refused(link, target, ["sudo was given no password that it takes"])


def _takes(link: Link, target: Target, password: Secret) -> bool:
    """Return whether sudo takes `password`. Raises `AccessDenied` where it does and refuses nevertheless.

    Sent alone, and without what drops it: the end of the input is sudo's second try, so a wrong password is one
    failure of the account and not three.
    """
    line = f"LC_ALL=C.UTF-8 {shlex.join((*WITH_PASSWORD, 'id', '-u'))} 2>&1"
    answers = _answers(link, line, f"{password.reveal()}\n".encode(), max(target.connect_timeout, _ANSWER))
    if "0" in answers:
        return True
    said = [link.journal.mask(line) for line in answers if line.strip()]
    if not said or _WRONG.search("\n".join(said)):
        return False
    raise AccessDenied(
        link.name,
        f"{target.user} may not become root, even with the right password",
        detail=said,
        hint=f"with visudo add `{target.user} ALL=(ALL) ALL`, or set `ssh.user: root`",
    )


def _answers(link: Link, line: str, stdin: bytes, timeout: float) -> list[str]:
    """Return the lines that `line` prints in the login shell."""
    output = bytearray()
    with link.session(line, timeout, lambda: line) as session:
        session.feed(stdin)
        for _, data in session.output():
            output += data
    return output.decode(errors="replace").split("\n")


def _refused(link: Link, target: Target, said: list[str]) -> AccessDenied:
    return AccessDenied(
        link.name,
        f"{target.user} may not become root without a password",
        detail=said,
        hint=f"with visudo add `{target.user} ALL=(ALL) NOPASSWD: ALL`, or set `ssh.user: root`; at a terminal kbpg "
        f"asks for the password, elsewhere {SUDO_PASSWORD_VARIABLE} may hold it",
    )
