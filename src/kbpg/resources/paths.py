"""Questions about many paths, asked with one `stat` for all of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kbpg.hosts.port import Joint

NOTHING_THERE = 44
"""Exit status of a fragment that has found nothing at its path."""


def statted(paths: Sequence[str], options: str, then: Sequence[str]) -> Joint:
    """Return how `stat` with `options` prints its line about each of `paths`, or the status `NOTHING_THERE`.

    `then` are fragments, one a path, that print what else is to be said of what is there; their status is the
    answer's. What disappears meanwhile makes `stat` fail, and with it the joint question.
    """
    quoted = " ".join(map(shlex.quote, paths))
    prepare = (
        f"set --; seen=; for p in {quoted}; do "
        'if [ -e "$p" ]; then set -- "$@" "$p"; seen=${seen}1; else seen=${seen}0; fi; done; '
        f'n=$#; [ $n -gt 0 ] && found=$(stat {options} -- "$@" 2>/dev/null) && '
        "{ IFS='\n'; set -f; set -- $found; set +f; unset IFS; [ $# -eq $n ]; }"
    )
    shorts = (
        f"case $seen in 1*) printf '%s\\n' \"$1\"; shift; {more or ':'}; s=$?;; *) s={NOTHING_THERE};; esac; "
        "seen=${seen#?}"
        for more in then
    )
    return Joint(prepare, tuple(shorts))
