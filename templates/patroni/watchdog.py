"""Start Patroni, and beside it a watchdog that ends a leader whose Patroni stands still, and wakes one that is slow.

A Patroni that hangs, or that does not get to renew its lock, loses it after `ttl` seconds, and a replica is promoted;
its own PostgreSQL would go on taking writes, and the other replica acknowledges them until it follows the new leader.
Patroni knows a hardware watchdog for that, which hosts rarely have; this is one without. It asks Patroni's REST API
on the node itself. Where a leader has not answered, or has not seen the consensus, for `ttl - loop_wait - MARGIN`
seconds, it kills Patroni: the container ends with it, and PostgreSQL with the container. Docker starts it again. It
does nothing while Patroni is paused (nobody is promoted then), on a replica, while Patroni starts or ends (it refuses
connections then), or where `failsafe_mode` lets a leader go on without the consensus.

A PostgreSQL that crashes is noticed by Patroni in its next round, up to `loop_wait` seconds later. Here its first
process is looked at ten times a second, and Patroni is woken once it is gone.

See docs/adr/0016-watchdog.md. Runs in the container, with its Python and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

GLANCE = 0.1
"""Seconds between two looks at PostgreSQL's first process."""
INTERVAL = 1.0
"""Seconds between two questions to Patroni."""
TIMEOUT = 2.0
"""Seconds for an answer."""
MARGIN = 4.0
"""Seconds before the lock can expire: one question, its timeout, and a second to end."""
LEADERS = ("primary", "master")


class Refused(Exception):
    """Nobody listens: Patroni starts or ends."""


class Garbled(OSError):
    """It speaks, but with TLS where none was expected, or without it."""


class Untrusted(Garbled):
    """It speaks TLS, with a certificate that is not to be trusted: it has expired, or nobody knows its authority."""


