"""A member whose Raft log cannot be read begins with an empty one, which its partners fill; the old one is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from kbpg.engine.site import Site
from kbpg.errors import NotConverged, Refused
from kbpg.hosts.port import Writer
from kbpg.layout import OWNER, PATRONI, layout
from kbpg.operations.guards import why_not_away
from kbpg.operations.raft_members import look
from kbpg.operations.reinit import by_hand, stopped
from kbpg.operations.standing import Watch
from kbpg.raft_admin import Consensus, addresses
from kbpg.resources.container import log_lines

MEMBER_DEADLINE = 60.0
"""Seconds for a member to be one again after its start: Patroni starts in a few, and members dial each other every
second (ADR 0022)."""


def renew(site: Site, host: str) -> str:
    """Give the member on `host` an empty Raft log in place of one that it cannot read, and return what was done.

    The old directory stays beside the new one. The data directory is not touched. Raises `Refused` where the member
    answers, where it leads, where nobody does, or where the others have no quorum (`why_not_away`), before and again
    once Patroni is stopped; `HostError`; `NotConverged` when it is no member again at the deadline.
    """
    watch = Watch(site.context, host)
    _allowed(site, watch, host)
    with stopped(site, host):
        _allowed(site, watch, host)
        aside = move_aside(site.hosts[host], layout(site.context).raft, now())
    site.say(f"{host}: the damaged Raft log is kept in {aside}")
    _await_member(site, host)
    gone = by_hand(site, host, f"rm -rf {aside}")
    return f"{host} is a member of Raft again, with a log of its partners; once the old one is not needed: {gone}"


def now() -> str:
    """Return the time in UTC, as names of directories that are moved aside have it: 20261123T154501Z."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def move_aside(host: Writer, raft: str, when: str) -> str:
    """Move the Raft directory aside, once for each `when`, put an empty one in its place, and return where it is."""
    aside = f"{raft}.before-{when}"
    user, group = OWNER.split(":")

    def there(path: str) -> bool:
        return host.run(["test", "-d", path], check=False).ok

    # There is none where an earlier run was killed between the move and the making
    if there(raft) and not there(aside):
        host.run(["mv", "-T", raft, aside])
    host.run(["install", "-d", "-o", user, "-g", group, "-m", "0700", raft])
    return aside


def _allowed(site: Site, watch: Watch, host: str) -> None:
    """Look. Raises `Refused` where the log of `host` must not be taken away."""
    seen = watch.look(site)
    statuses = watch.statuses(site)
    if host in statuses:
        raise Refused(f"the Raft log on {host} is left alone: its member answers", hint="kbpg raft status")
    if why := why_not_away(host, addresses(site.context)[host], seen.leaders, statuses):
        raise Refused(f"the Raft log on {host} is left alone: {why}", hint="kbpg raft status")


def _await_member(site: Site, host: str) -> None:
    """Raises `NotConverged` with the container's log, `HostError` where the connection to `host` has ended."""
    for _ in site.looks(MEMBER_DEADLINE, each=(host,)):
        if _is_member(look(site), host):
            return
    raise NotConverged(
        f"{host} is no member of Raft again within {MEMBER_DEADLINE:g} s",
        detail=log_lines(site, PATRONI, host),
        hint="kbpg raft status",
    )


def _is_member(seen: Consensus, host: str) -> bool:
    """Return whether the member sees a quorum, and all others that answer are connected to it."""
    others = [status for name, status in seen.answering.items() if name != host]
    return host in seen.with_quorum and all(status.partners.get(seen.members[host]) for status in others)
