"""Programs that come from the distribution: Docker, something that keeps the clock right, nftables."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kbpg.engine.site import Site
from kbpg.errors import CommandFailed, NotConverged
from kbpg.facts import Facts
from kbpg.firewall.fact import RulesFact
from kbpg.hosts.port import Output
from kbpg.model import ABSENT, Change, Resource, Want
from kbpg.resources.preflight.system import SystemFact

APT_TIMEOUT = 600.0
"""Seconds for a download and installation; Docker is about 100 MB."""
LOCK_DEADLINE = 300.0
"""Seconds to wait for another apt: a fresh machine updates itself after its first start."""
START_DEADLINE = 60.0
"""Seconds until an installed daemon answers; dockerd takes 1 to 5."""
INTERVAL = 0.5

_APT = (
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "NEEDRESTART_SUSPEND=1",
    "apt-get",
    "--yes",
    "--option=DPkg::Lock::Timeout=300",
    "--option=DPkg::Options::=--force-confold",
)


def install(site: Site, packages: Sequence[str]) -> None:
    """Install packages from the host's own sources, those that its release does not know left out.

    Raises `CommandFailed`, after waiting up to 300 s for another apt to end.
    """
    _apt(site, "update")
    known = site.host.run(["apt-cache", "search", "--names-only", "^(" + "|".join(packages) + ")$"]).stdout
    there = {line.split(" ", 1)[0] for line in known.splitlines()}
    # The first is what was asked for: a release without it is for apt-get to say.
    wanted = [name for name in packages if name in there or name == packages[0]]
    _apt(site, "install", "--no-install-recommends", *wanted)


def _apt(site: Site, *words: str) -> None:
    argv = [*_APT, *words]
    ends = time.monotonic() + LOCK_DEADLINE
    while True:
        output = site.host.run(argv, timeout=APT_TIMEOUT, check=False)
        if output.ok:
            return
        if not locked(output) or time.monotonic() >= ends:
            said = output.stderr or output.stdout
            raise CommandFailed(site.place, f"apt-get {' '.join(words)}", output.status, said)
        time.sleep(INTERVAL)


def locked(output: Output) -> bool:
    """Return whether apt gave up because another one runs."""
    return "Could not get lock" in output.stderr or "Unable to lock" in output.stderr


def start(site: Site, service: str, answers: str, *, deadline: float = START_DEADLINE) -> None:
    """Start a service now and at every boot, and wait until the command `answers` (sh) is content.

    Raises `NotConverged` after `deadline` seconds, with what the command and the service's log say.
    """
    systemd = site.host.run(["test", "-d", "/run/systemd/system"], check=False).ok
    argv = ["systemctl", "enable", "--now", service] if systemd else ["service", service, "start"]
    started = site.host.run(argv, check=False)
    # The host asks itself: one round trip, one line in the journal
    wait = "n=0; until said=$({} 2>&1); do n=$((n+1)); [ $n -le $1 ] || {{ echo $said; exit 1; }}; sleep 0.5; done"
    argument = str(int(deadline * 2))
    waiting = ["sh", "-c", wait.format(answers), "wait", argument]
    output = site.host.run(waiting, timeout=deadline * 2 + 30, check=False)
    if output.ok:
        return
    log = (
        ["journalctl", "--no-pager", "-n", "5", "-u", service]
        if systemd
        else ["tail", "-n", "5", f"/var/log/{service}.log"]
    )
    told = [each.stdout + each.stderr for each in (started, output, site.host.run(log, check=False))]
    raise NotConverged(
        f"{service} was installed, but does not answer within {deadline:g} s",
        detail=[line for text in told for line in text.strip().splitlines()],
        hint=f"on the host: `{' '.join(argv)}`",
    )


class Docker(Resource):
    """Docker is installed; whether it answers and is recent enough, the preflight says."""

    id = "package:docker"

    def __init__(self) -> None:
        self.facts = (SystemFact(),)

    def want(self, facts: Facts) -> Want:
        """Return that it is there."""
        return {"docker": "installed"}

    def have(self, facts: Facts) -> Want:
        """Return whether it is."""
        return ABSENT if facts.get(SystemFact()).docker == "missing" else self.want(facts)

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what will be installed."""
        return ["install docker.io"]

    def fix(self, site: Site, change: Change) -> None:
        """Install it and wait for the daemon. The client is a package of its own since Debian 13."""
        site.say("installing Docker")
        install(site, ["docker.io", "docker-cli"])
        start(site, "docker", "docker version")


class TimeService(Resource):
    """Something disciplines the clock: chrony, ntpd or systemd-timesyncd; where none runs, chrony."""

    id = "package:time-service"

    def __init__(self) -> None:
        self.facts = (SystemFact(),)

    def want(self, facts: Facts) -> Want:
        """Return that one runs."""
        return {"time service": "running"}

    def have(self, facts: Facts) -> Want:
        """Return whether one does."""
        return self.want(facts) if facts.get(SystemFact()).time_service else ABSENT

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what will be done."""
        return ["install and start chrony"]

    def fix(self, site: Site, change: Change) -> None:
        """Install chrony, start it, and wait until it answers."""
        site.say("installing chrony")
        install(site, ["chrony"])
        start(site, "chrony", "chronyc -n tracking")


class Nftables(Resource):
    """The program `nft` is there; Debian's package starts no service and sets no rule."""

    id = "package:nftables"

    def __init__(self) -> None:
        self.facts = (RulesFact(),)

    def want(self, facts: Facts) -> Want:
        """Return that it is there."""
        return {"nftables": "installed"}

    def have(self, facts: Facts) -> Want:
        """Return whether it is."""
        return self.want(facts) if facts.get(RulesFact()).nft else ABSENT

    def diff(self, change: Change, facts: Facts) -> list[str]:
        """Return what will be installed."""
        return ["install nftables"]

    def fix(self, site: Site, change: Change) -> None:
        """Install it."""
        site.say("installing nftables")
        install(site, ["nftables"])
