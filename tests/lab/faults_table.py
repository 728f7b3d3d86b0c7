"""docs/faults.md: what diagnose said of each fault when it was last made for real.

A passed lab test puts its line into tests/lab/faults.json where KBPG_RECORD is set;
`python -m tests.lab.faults_table > docs/faults.md` makes the table.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.conftest import Lab
    from tests.lab.faults import Fault

RECORD = Path(__file__).with_name("faults.json")
_HEAD = """\
# Faults made for real

Every fault below was caused on five lab hosts, with a row written before. The table says what `kbpg diagnose` said
first and how many seconds after the fault, the remedy it printed (without the lab's own SSH options), and what
brought the cluster back to healthy: `kbpg diagnose --repair --yes`, one command, with its seconds, the last look
included; or, by hand, what caused it taken back: there kbpg has no repair, or the test did without. The row was there
afterwards, on every node. Made of what the lab tests recorded: `python -m tests.lab.faults_table`. The tests have
more faults than stand here (tests/lab/test_findings.py): those were not recorded yet.

| caused by | said first | after | remedy | mended |
|---|---|---|---|---|
"""


def record(lab: Lab, fault: Fault, first: dict[str, Any], seconds: float, mended: str) -> None:
    """Keep what was seen of a fault, without what only this lab has."""
    if "KBPG_RECORD" not in os.environ:
        return
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known[fault.how] = {
        "id": first["id"],
        "severity": first["severity"],
        "host": first["host"],
        "seen": _plain(lab, first["seen"]),
        "seconds": round(seconds, 1),
        "remedy": _plain(lab, first["remedy"]),
        "mended": mended,
    }
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _plain(lab: Lab, text: str) -> str:
    """Return a text with this lab's files under their usual place."""
    text = text.replace(f"kbpg -i {lab.inventory}", "kbpg").replace(str(lab.directory), ".lab")
    text = text.replace("-i .lab/id_ed25519 -o UserKnownHostsFile=.lab/known_hosts ", "")
    return re.sub(r"\s+", " ", text)


def markdown() -> str:
    """Return the document."""
    known = json.loads(RECORD.read_text())
    return _HEAD + "".join(
        f"| {_cell(how)} | [{e['id']}](findings.md#{e['id']}), {e['host']}: {_cell(e['seen'])} | {e['seconds']} s"
        f" | `{_cell(e['remedy'])}` | {e['mended']} |\n"
        for how, e in sorted(known.items(), key=lambda item: (item[1]["id"], item[0]))
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
