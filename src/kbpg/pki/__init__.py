"""The cluster's certificate authority: who is who in TLS, issued, checked and kept beside the credentials file.

In one go, for an inventory (`pki_of` does exactly this)::

    stored = load(directory)
    pki = complete(stored, names_of(inventory), cluster)
    write(pki, stored)

This module, `model`, `names` and `store` do not import `cryptography`, which costs 0.1 s; `completing`, `given`,
`issuing`, `reading` and `whole` do, and are imported where they are used.
"""

from kbpg.pki.model import Leaf, Pki
from kbpg.pki.names import Names, names_of
from kbpg.pki.store import Stored, demand_written, load, too_open, write

__all__ = ["Leaf", "Names", "Pki", "Stored", "demand_written", "load", "names_of", "too_open", "write"]
