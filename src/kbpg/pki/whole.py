"""The certificates for an inventory, wherever they come from."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kbpg.pki.completing import complete
from kbpg.pki.given import given
from kbpg.pki.names import names_of
from kbpg.pki.store import load

if TYPE_CHECKING:
    from kbpg.inventory import Inventory
    from kbpg.pki.model import Pki


def pki_of(
    inventory: Inventory,
    *,
    now: datetime | None = None,
    renew: bool = False,
    early: bool = True,
    lenient: bool = False,
) -> Pki:
    """Return the inventory's certificates: the user's own, or those stored, completed in memory.

    `renew` and `early` are those of `complete`. The user's own are never issued: of them, `early` says whether one
    that has expired is refused. `lenient` is that of `load`. Raises CredentialsError.
    """
    names = names_of(inventory)
    if inventory.own_certificates_path:
        return given(inventory.own_certificates_path, names, now=now, dates=early, lenient=lenient)
    stored = load(inventory.pki_path, lenient=lenient)
    return complete(stored, names, inventory.cluster.name, now=now, renew=renew, early=early)
