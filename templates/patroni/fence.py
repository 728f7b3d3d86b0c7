"""Start Patroni, and beside it a fence: a leader whose Patroni stands still is ended before another one can lead.

A Patroni that hangs, or that does not get to renew its lock, loses it after `ttl` seconds, and a standby is promoted;
its own PostgreSQL would go on taking writes, and the other standby acknowledges them until it follows the new leader.
Patroni knows a hardware watchdog for that, which hosts rarely have; this is one without. It asks Patroni's REST API
on the node itself. Where a leader has not answered, or has not seen the consensus, for `ttl - loop_wait - MARGIN`
seconds, it kills Patroni: the container ends with it, and PostgreSQL with the container. Docker starts it again.

It does nothing while Patroni is paused (nobody is promoted then), on a standby, while Patroni starts or ends (it
refuses connections then), or where `failsafe_mode` lets a leader go on without the consensus.
See docs/adr/0016-fence.md. Runs in the container, with its Python and nothing else.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request

INTERVAL = 1.0
"""Seconds between two questions."""
TIMEOUT = 2.0
"""Seconds for an answer."""
MARGIN = 4.0
"""Seconds before the lock can expire: one question, its timeout, and a second to end."""
LEADERS = ("primary", "master")
STANDBY_SIGNAL = "standby.signal"
"""In the data directory of every standby (PostgreSQL's manual, 27.2.2)."""


class Refused(Exception):
    """Nobody listens: Patroni starts or ends."""


def address(directory: str) -> str:
    """Return where Patroni's REST API listens, as Patroni's own configuration says."""
    import yaml

    with open(os.path.join(directory, "patroni.yml"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        return str(yaml.safe_load(file)["restapi"]["connect_address"])


def ask(where: str, path: str) -> dict:  # type: ignore[type-arg]
    """Return Patroni's answer; an error status has a body too. Raises `Refused`, OSError, ValueError."""
    try:
        with urllib.request.urlopen(f"http://{where}{path}", timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            raise Refused from None
        raise


class Fence:
    """What is known of Patroni: when it was well last, and how long it may be silent."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._armed = False
        self._well = time.monotonic()
        self._limit = 0.0

    def look(self) -> float:
        """Ask once, and return the seconds by which a leader is overdue; negative or 0 where all is well."""
        try:
            node = ask(self._where, "/patroni")
            if node.get("role") in LEADERS and not self._armed:
                self._read_limit()
            self._armed = node.get("role") in LEADERS and not node.get("pause") and self._limit > 0
            age = max(0.0, time.time() - float(node.get("dcs_last_seen") or time.time()))
            self._well = time.monotonic() - age
        except Refused:
            self._armed = False
        except (OSError, ValueError, http.client.HTTPException):
            pass
        return time.monotonic() - self._well - self._limit if self._armed else 0.0

    def _read_limit(self) -> None:
        """Take the timers that are in force; none where a leader may go on without the consensus."""
        timers = ask(self._where, "/config")
        ttl, loop_wait = float(timers.get("ttl") or 30), float(timers.get("loop_wait") or 10)
        self._limit = 0.0 if timers.get("failsafe_mode") else max(ttl / 2, ttl - loop_wait - MARGIN)


def watch(patroni: int, directory: str) -> None:
    """Watch until Patroni is gone; kill it where it leads and stands still."""
    fence, data = Fence(address(directory)), os.environ["PGDATA"]
    while os.path.exists(f"/proc/{patroni}"):  # noqa: PTH110
        time.sleep(INTERVAL)
        overdue = fence.look()
        if overdue > 0 and not os.path.exists(f"{data}/{STANDBY_SIGNAL}"):  # noqa: PTH110
            print(
                f"kbpg fence: Patroni leads and has been silent for too long ({overdue:.1f} s over its limit): "
                "it is killed before its lock expires, so that no two leaders take writes",
                file=sys.stderr,
                flush=True,
            )
            os.kill(patroni, signal.SIGKILL)
            return


def main() -> None:
    """Become the command given, Patroni with its directory, after leaving the fence behind."""
    patroni, command = os.getpid(), sys.argv[1:]
    if os.fork() == 0:
        if os.fork() == 0:  # twice: a child that Patroni does not know must not be Patroni's
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            watch(patroni, command[-1])
        os._exit(0)
    os.wait()
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
