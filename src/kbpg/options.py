"""What was asked for besides the command: the global options."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kbpg.asking import SudoPasswords

if TYPE_CHECKING:
    from kbpg.engine.journal import Journal

INVENTORY_VARIABLE = "KBPG_INVENTORY"
DEFAULT_INVENTORY = Path("inventory.yaml")
STATE = ".kbpg"
"""The directory beside the inventory where kbpg keeps its journal and crash reports."""


def _unmasked(text: str) -> str:
    return text


@dataclass
class Options:
    """What was asked for besides the command; `ctx.obj` of every command.

    `limit` names hosts, nothing being all of them. `patience` are the seconds that a host may take to let kbpg
    in, where that is less than the inventory allows. `adopt` is the consent to take over a cluster that runs
    and that kbpg did not start; `renew_tls` issues every host's certificate anew. `mask` hides the secrets that
    are known so far. `words` is the command line, without what may be a secret; `journals` are told how it
    ended, and `ending` why, in words, where it did not end well. `passwords` are those that sudo wanted so far.
    """

    chosen: Path | None = None
    limit: frozenset[str] = frozenset()
    json: bool = False
    verbose: int = 0
    yes: bool = False
    accept_new_host_keys: bool = False
    color: bool = True
    patience: float | None = None
    adopt: bool = False
    renew_tls: bool = False
    mask: Callable[[str], str] = field(default=_unmasked, repr=False)
    words: tuple[str, ...] = ()
    journals: list[Journal] = field(default_factory=list, repr=False)
    ending: str = ""
    passwords: SudoPasswords = field(default_factory=SudoPasswords, repr=False)

    def masked(self, text: str) -> str:
        """Return `text` without the secrets that are known now: `mask` becomes another as a session is opened."""
        return self.mask(text)

    @property
    def inventory(self) -> Path:
        """Return the inventory's path: the option, else $KBPG_INVENTORY, else inventory.yaml."""
        return self.chosen or Path(os.environ.get(INVENTORY_VARIABLE) or DEFAULT_INVENTORY)

    @property
    def state(self) -> Path:
        """Return the absolute path of `STATE`."""
        return self.inventory.absolute().parent / STATE

    @property
    def journal(self) -> Path:
        """Return the absolute path of the directory of the journals."""
        return self.state / "journal"
