"""docs/faults.md: what diagnose said of each fault when it was last made for real.

A passed lab test puts its line into tests/lab/faults.json where KBPG_RECORD is set;
`python -m tests.lab.faults_table > docs/faults.md` makes the table.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.conftest import Lab
    from tests.lab.faults import Fault

RECORD = Path(__file__).with_name("faults.json")
ELSEWHERE = {
    "archive-failing": "test_archive.py",
    "cluster-unmanaged": "test_adoption.py",
    "data-unreadable": "test_repair.py",
    "memory-promised": "test_findings.py",
    "nofile-low": "test_findings.py",
    "pause-unfinished": "test_switchover.py",
    "raft-deprecated": "test_findings.py",
    "raft-log-damaged": "test_findings.py",
    "raft-rebuild-unfinished": "test_raft.py",
    "replica-no-checkpoint": "test_repair.py",
    "unmanaged": "test_roles.py",
}
"""Findings that another lab test makes happen, and which."""
UNITS = (
    "address-missing",
    "connections-full",
    "identity-differs",
    "leader-disagreement",
    "raft-member-missing",
    "reads-on-leader",
    "reads-unusable",
    "replica-foreign",
    "replica-replay-paused",
    "vector-unusable",
    "versions-differ",
)
"""Findings that no lab test makes happen."""
_HEAD = """\
# Faults made for real

Every fault below was caused on five lab hosts, with a row written before. The table says what `kbpg diagnose` said
first and how many seconds after the fault, the remedy it printed (without the lab's own SSH options), and what
brought the cluster back to healthy: `kbpg diagnose --repair --yes`, one command, with its seconds, the last look
included; or, by hand, what caused it taken back: there kbpg has no repair, or the test did without. The row was there
afterwards, on every node. Made of what the lab tests recorded: `python -m tests.lab.faults_table`.

Made for real, too, but not in the table: two faults at once, a host without power (tests/lab/test_findings.py), and
what takes more than a fault and a repair to make: {elsewhere}.

Not made for real, but judged from answers that are made up (tests/unit): {units}.

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
    elsewhere = ", ".join(f"{_link(id_)} ({file})" for id_, file in ELSEWHERE.items())
    head = _filled(_HEAD.format(elsewhere=elsewhere, units=", ".join(map(_link, UNITS))))
    return head + "".join(
        f"| {_cell(how)} | [{e['id']}](findings.md#{e['id']}), {e['host']}: {_cell(e['seen'])} | {e['seconds']} s"
        f" | `{_cell(e['remedy'])}` | {e['mended']} |\n"
        for how, e in sorted(known.items(), key=lambda item: (item[1]["id"], item[0]))
    )


def _link(id_: str) -> str:
    return f"[{id_}](findings.md#{id_})"


def _filled(text: str) -> str:
    """Return the paragraphs of a text with lines no longer than 118 characters, a table as it is."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        each
        if each.startswith(("#", "|"))
        else textwrap.fill(each, 118, break_long_words=False, break_on_hyphens=False)
        for each in paragraphs
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
