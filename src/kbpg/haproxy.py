"""What HAProxy says of its servers: the CSV of its statistics, parsed."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from kbpg.facts import NotKnown, RestFact


@dataclass(frozen=True)
class Server:
    """A line of HAProxy's statistics: a server of a proxy, whether it is up, and what its check last said."""

    proxy: str
    name: str
    status: str
    check: str
    sessions: int

    @property
    def up(self) -> bool:
        """Return whether HAProxy sends it clients."""
        return self.status.startswith(("UP", "no check"))

    @property
    def rising(self) -> bool:
        """Return whether it is down, and its latest check was good: it is up in a moment."""
        return self.status.startswith("DOWN ") and self.check.startswith("L7OK")


@dataclass(frozen=True)
class HaproxyFact(RestFact[tuple[Server, ...]]):
    """HAProxy's servers, from the CSV of its statistics (docs: management.txt, section 9.1)."""

    port: int
    path: str = "/;csv"
    live = True

    def parse(self, status: int, body: Any) -> tuple[Server, ...]:
        """Read the answer."""
        text = body if isinstance(body, str) else ""
        if status != 200 or not text.startswith("# "):
            raise NotKnown(f"HAProxy's statistics answer {status}")
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return tuple(
            Server(
                row["pxname"],
                row["svname"],
                row["status"],
                " ".join(word for word in (row.get("check_status"), row.get("last_chk")) if word),
                int(row.get("scur") or 0),
            )
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        )
