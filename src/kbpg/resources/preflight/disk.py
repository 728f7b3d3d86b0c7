"""Room on the file system that will hold a directory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from kbpg.facts import NotKnown, ShellFact
from kbpg.hosts.port import Output

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""File systems that are empty after a reboot."""


@dataclass(frozen=True)
class Disk:
    """`at` is the directory or its nearest parent there is; `free` in bytes; `inodes` free, None where the file
    system has no fixed number; `broken` names a link to nowhere or what is no directory on the way."""

    at: str
    free: int = 0
    inodes: int | None = None
    kind: str = ""
    read_only: bool = False
    broken: str = ""


@dataclass(frozen=True)
class DiskFact(ShellFact[Disk]):
    """The file system below `path`, or below its nearest parent that exists."""

    path: str

    @property
    def key(self) -> str:
        """Return the name of the question."""
        return f"disk:{self.path}"

    @property
    def script(self) -> str:
        """Return the fragment: the directory, and what statfs(2) and the mount's options say."""
        return (
            f"p={shlex.quote(self.path)}; "
            'while [ ! -e "$p" ]; do [ -L "$p" ] && { echo "$p"; exit 44; }; p=${p%/*}; p=${p:-/}; done; '
            '[ -d "$p" ] || { echo "$p"; exit 44; }; '
            'echo "$p"; stat -f -c "%a %S %d %c %T" "$p"; '
            'm=$(stat -c %m "$p"); while read -r _ at _ options _; do [ "$at" = "$m" ] && o=$options; done '
            '</proc/mounts; echo "$o"'
        )

    def parse(self, output: Output) -> Disk:
        """Read the answer."""
        lines = output.stdout.splitlines()
        if output.status == 44:
            return Disk(lines[0], broken=lines[0])
        if len(lines) < 2:
            raise NotKnown(f"{self.path}: {output.stderr.strip()}")
        blocks, size, free, total, kind = lines[1].split(" ", 4)
        options = lines[2].split(",") if len(lines) > 2 else []
        inodes = int(free) if int(total) else None
        return Disk(lines[0], int(blocks) * int(size), inodes, kind, "ro" in options)
