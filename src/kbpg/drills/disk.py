"""A replica's data on a small file system in memory, so that a disk can be filled without filling the machine's.

For a lab only. The data directory itself is not touched: a copy of it is mounted over it, and when that is taken away
the node goes on from where its own data ended, as after a restore. Nothing is on it alone: the drill begins and ends
it while a leader and another replica have everything.
"""

from __future__ import annotations

from kbpg.context import Context
from kbpg.hosts.port import Writer
from kbpg.layout import PATRONI, PATRONI_STOP, layout

ROOM = 256
"""MiB that are free on the small file system before it is filled."""
TIMEOUT = 300.0
"""Seconds to copy a drill's data."""

_SMALL = r"""
set -e
data=$1 room=$2 patroni=$3 stop=$4
docker stop --time "$stop" "$patroni" >/dev/null
mkdir -p "$data.drill"
size=$(($(du -sm "$data" | cut -f1) + room))
mount -t tmpfs -o size="${size}m",mode=0700 tmpfs "$data.drill"
cp -a "$data/." "$data.drill/"
chown --reference="$data" "$data.drill"
chmod --reference="$data" "$data.drill"
mount --bind "$data.drill" "$data"
docker start "$patroni" >/dev/null
"""
# One that cannot be written any more: fallocate is not enough where blocks are counted late
_FILL = 'dd if=/dev/zero of="$1/filler" bs=1M 2>/dev/null; true'
_ROOM = r"""
data=$1 patroni=$2
rm -f "$data/filler"
docker start "$patroni" >/dev/null
"""
_LARGE = r"""
set -e
data=$1 patroni=$2 stop=$3
mountpoint -q "$data" || { rmdir "$data.drill" 2>/dev/null || true; exit 0; }
docker stop --time "$stop" "$patroni" >/dev/null
umount "$data"
umount "$data.drill"
rmdir "$data.drill"
docker start "$patroni" >/dev/null
"""


def make_small(context: Context, host: Writer) -> None:
    """Let a replica run on a copy of its data on a small file system. Raises `HostError`."""
    words = (layout(context).data, str(ROOM), PATRONI, str(PATRONI_STOP))
    host.run(["sh", "-c", _SMALL, "kbpg-drill", *words], timeout=TIMEOUT)


def fill(context: Context, host: Writer) -> None:
    """Fill it to the last byte. Raises `HostError`."""
    host.run(["sh", "-c", _FILL, "kbpg-drill", layout(context).data], timeout=TIMEOUT)


def make_room(context: Context, host: Writer) -> None:
    """Give the space back; the node runs on the small file system still. Raises `HostError`."""
    host.run(["sh", "-c", _ROOM, "kbpg-drill", layout(context).data, PATRONI])


def make_large(context: Context, host: Writer) -> None:
    """Let the node run on its own data again; it is a replica, and what it lacks it gets. Raises `HostError`."""
    words = (layout(context).data, PATRONI, str(PATRONI_STOP))
    host.run(["sh", "-c", _LARGE, "kbpg-drill", *words], timeout=TIMEOUT)
