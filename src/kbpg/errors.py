"""Every error kbpg raises on purpose, and the exit code it ends with.

The tree::

    KbpgError                      1   something failed; message, then optional detail lines and a hint
    ├── InputError                 2   nothing was touched: what was given is wrong
    │   ├── InventoryError             every problem of an inventory at once
    │   ├── CredentialsError           a credentials file that cannot be used
    │   └── UsageError                 options that make no sense together, an unknown step or host
    ├── HostError                      one host, named
    │   ├── Unreachable                no connection: refused, timed out, no route
    │   ├── HostKeyError               unknown key not accepted, or a changed key
    │   ├── AccessDenied               SSH authentication or sudo refused
    │   ├── ConnectionLost             the session ended while a command ran
    │   ├── LockLost                   the host's lock is held no more, so it is not changed further
    │   ├── CommandFailed              a command ended with a non-zero exit code
    │   └── CommandTimeout             a command went past its deadline
    ├── PreflightFailed                hosts are not fit; nothing was changed
    ├── NotConverged                   a resource still differs after its fix
    ├── LockHeld                       somebody else is changing these hosts
    └── Refused                        kbpg could, and will not: data or credentials would be at risk

Exit codes, one table for all commands: 0 converged or healthy, 1 failed or critical, 2 usage, inventory or
credentials (nothing was touched), 3 `plan` would change something, `config show` sees a difference or a pending
restart, or `diagnose` has warnings only. Ctrl-C is 130 (`cli/endings.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes."""

    OK = 0
    FAILED = 1
    INPUT = 2
    DIFFERS = 3


class KbpgError(Exception):
    """Base of all errors shown to a user: one message, optional detail lines, an optional hint.

    The message starts in lower case, has no trailing full stop and never holds a secret.
    """

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, *, detail: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = tuple(detail)
        self.hint = hint

    def lines(self) -> list[str]:
        """Return the text to show: the message, the details indented, and the hint."""
        shown = [self.message, *(f"  {line}" for line in self.detail)]
        if self.hint:
            shown.append(f"hint: {self.hint}")
        return shown


class InputError(KbpgError):
    """What the user gave cannot be used; nothing was touched."""

    exit_code = Exit.INPUT


class InventoryError(InputError):
    """Problems of an inventory, all of them, each as `file:line: path: problem`."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class CredentialsError(InputError):
    """A credentials file that cannot be read or used."""


class UsageError(InputError):
    """Options or arguments that make no sense."""


class HostError(KbpgError):
    """Something went wrong on, or on the way to, one host."""

    def __init__(
        self, host: str, message: str, *, detail: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(f"{host}: {message}", detail=detail, hint=hint)
        self.host = host
        self.reason = message


class Unreachable(HostError):
    """No SSH connection could be made."""


class HostKeyError(HostError):
    """The host's SSH key is unknown and was not accepted, or it has changed."""


class AccessDenied(HostError):
    """The host refused the login, or sudo did."""


class ConnectionLost(HostError):
    """The SSH session ended while something was going on."""


class LockLost(HostError):
    """The host's lock is held no more, so another kbpg may be changing it; `command` was not run there."""

    def __init__(self, host: str, command: str) -> None:
        super().__init__(
            host,
            f"the lock was lost, so `{command}` was not run",
            hint="somebody ended the process that held it; run the same command again",
        )


class CommandFailed(HostError):
    """A command ended with a non-zero exit code."""

    def __init__(
        self, host: str, command: str, exit_code: int, output: str, *, hint: str | None = None
    ) -> None:
        last = [line for line in output.strip().splitlines() if line.strip()][-8:]
        super().__init__(host, f"`{command}` ended with exit code {exit_code}", detail=last, hint=hint)
        self.command = command
        self.status = exit_code
        self.output = output


class CommandTimeout(HostError):
    """A command went past its deadline."""


class PreflightFailed(KbpgError):
    """Hosts do not meet the requirements; nothing was changed."""


class NotConverged(KbpgError):
    """A resource still differs from what is wanted after its fix ran."""


class LockHeld(KbpgError):
    """Another kbpg is changing these hosts."""


class Refused(KbpgError):
    """Data or credentials would be at risk; kbpg does not do this."""
