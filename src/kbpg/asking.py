"""Who can be asked, and the passwords for sudo that were told: in memory, for this run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field

from kbpg.errors import UsageError
from kbpg.secret import Secret

SUDO_PASSWORD_VARIABLE = "KBPG_SUDO_PASSWORD"  # noqa: S105 (a name, not a password)
"""The variable of the environment that holds the password for sudo where nobody is there to be asked."""


@dataclass(frozen=True)
class Asking:
    """Somebody at the terminal: called with a yes/no question it returns the answer; `secret` asks for a text.

    What is typed in answer to `secret` is not shown; None is no answer.
    """

    yes: Callable[[str], bool]
    secret: Callable[[str], Secret | None]

    def __call__(self, question: str) -> bool:
        """Return the answer to a yes/no question."""
        return self.yes(question)


@dataclass
class SudoPasswords:
    """The passwords that users of hosts need for sudo, by user; usable from several threads.

    `given` is the environment's, for every user. A password is tried on one host alone (`turn`) until one has taken
    it: wrong, and tried on all of them at once, it might lock an account that they share.
    """

    given: Secret | None = field(default=None, repr=False)
    turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    settled: bool = False
    """Whether nobody is to be asked any more: an answer was refused, or not given."""
    _taken: dict[str, Secret] = field(default_factory=dict, repr=False)
    _learn: Callable[[Iterable[Secret]], None] = field(default=lambda secrets: None, repr=False)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> SudoPasswords:
        """Take the password out of the environment, which programs that kbpg starts inherit.

        Raises `UsageError` for one that no line can hold.
        """
        given = environment.pop(SUDO_PASSWORD_VARIABLE, "")
        if "\n" in given or "\0" in given:
            raise UsageError(f"{SUDO_PASSWORD_VARIABLE}: a password is one line", hint="without a line break")
        return cls(Secret(given) if given else None)

    def learnt_by(self, learn: Callable[[Iterable[Secret]], None]) -> None:
        """Tell `learn` the passwords of now, and each new one before it is used."""
        self._learn = learn
        learn([*self._taken.values(), *([self.given] if self.given else [])])

    def told(self, password: Secret) -> None:
        """Make known, to who masks them, a password that is about to be tried."""
        self._learn([password])

    def taken(self, user: str, password: Secret) -> None:
        """Remember that a host took this password of `user`."""
        self._taken[user] = password

    def of(self, user: str) -> Secret | None:
        """Return the password of `user` that a host took last."""
        return self._taken.get(user)
