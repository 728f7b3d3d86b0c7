"""The command that puts a file in place atomically, from its standard input."""

from __future__ import annotations

_SCRIPT = """\
set -eu
umask 077
t=$(mktemp "$1.XXXXXXXX")
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat >"$t"
if [ "$(stat -c %s "$t")" != "$2" ]; then echo "the content did not arrive whole" >&2; exit 1; fi
chown "$3" "$t"
chmod "$4" "$t"
sync "$t"
mv -fT "$t" "$1"
sync "${1%/*}/"
"""
# The size is checked because a connection that breaks looks like the end of the content.
# `sync FILE` is fsync(2) since coreutils 8.24; the directory's makes the rename last.


def write_command(path: str, *, size: int, owner: str, mode: int) -> tuple[str, ...]:
    """Return the command that replaces `path` by its standard input of `size` bytes.

    `path` is absolute, `owner` "uid:gid". The temporary file is 0600 and beside `path`; it is removed when
    anything fails.
    """
    return ("sh", "-c", _SCRIPT, "write", path, str(size), owner, f"{mode:04o}")