class Patroni:
    """Patroni's REST API on this node, as its own configuration in `directory` says."""

    def __init__(self, directory: str) -> None:
        import yaml

        settings: dict[str, Any] = {}
        for file in sorted(Path(directory).glob("*.yml")):
            settings |= (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("restapi") or {}
        self._where, login = settings["connect_address"], settings.get("authentication") or {}
        self._login = f"{login.get('username')}:{login.get('password')}"
        # What it speaks now: its files may say otherwise until they are loaded
        self._secure = "certfile" in settings
        self._certificates, self._stamp = Path(directory) / "tls", (0, 0)
        self._trust()

    def _trust(self) -> None:
        """Trust the authority that is on disk now: certificates are renewed while this goes on."""
        file = self._certificates / "ca.crt"
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._tls, self._stamp = ssl.create_default_context(cafile=str(file)), stamp

    def ask(self, path: str) -> dict[str, Any]:
        """Return its answer; an error status has a body too. Raises `Refused`, OSError, ValueError, HTTPException.

        It shows no certificate: none is asked for here, and one that has expired meanwhile would be refused.
        """
        with contextlib.suppress(OSError):
            self._trust()
        return self._request("GET", path, None)

    def wake(self) -> None:
        """Let it look at PostgreSQL now: a change of its settings that changes nothing (patroni/api.py)."""
        self._tls.load_cert_chain(self._certificates / "server.crt", self._certificates / "server.key")
        self._request("PATCH", "/config", b'{"kbpg_wakes_patroni": null}')

    def _request(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            return self._spoken(method, path, body)
        except Garbled as first:
            self._secure = not self._secure
            try:
                return self._spoken(method, path, body)
            except Garbled:
                self._secure = not self._secure
                raise first from None

    def _spoken(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        token = base64.b64encode(self._login.encode()).decode()
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Basic {token}"} if body else {}),
        }
        scheme = "https" if self._secure else "http"
        request = urllib.request.Request(f"{scheme}://{self._where}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=self._tls) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except (http.client.BadStatusLine, ConnectionResetError) as error:
            raise Garbled from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                raise Refused from None
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Untrusted(error.reason.verify_message) from error
            if isinstance(error.reason, (ssl.SSLError, ConnectionResetError)):
                raise Garbled from error
            raise


class Silence:
    """How long a leader's Patroni has been silent, and how long it may be."""

    def __init__(self, patroni: Patroni) -> None:
        self._patroni = patroni
        self._armed = False
        self._seen: object = None
        self._well = time.monotonic()
        self._limit = 0.0
        self._limit_of: object = None
        self._said = ""

    def look(self) -> float:
        """Ask once, and return the seconds by which a leader is overdue; 0 or less where all is well."""
        try:
            node = self._patroni.ask("/patroni")
            leads = node.get("role") in LEADERS
            # Whether it changes, not what it says: a clock that is set is no reason to end a leader
            if node.get("dcs_last_seen") != self._seen or "dcs_last_seen" not in node:
                self._well, self._seen = time.monotonic(), node.get("dcs_last_seen")
            # Once a round: that is when Patroni takes up timers that were changed while it leads
            if leads and (not self._armed or self._limit_of != self._seen):
                self._limit, self._limit_of = self._read_limit(), self._seen
            self._armed = leads and not node.get("pause") and self._limit > 0
        except Refused:
            self._armed = False
        except Untrusted as error:
            # It answers, so it does not stand still; whether it sees the consensus, nobody can tell. A cluster must
            # not end with its certificates.
            self._well = time.monotonic()
            self._complain(str(error))
        except (OSError, ValueError, http.client.HTTPException):
            pass
        return time.monotonic() - self._well - self._limit if self._armed else 0.0

    def _complain(self, why: str) -> None:
        if why != self._said:
            self._said = why
            say(f"cannot tell whether Patroni is well: {why}")

    def _read_limit(self) -> float:
        """Return the limit by the timers in force; 0 where a leader may go on without the consensus."""
        timers = self._patroni.ask("/config")
        ttl, loop_wait = float(timers.get("ttl") or 30), float(timers.get("loop_wait") or 10)
        return 0.0 if timers.get("failsafe_mode") else max(ttl / 2, ttl - loop_wait - MARGIN)


class Postmaster:
    """PostgreSQL's first process."""

    def __init__(self, data: Path) -> None:
        self._file, self._standby = data / "postmaster.pid", data / "standby.signal"
        self._pid = 0

    @property
    def leads(self) -> bool:
        """Return whether the data directory is not a replica's (PostgreSQL's manual, 27.2.2)."""
        return not self._standby.exists()

    def has_gone(self) -> bool:
        """Return, once, that the process that was there is there no more."""
        if self._pid and not Path(f"/proc/{self._pid}").exists():
            self._pid = 0
            return True
        if not self._pid:
            try:
                pid = int(self._file.read_text().split()[0])
            except (OSError, ValueError, IndexError):
                return False
            self._pid = pid if Path(f"/proc/{pid}").exists() else 0
        return False


def watch(process: int, directory: str) -> None:
    """Watch until Patroni, this process, is gone; kill it where it leads and stands still."""
    silence, postmaster = Silence(Patroni(directory)), Postmaster(Path(os.environ["PGDATA"]))
    asked = time.monotonic()
    while Path(f"/proc/{process}").exists():
        time.sleep(GLANCE)
        if postmaster.has_gone() and postmaster.leads:
            wake(directory)
        if time.monotonic() - asked < INTERVAL:
            continue
        overdue, asked = silence.look(), time.monotonic()
        if overdue > 0 and postmaster.leads:
            say(
                f"Patroni leads and is silent, {overdue:.1f} s over its limit: killed before its lock expires"
            )
            os.kill(process, signal.SIGKILL)
            return


def wake(directory: str) -> None:
    """Tell Patroni to look at PostgreSQL; it does so by itself a little later. The password may have changed."""
    try:
        Patroni(directory).wake()
    except (OSError, ValueError, http.client.HTTPException, Refused) as error:
        say(f"Patroni was not woken: {type(error).__name__}")


def say(text: str) -> None:
    """Write into the container's log."""
    print(f"kbpg watchdog: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Become the command given, Patroni with its directory, after leaving the watchdog behind."""
    patroni, command = os.getpid(), sys.argv[1:]
    if os.fork() == 0:
        if os.fork() == 0:  # twice: a child that Patroni does not know must not be Patroni's
            watch(patroni, command[-1])
        os._exit(0)
    os.wait()
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
