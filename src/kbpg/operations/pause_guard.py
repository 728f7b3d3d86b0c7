"""A guard on a proxy's own host: it ends PgBouncer's pause when kbpg is gone, or when it lasts too long.

It runs before PAUSE is given, and reads its standard input, which is an SSH channel of kbpg's: a byte every
`BEAT` seconds says that kbpg lives. It ends the pause by PgBouncer's own signal (SIGUSR2 is RESUME; the manual's
"Signals"), so it needs no password, and tries again where that fails. A note beside the host's other state says what
went on, and stays when the guard had to act: the next command tells of it. See docs/adr/0010-pause-guard.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from kbpg.context import Context
from kbpg.hosts.port import Holding, Writer
from kbpg.layout import HAPROXY, PGBOUNCER, layout
from kbpg.resources.file import FileFact

BEAT = 0.5
"""Seconds between two signs of life."""
SILENCE = 3
"""Seconds without one until the guard acts: a cut cable says nothing, and a busy controller may miss a few."""
LONGEST = 20
"""Seconds a pause lasts at most, whoever lives; measured: 2 s."""
ARM_TIMEOUT = 10.0
"""Seconds for the guard to start."""
PERSISTENCE = 60
"""Seconds for which the guard goes on trying to end a pause, once a second: Docker's daemon restarts within them."""
DOCKER_TIMEOUT = 5
"""Seconds for one answer of Docker's, which may hang; measured: 0.1 s."""
MARKER = "kbpg-guard:"
RESUMED = "kbpg-guard:resumed"
FAILED = "kbpg-guard:failed"

# A byte at a time by dd: head and read may take more than they are asked for. While a handover is under way it
# waits until HAProxy has the new leader: clients let go before would meet the old one as it shuts down. Nobody is
# paused in a container that does not run.
_SCRIPT = r"""
trap '' HUP PIPE
umask 077
note=$1 bound=$2 silence=$3 pooler=$4 proxy=$5 leaving=$6 persistence=$8 patience=$9
began=$(date +%s)
in_time() { [ $(($(date +%s) - began)) -lt "$bound" ]; }
asked() { timeout -k 1 "$patience" docker "$@" 2>/dev/null; }
tell() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >>"$note"; }
leads() {
  asked exec "$proxy" sh -c 'echo "show stat primary -1 -1" | socat -t 2 - /run/haproxy/admin.sock' |
    awk -F, -v leaving="$leaving" '
      $1 == "primary" && $2 !~ /^(FRONTEND|BACKEND)$/ && $2 != leaving && $18 ~ /^UP/ { up = 1 }
      END { exit !up }'
}
resume() {
  asked exec "$pooler" sh -c 'kill -USR2 1' >/dev/null ||
    [ "$(asked inspect "$pooler" --format '{{.State.Running}}')" = false ]
}
let_go() {
  failed= ends=$(($(date +%s) + persistence))
  until resume; do
    [ -n "$failed" ] || tell "$why: the guard cannot let the clients of $pooler go on yet, and tries again"
    failed=yes
    [ "$(date +%s)" -lt "$ends" ] || return 1
    sleep 1
  done
}
: >"$note" && tell "$7: clients of $pooler are made to wait" || exit 1
echo kbpg-guard:armed
under_way= asked_to= why="kbpg was heard no more, it was killed or cut off"
while :; do
  in_time || { why="the pause had lasted $bound s"; break; }
  word=$(timeout "$silence" dd bs=1 count=1 2>/dev/null)
  case $word in
    .) ;;
    h) under_way=yes; tell "the handover was asked for" ;;
    r) asked_to=yes why="PgBouncer's console did not take RESUME"; break ;;
    d) rm -f "$note"; exit 0 ;;
    *) break ;;
  esac
done
if [ -n "$under_way" ] && [ -n "$leaving" ] && [ -z "$asked_to" ]; then
  while in_time && ! leads; do sleep 0.2; done
fi
if ! let_go; then
  tell "$why: the guard could not let the clients of $pooler go on"
  echo kbpg-guard:failed
  exit 1
fi
[ -n "$asked_to" ] && rm -f "$note" || tell "$why: the guard let the clients of $pooler go on"
echo kbpg-guard:resumed
"""


class Guard:
    """A guard that runs on one proxy."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    @property
    def alive(self) -> bool:
        """Return whether it still watches, as far as is known here."""
        return self._holding.alive

    def beat(self) -> None:
        """Say that kbpg lives."""
        self._holding.send(b".")

    def under_way(self) -> bool:
        """Say that the handover is asked for; return whether the guard still watches."""
        return self._holding.send(b"h")

    def resume(self) -> str:
        """Let the guard end the pause, and forget it; return RESUMED, FAILED or, where that is not known, ""."""
        self._holding.send(b"r")
        said = self._holding.release(PERSISTENCE + 3 * DOCKER_TIMEOUT)
        return next((word for word in (RESUMED, FAILED) if word in said), "")

    def dismiss(self) -> None:
        """The pause is over: let the guard forget it."""
        self._holding.send(b"d")
        self._holding.release()


def note_path(context: Context) -> str:
    """Return where the note is on a proxy."""
    return f"{layout(context).base}/kbpg/pause"


def bound(context: Context) -> int:
    """Return the seconds that a pause may last: `LONGEST`, or less where PgBouncer gives its clients up sooner."""
    patience = context.inventory.pgbouncer.query_wait_timeout
    return max(2, min(LONGEST, int(patience * 2 / 3))) if patience else LONGEST


def arm(context: Context, host: Writer, doing: str, leaving: str = "") -> Guard:
    """Start a guard on the proxy `host` before PAUSE; `doing` is for the note. Raises `HostError`.

    `leaving` is who is going to be a leader no more, "" where that does not change.
    """
    seconds = (str(PERSISTENCE), str(DOCKER_TIMEOUT))
    words = (
        note_path(context),
        str(bound(context)),
        str(SILENCE),
        PGBOUNCER,
        HAPROXY,
        leaving,
        doing,
        *seconds,
    )
    # setsid: it outlives the SSH session and whatever is sent to its processes
    argv = ["setsid", "--wait", "sh", "-c", _SCRIPT, "kbpg-guard", *words]
    return Guard(host.hold(argv, shown="guard the pause", marker=MARKER, timeout=ARM_TIMEOUT, guarded=True))


@dataclass(frozen=True)
class Left:
    """What a pause that kbpg did not end left behind on one proxy: the note's lines, each with its time."""

    lines: tuple[str, ...]

    @property
    def ended(self) -> bool:
        """Return whether the guard let the clients go on."""
        return any("the guard let " in line for line in self.lines)

    def lasts(self, now: float) -> bool:
        """Return whether the pause may still be under way at `now` (Unix time): its guard is still there."""
        if any("the guard " in line for line in self.lines):
            return False
        try:
            began = datetime.fromisoformat(self.lines[0].split()[0])
        except ValueError:
            return False
        return now - began.timestamp() < LONGEST + ARM_TIMEOUT


def note_fact(context: Context) -> FileFact:
    """Return the question for the note."""
    return FileFact(note_path(context))


def read_note(text: str | None) -> Left | None:
    """Return what the note says; None where there is none."""
    lines = tuple(line for line in (text or "").splitlines() if line.strip())
    return Left(lines) if lines else None


def left_behind(notes: Mapping[str, str | None]) -> dict[str, Left]:
    """Return what pauses left behind, by host, from the notes' texts."""
    found = {name: read_note(text) for name, text in notes.items()}
    return {name: left for name, left in found.items() if left}
