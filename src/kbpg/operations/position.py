"""How far a node's data reaches, read from the data itself, whether PostgreSQL runs or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbpg.context import Context
from kbpg.errors import KbpgError
from kbpg.hosts.port import Writer
from kbpg.layout import OWNER, layout
from kbpg.resources.privilege import THROW_AWAY
from kbpg.steps.images import patroni_image

NO_DATA = "holds no data"
"""What is said of a node that certainly has none; every other text means that its data may be the best there is."""
TIMEOUT = 300.0
"""Seconds to read all WAL since the last checkpoint; pg_waldump reads some 100 MB a second."""

# The end of the WAL and not the checkpoint of pg_control: what a replica has acknowledged is on its disk, and
# it may be far beyond its last restart point. The newest timeline's segments are the ones that count; a segment
# that holds the switch repeats what came before it, so reading may begin there.
_SCRIPT = r"""
set -u
control=$(pg_controldata /data/pgdata) || exit 3
printf '%s\n' "$control"
redo=$(printf '%s\n' "$control" | sed -n 's/.*REDO WAL file: *//p' | cut -c9-)
cd /data/pgdata/pg_wal || exit 3
timeline=$(ls | grep -E '^[0-9A-F]{24}$' | cut -c1-8 | sort | tail -n 1)
first= last=
for segment in $(ls | grep -E "^${timeline:-none}[0-9A-F]{16}$" | sort); do
  last=$segment
  [ -z "$first" ] && ! [ "$(echo "$segment" | cut -c9-)" \< "$redo" ] && first=$segment
done
echo "kbpg-segments ${first:-none} ${last:-none}"
[ -n "$first" ] && pg_waldump --quiet --path . "$first" "$last" 2>&1
exit 0
"""


@dataclass(frozen=True, order=True)
class Position:
    """How far data reaches: a higher timeline is newer whatever its LSN, then the higher LSN. `lsn` is in bytes."""

    timeline: int
    lsn: int
    identifier: str = ""

    def __str__(self) -> str:
        return f"timeline {self.timeline}, {self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}"


def parse(text: str) -> Position:
    """Return the position from what the script printed. Raises `ValueError` where something is missing."""
    parts = [line.partition(":") for line in text.splitlines()]
    values = {name.strip(): value.strip() for name, _, value in parts}
    segments = re.search(r"^kbpg-segments (\w+) (\w+)$", text, re.MULTILINE)
    if "Database system identifier" not in values or segments is None:
        raise ValueError("pg_controldata told no system identifier")
    found = [
        (int(values["Latest checkpoint's TimeLineID"]), _lsn(values["Latest checkpoint location"])),
        (int(values["Min recovery ending loc's timeline"]), _lsn(values["Minimum recovery ending location"])),
    ]
    if segments[1] != "none":
        found.append((int(segments[1][:8], 16), _end(text, segments[1], segments[2], _size(values))))
    timeline, lsn = max(found)
    return Position(timeline, lsn, values["Database system identifier"])


def _size(values: Mapping[str, str]) -> int:
    return int(values.get("Bytes per WAL segment", 16 << 20))


def _end(text: str, first: str, last: str, size: int) -> int:
    """Return where the valid WAL of these segments ends: the last record that pg_waldump could read."""
    stopped = re.search(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+)", text)
    if stopped:
        return _lsn(stopped[1])
    if re.search(r"could not find a valid record", text):
        return _start(first, size)
    return _start(last, size) + size


def _start(segment: str, size: int) -> int:
    return (int(segment[8:16], 16) << 32) + int(segment[16:], 16) * size


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def read_position(context: Context, host: Writer) -> Position | str:
    """Return how far the data on `host` reaches, or why that cannot be told. Changes nothing.

    A throw-away container without network reads it, as the data's owner, from a read-only mount.
    """
    mount = f"{layout(context).data}:/data:ro"
    image = patroni_image(context).name
    argv = ["docker", "run", *THROW_AWAY, "--user", OWNER, "--volume", mount]
    try:
        output = host.run([*argv, "--entrypoint", "sh", image, "-c", _SCRIPT], timeout=TIMEOUT)
        return parse(output.stdout)
    except (KbpgError, ValueError, KeyError) as error:
        return f"the position of its data cannot be read: {str(error).splitlines()[0]}"


def most_advanced(positions: Mapping[str, Position | str]) -> str | None:
    """Return the host whose data reaches farthest, the first of equals; None where no position is known."""
    known = {name: found for name, found in positions.items() if isinstance(found, Position)}
    best = max(((found.timeline, found.lsn) for found in known.values()), default=None)
    return next((name for name, found in known.items() if (found.timeline, found.lsn) == best), None)


def unread(positions: Mapping[str, Position | str], without: Sequence[str] = ()) -> str | None:
    """Return which nodes hold data, or may hold some, of which nobody knows how far it reaches, or None.

    One of them may be the most advanced, and a node that starts from less rewinds it. `without` names nodes that
    the user goes on without.
    """
    found = {
        name: why
        for name, why in positions.items()
        if isinstance(why, str) and why != NO_DATA and name not in without
    }
    if not found:
        return None
    listed = "; ".join(f"{name}: {why}" for name, why in found.items())
    return f"{listed}; that data may be the most advanced; mend that, or go on with --without " + (
        " --without ".join(found)
    )
