"""The note on a db host that a rebuild of the consensus goes on, or was left half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kbpg.context import Context
from kbpg.errors import HostError, Refused
from kbpg.facts import NotKnown
from kbpg.resources.file import FileFact, FileState
from kbpg.resources.identity import read_record

if TYPE_CHECKING:
    from kbpg.engine.site import Site

NOTE = "raft-rebuild.json"
"""The file that says that a rebuild is going on; its id is when it began, in UTC."""


def rebuild_note(context: Context) -> FileFact:
    """Return the question for the note on a db host."""
    return FileFact(f"{context.inventory.cluster.base_dir}/kbpg/{NOTE}")


def started_in(note: FileState | None) -> str:
    """Return when the rebuild began that a note tells of, such as 20261123T154501Z; "" without one."""
    return str(read_record(note.text).get("id") or "") if note else ""


def refuse_amid_rebuild(site: Site, host: str) -> None:
    """Look, and raise `Refused` where a rebuild was left half-way: Patroni on `host` must not be started then.

    The note of any db host counts: each may be the only one that is left (`raft_rebuild`). Raises `HostError` where
    `host` itself does not tell.
    """
    note, names = rebuild_note(site.context), site.context.db_names
    facts = site.look(dict.fromkeys(names, (note,)))
    if left := [name for name in names if facts.known(note, name)]:
        raise Refused(
            f"Patroni on {host} is not started: a rebuild of the consensus is not finished (noted on "
            f"{', '.join(left)})",
            hint="kbpg raft rebuild",
        )
    try:
        facts.get(note, host)
    except NotKnown as silence:
        raise HostError(host, silence.reason, hint="kbpg diagnose") from None
