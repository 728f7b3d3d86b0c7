"""What takes a fault back: small acts that may be done twice, and that the next kbpg can do from a note.

Every drill writes down what takes its fault back before it makes it (`note.py`), and mends by the same acts
(`mending.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Which act."""

    POWER_ON = "power-on"
    START = "start-containers"
    CONTINUE = "continue"
    REJOIN = "rejoin-network"
    RAFT = "start-with-raft"
    DISK = "free-disk"
    LARGE = "leave-small-disk"
    DATABASE = "drop-database"


@dataclass(frozen=True)
class Undo:
    """An act on `host` ("" for what belongs to the cluster)."""

    kind: Kind
    host: str = ""

    @property
    def text(self) -> str:
        """Return it in words."""
        return TEXTS[self.kind].format(host=self.host)


TEXTS: Mapping[Kind, str] = {
    Kind.POWER_ON: "{host} is switched on",
    Kind.START: "the containers of {host} are started",
    Kind.CONTINUE: "the stopped programs on {host} go on",
    Kind.REJOIN: "{host} gets its network back",
    Kind.RAFT: "Patroni on {host} is started without its Raft log",
    Kind.DISK: "the disk of {host} has room again",
    Kind.LARGE: "{host} runs on its own data again",
    Kind.DATABASE: "the drill's database is dropped",
}
