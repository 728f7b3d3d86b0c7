"""The note on a db host that a rebuild of the consensus goes on, or was left half-way."""

from __future__ import annotations

from kbpg.context import Context
from kbpg.resources.file import FileFact, FileState
from kbpg.resources.identity import read_record

NOTE = "raft-rebuild.json"
"""The file that says that a rebuild is going on; its id is when it began, in UTC."""


def rebuild_note(context: Context) -> FileFact:
    """Return the question for the note on a db host."""
    return FileFact(f"{context.inventory.cluster.base_dir}/kbpg/{NOTE}")


def started_in(note: FileState | None) -> str:
    """Return when the rebuild began that a note tells of, such as 20261123T154501Z; "" without one."""
    return str(read_record(note.text).get("id") or "") if note else ""
